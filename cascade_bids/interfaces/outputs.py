"""Nipype interfaces that put results at their final paths; they run every time.

Running every time costs a copy, and restores files that were deleted from the output folder.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from cascade_bids.bids.change_outputs import change_paths, change_sidecar
from cascade_bids.bids.outputs import (
    fixed_sidecar,
    image_uris,
    json_text,
    output_path,
    sidecar,
    with_sidecar,
)
from cascade_bids.bids.results import changing, clear_failure, find_result, replace_result
from cascade_bids.config import TEMPLATE_SPACE
from cascade_bids.errors import CascadeBidsError
from cascade_bids.files import replace_together
from cascade_bids.quality.verdict import judge


class _SaveFigureInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    out_path = traits.Str(mandatory=True)
    scan = traits.Any(mandatory=True, desc="bids.scan.Scan")
    root = traits.Str(mandatory=True, desc="of the derivatives")
    stats = File(exists=True, desc="the statistics that the figure belongs to, if there are some")


class _SaveFigureOutput(TraitedSpec):
    out_file = traits.Str()


class SaveFigure(SimpleInterface):
    """Save a figure, unless it would lie beside the statistics of another run."""

    input_spec = _SaveFigureInput
    output_spec = _SaveFigureOutput
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        root, target = Path(self.inputs.root), Path(self.inputs.out_path)
        with changing(root, self.inputs.scan):
            found = find_result(root, self.inputs.scan)
            if isdefined(self.inputs.stats):
                own = Path(self.inputs.stats).read_bytes()
                fits = found is not None and found[1].read_bytes() == own
            else:
                fits = found is None
            if fits:
                replace_together({target: Path(self.inputs.in_file)}, [])
        self._results["out_file"] = str(target)
        return runtime


class _SaveScanInput(BaseInterfaceInputSpec):
    scan = traits.Any(mandatory=True, desc="bids.scan.Scan")
    config = traits.Any(mandatory=True, desc="config.ParticipantConfig")
    facts = traits.Dict(mandatory=True, desc="entries of the stats besides the summary")
    warnings = traits.List(traits.Str(), desc="of the steps, beside those of facts")
    lesion_mask = File(exists=True, mandatory=True)
    lesion_probseg = File(exists=True, mandatory=True)
    lesion_dseg = File(exists=True, mandatory=True)
    lesion_table = File(exists=True, mandatory=True)
    brain_mask = File(exists=True, mandatory=True)
    summary = File(exists=True, mandatory=True)
    measures = traits.Dict(mandatory=True, desc="of the quality, by name")
    preproc = InputMultiObject(File(exists=True), mandatory=True)
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of preproc, FLAIR first")
    transforms = InputMultiObject(File(exists=True), desc="FLAIR to each other contrast")
    template_to_flair = File(exists=True, mandatory=True)
    flair_to_template = File(exists=True, mandatory=True)
    spaces = traits.List(traits.Str(), mandatory=True, desc="further output spaces")
    space_masks = InputMultiObject(File(exists=True), desc="lesion mask in each of the spaces")


class _SaveScanOutput(TraitedSpec):
    stats = File(exists=True, desc="the same content as in the derivatives")


class SaveScan(SimpleInterface):
    """Replace the result of a scan; the stats come last and mark the scan as complete."""

    input_spec = _SaveScanInput
    output_spec = _SaveScanOutput
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        scan, config = self.inputs.scan, self.inputs.config
        root = config.output_dir
        contents: dict[Path, Path | str] = {}
        for name in ("lesion_mask", "lesion_probseg", "lesion_dseg", "lesion_table", "brain_mask"):
            contents |= with_sidecar(
                Path(getattr(self.inputs, name)),
                output_path(root, scan, name),
                sidecar(name, scan, config.inputs),
            )
        for contrast, path in zip(self.inputs.contrasts, self.inputs.preproc, strict=True):
            contents |= with_sidecar(
                Path(path),
                output_path(root, scan, "preproc", contrast=contrast),
                sidecar("preproc", scan, config.inputs, contrast=contrast),
            )
        for space, path in zip(self.inputs.spaces, self.inputs.space_masks or [], strict=True):
            contents |= with_sidecar(
                Path(path),
                output_path(root, scan, "lesion_mask", space=space),
                sidecar("lesion_mask", scan, config.inputs, space=space),
            )
        stats = json_text(self._stats())
        contents |= self._transforms()
        contents[output_path(root, scan, "stats")] = stats
        replace_result(root, scan, contents)
        own = Path(runtime.cwd) / "stats.json"
        own.write_text(stats, encoding="utf-8")
        self._results["stats"] = str(own)
        return runtime

    def _stats(self) -> dict[str, Any]:
        """Return the content of the stats file."""
        facts, summary = self.inputs.facts, json.loads(Path(self.inputs.summary).read_text())
        return {
            **summary,
            **facts,
            "quality": judge(self.inputs.measures).to_entry(self.inputs.measures),
            "warnings": [*facts["warnings"], *(self.inputs.warnings or [])],
            "images": image_uris(self.inputs.scan, self.inputs.config.inputs),
            "choices": list(self.inputs.scan.choices),
        }

    def _transforms(self) -> dict[Path, Path]:
        """Return the path of each transform, by the images that it resamples, and its file."""
        others = zip(self.inputs.contrasts[1:], self.inputs.transforms or [], strict=True)
        named = {(contrast, "FLAIR"): path for contrast, path in others}
        named["FLAIR", TEMPLATE_SPACE] = self.inputs.template_to_flair
        named[TEMPLATE_SPACE, "FLAIR"] = self.inputs.flair_to_template
        root, scan = self.inputs.config.output_dir, self.inputs.scan
        return {
            output_path(root, scan, "xfm", from_=source, to=target): Path(path)
            for (source, target), path in named.items()
        }


class _SaveChangeInput(BaseInterfaceInputSpec):
    root = traits.Str(mandatory=True, desc="of the derivatives")
    results = traits.List(traits.Any(), mandatory=True, desc="SessionResult, in order of time")
    facts = traits.Dict(mandatory=True, desc="entries of the stats besides the intervals")
    table = File(exists=True, mandatory=True)
    intervals = File(exists=True, mandatory=True)
    brain = File(exists=True, mandatory=True, desc="in common space")
    flairs = InputMultiObject(File(exists=True), mandatory=True, desc="in common space")
    t1ws = InputMultiObject(File(exists=True), desc="in common space, where there is one")
    t1w_numbers = traits.List(traits.Int(), desc="numbers of the sessions of t1ws, from 0")
    tracked = InputMultiObject(File(exists=True), mandatory=True, desc="in common space")
    changes = InputMultiObject(File(exists=True), mandatory=True, desc="in common space")
    masks = InputMultiObject(File(exists=True), mandatory=True, desc="in common space")
    own_tracked = InputMultiObject(File(exists=True), mandatory=True, desc="on the raw grids")
    own_changes = InputMultiObject(File(exists=True), mandatory=True, desc="on the raw grids")
    from_common = InputMultiObject(File(exists=True), mandatory=True)
    to_common = InputMultiObject(File(exists=True), mandatory=True)


class _SaveChangeOutput(TraitedSpec):
    stats = traits.Str(desc="path in the derivatives")


class SaveChange(SimpleInterface):
    """Save a comparison of sessions, unless the result of one was replaced meanwhile."""

    input_spec = _SaveChangeInput
    output_spec = _SaveChangeOutput
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        root, results = Path(self.inputs.root), self.inputs.results
        first = results[0].scan
        stats = output_path(root, first, "change_stats")
        contents: dict[Path, Path | str] = {}
        files = {
            "common_flair": self.inputs.flairs,
            "common_mask": self.inputs.masks,
            "common_brain": [self.inputs.brain] * len(results),
            "tracked_common": self.inputs.tracked,
            "tracked_FLAIR": self.inputs.own_tracked,
            "change_common": self.inputs.changes,
            "change_FLAIR": self.inputs.own_changes,
        }
        files = {name: dict(enumerate(images)) for name, images in files.items()}
        numbers = self.inputs.t1w_numbers
        files["common_t1w"] = dict(zip(numbers, self.inputs.t1ws or [], strict=True))
        for number, result in enumerate(results):
            paths = change_paths(root, result.scan)
            for name, images in files.items():
                if number in images:
                    about = change_sidecar(name, root, results, result)
                    contents |= with_sidecar(Path(images[number]), paths[name], about)
            for name in ("from_common", "to_common"):
                contents[paths[name]] = Path(getattr(self.inputs, name)[number])
        contents |= with_sidecar(
            Path(self.inputs.table),
            output_path(root, first, "change_table"),
            {**fixed_sidecar("change_table"), "Sources": [one.images["FLAIR"] for one in results]},
        )
        intervals = json.loads(Path(self.inputs.intervals).read_text())
        contents[stats] = json_text({**self.inputs.facts, "intervals": intervals})
        with changing(root, first):
            for result in results:
                found = find_result(root, result.scan)
                if found is None or found[1].read_text(encoding="utf-8") != result.text:
                    raise CascadeBidsError(
                        f"the result of {result.scan.label} was replaced by another run while its "
                        "sessions were compared; run again to compare them"
                    )
            replace_together(contents, [])
            clear_failure(root, replace(first, session=None))
        self._results["stats"] = str(stats)
        return runtime
