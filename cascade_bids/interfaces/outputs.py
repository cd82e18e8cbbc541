"""Nipype interfaces that copy finished files to their final paths; they run every time.

Running every time costs a copy, and restores files that were deleted from the output folder.
"""

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from cascade_bids.bids.outputs import image_uris, output_path, save, sidecar, write_json
from cascade_bids.quality.verdict import judge


class _SaveInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    out_path = traits.Str(mandatory=True)


class _SaveOutput(TraitedSpec):
    out_file = File(exists=True)


class Save(SimpleInterface):
    """Save one file without a sidecar, see `bids.outputs.save`."""

    input_spec = _SaveInput
    output_spec = _SaveOutput
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        saved = save(Path(self.inputs.in_file), Path(self.inputs.out_path))
        self._results["out_file"] = str(saved)
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
    stats = File(exists=True)


class SaveScan(SimpleInterface):
    """Save all derivatives of a scan; the stats come last and mark the scan as complete."""

    input_spec = _SaveScanInput
    output_spec = _SaveScanOutput
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        scan, config = self.inputs.scan, self.inputs.config
        root = config.output_dir
        for name in ("lesion_mask", "lesion_probseg", "lesion_dseg", "lesion_table", "brain_mask"):
            save(
                Path(getattr(self.inputs, name)),
                output_path(root, scan, name),
                sidecar(name, scan, config.inputs),
            )
        for contrast, path in zip(self.inputs.contrasts, self.inputs.preproc, strict=True):
            save(
                Path(path),
                output_path(root, scan, "preproc", contrast=contrast),
                sidecar("preproc", scan, config.inputs, contrast=contrast),
            )
        for space, path in zip(self.inputs.spaces, self.inputs.space_masks or [], strict=True):
            save(
                Path(path),
                output_path(root, scan, "lesion_mask", space=space),
                sidecar("lesion_mask", scan, config.inputs, space=space),
            )
        self._save_transforms(root, scan)
        facts, summary = self.inputs.facts, json.loads(Path(self.inputs.summary).read_text())
        stats = {
            **summary,
            **facts,
            "quality": judge(self.inputs.measures).to_entry(self.inputs.measures),
            "warnings": [*facts["warnings"], *(self.inputs.warnings or [])],
            "images": image_uris(scan, config.inputs),
            "choices": list(scan.choices),
        }
        target = output_path(root, scan, "stats")
        write_json(target, stats)
        self._results["stats"] = str(target)
        return runtime

    def _save_transforms(self, root: Path, scan: Any) -> None:
        """Save each transform; its name is by the images that it resamples, moving to fixed."""
        others = zip(self.inputs.contrasts[1:], self.inputs.transforms or [], strict=True)
        named = {(contrast, "FLAIR"): path for contrast, path in others}
        named["FLAIR", "MNI152NLin2009aSym"] = self.inputs.template_to_flair
        named["MNI152NLin2009aSym", "FLAIR"] = self.inputs.flair_to_template
        for (source, target), path in named.items():
            save(Path(path), output_path(root, scan, "xfm", from_=source, to=target))
