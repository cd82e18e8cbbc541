"""Nipype interfaces for the comparison of a participant's sessions."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from cascade_bids.interfaces.images import ImageOutput, save_image
from cascade_bids.transforms import read_transform, write_transform


class _RegisterSessionsInput(BaseInterfaceInputSpec):
    first = File(exists=True, mandatory=True, desc="z-scores")
    second = File(exists=True, mandatory=True, desc="z-scores")
    first_brain = File(exists=True, mandatory=True)
    second_brain = File(exists=True, mandatory=True)
    seed = traits.Int(mandatory=True)


class _RegisterSessionsOutput(TraitedSpec):
    transform = File(exists=True, desc="first to second")


class RegisterSessions(SimpleInterface):
    """Register two sessions rigidly, see `preprocess.registration.register_both_ways`."""

    input_spec = _RegisterSessionsInput
    output_spec = _RegisterSessionsOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.normalise import spread_brain
        from cascade_bids.preprocess.registration import register_both_ways

        brains = [_load(self.inputs.first_brain), _load(self.inputs.second_brain)]
        # Beside the brain lies what is like its edge, so that its mask attracts nothing.
        first, second = (
            spread_brain({"FLAIR": _load(path)}, brain)["FLAIR"]
            for path, brain in zip((self.inputs.first, self.inputs.second), brains, strict=True)
        )
        found = register_both_ways(
            first, second, first_brain=brains[0], second_brain=brains[1], seed=self.inputs.seed
        )
        path = Path(runtime.cwd) / "rigid.txt"
        write_transform(found, path)
        self._results["transform"] = str(path)
        return runtime


class _PlaceSessionsInput(BaseInterfaceInputSpec):
    brains = InputMultiObject(File(exists=True), mandatory=True, desc="of each session")
    transforms = InputMultiObject(File(exists=True), desc="first session to each other one")


class _PlaceSessionsOutput(TraitedSpec):
    from_common = OutputMultiObject(File(exists=True), desc="common space to each session")
    to_common = OutputMultiObject(File(exists=True), desc="each session to common space")
    grid = File(exists=True, desc="empty image on the common grid")


class PlaceSessions(SimpleInterface):
    """Find the common space and its grid, see `change.common_space`."""

    input_spec = _PlaceSessionsInput
    output_spec = _PlaceSessionsOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.change.common_space import common_grid, find_common_space

        brains = [_load(path) for path in self.inputs.brains]
        from_first = [np.eye(4), *(read_transform(Path(path)) for path in self.inputs.transforms)]
        found = find_common_space(from_first, brains)
        folder = Path(runtime.cwd)
        paths: dict[str, list[str]] = {"from_common": [], "to_common": []}
        for number, transform in enumerate(found):
            for name, matrix in (
                ("from_common", transform),
                ("to_common", np.linalg.inv(transform)),
            ):
                path = folder / f"{name}{number}.txt"
                write_transform(matrix, path)
                paths[name].append(str(path))
        shape, affine = common_grid(brains, found)
        grid = nib.Nifti1Image(np.zeros(shape, np.uint8), affine)
        self._results |= {**paths, "grid": save_image(grid, runtime.cwd, "grid.nii.gz")}
        return runtime


class _BringSessionInput(BaseInterfaceInputSpec):
    flair = File(exists=True, mandatory=True, desc="z-scores")
    brain = File(exists=True, mandatory=True)
    probability = File(exists=True, mandatory=True)
    earlier = File(exists=True, desc="numbers of the lesions from a former run")
    number = traits.Int(mandatory=True, desc="of the session, from 0")
    from_common = InputMultiObject(File(exists=True), mandatory=True, desc="of all sessions")
    grid = File(exists=True, mandatory=True, desc="image on the common grid")


class _BringSessionOutput(TraitedSpec):
    flair = File(exists=True)
    brain = File(exists=True)
    probability = File(exists=True)
    earlier = File(exists=True, desc="zeros if there was no former run")


class BringSession(SimpleInterface):
    """Resample the results of a session into the common space.

    See `preprocess.normalise.bring_normalised` and `preprocess.resample.resample`.
    """

    input_spec = _BringSessionInput
    output_spec = _BringSessionOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.normalise import bring_normalised
        from cascade_bids.preprocess.resample import resample

        grid = nib.Nifti1Image.from_filename(self.inputs.grid)
        transform = read_transform(Path(self.inputs.from_common[self.inputs.number]))
        place = grid.shape, grid.affine, transform
        images, brain = bring_normalised(
            {"FLAIR": _load(self.inputs.flair)},
            _load(self.inputs.brain),
            transform,
            grid.shape,
            grid.affine,
        )
        found = {
            "flair": images["FLAIR"],
            "brain": brain,
            "probability": resample(_load(self.inputs.probability), *place, order=1),
            "earlier": grid,
        }
        if isdefined(self.inputs.earlier):
            found["earlier"] = resample(_load(self.inputs.earlier), *place, order=0)
        for name, image in found.items():
            self._results[name] = save_image(image, runtime.cwd, f"{name}.nii.gz")
        return runtime


class _BringT1wInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="raw")
    to_t1w = File(exists=True, mandatory=True, desc="FLAIR of the session to T1w")
    number = traits.Int(mandatory=True, desc="of the session, from 0")
    from_common = InputMultiObject(File(exists=True), mandatory=True, desc="of all sessions")
    brain = File(exists=True, mandatory=True, desc="of the session, in common space")


class BringT1w(SimpleInterface):
    """Resample a raw T1w into the common space, once, and normalise it there.

    See `preprocess.bias.correct_bias` and `preprocess.normalise.normalise_intensity`.
    """

    input_spec = _BringT1wInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.bias import correct_bias
        from cascade_bids.preprocess.conform import conform
        from cascade_bids.preprocess.images import make_image
        from cascade_bids.preprocess.load import load_image
        from cascade_bids.preprocess.normalise import normalise_intensity
        from cascade_bids.preprocess.resample import resample

        path = self.inputs.in_file
        corrected = correct_bias(conform(load_image(Path(path)), path).image)
        brain = nib.Nifti1Image.from_filename(self.inputs.brain)
        inside = np.asarray(brain.dataobj) > 0
        from_common = read_transform(Path(self.inputs.from_common[self.inputs.number]))
        found = resample(
            corrected,
            brain.shape,
            brain.affine,
            read_transform(Path(self.inputs.to_t1w)) @ from_common,
            order=3,
            where=inside,
        )
        scores = normalise_intensity(np.asarray(found.dataobj), inside, inside)
        image = make_image(scores, brain.affine)
        self._results["out_file"] = save_image(image, runtime.cwd, "t1w.nii.gz")
        return runtime


class _CompareSessionsInput(BaseInterfaceInputSpec):
    flairs = InputMultiObject(File(exists=True), mandatory=True, desc="in the order of time")
    brains = InputMultiObject(File(exists=True), mandatory=True)
    probabilities = InputMultiObject(File(exists=True), mandatory=True)
    earlier = InputMultiObject(File(exists=True), mandatory=True)
    from_common = InputMultiObject(File(exists=True), mandatory=True)
    template_to_flair = File(exists=True, mandatory=True, desc="of the first session")
    orientation_known = traits.Bool(mandatory=True)
    sessions = traits.List(traits.Str(), mandatory=True, desc="names of the sessions")
    years = traits.List(traits.Any(), mandatory=True, desc="length of each interval, or None")
    threshold = traits.Float(mandatory=True)
    min_lesion_mm3 = traits.Float(mandatory=True)
    min_peak = traits.Float(mandatory=True)
    min_change_mm3 = traits.Float(mandatory=True)


class _CompareSessionsOutput(TraitedSpec):
    brain = File(exists=True, desc="brain in all sessions")
    tracked = OutputMultiObject(File(exists=True), desc="numbers of the lesions, by session")
    changes = OutputMultiObject(File(exists=True), desc="change map of each session")
    masks = OutputMultiObject(File(exists=True), desc="lesions of each session")
    table = File(exists=True)
    intervals = File(exists=True, desc="JSON, see change.table.summarise_intervals")


class CompareSessions(SimpleInterface):
    """Find what changed between sessions in common space, see `change.compare`."""

    input_spec = _CompareSessionsInput
    output_spec = _CompareSessionsOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.change.compare import compare, expected_white_matter
        from cascade_bids.change.maps import change_map
        from cascade_bids.change.table import summarise_intervals
        from cascade_bids.lesions.label import OperatingPoint
        from cascade_bids.preprocess.images import make_mask

        inputs = self.inputs
        affine = nib.Nifti1Image.from_filename(inputs.brains[0]).affine
        brain = np.logical_and.reduce([_read(path) > 0 for path in inputs.brains])
        from_common = read_transform(Path(inputs.from_common[0]))
        to_template = np.linalg.inv(read_transform(Path(inputs.template_to_flair))) @ from_common
        compared = compare(
            np.stack([_read(path) for path in inputs.flairs]),
            np.stack([_read(path) for path in inputs.probabilities]),
            brain,
            expected_white_matter(brain.shape, affine, to_template),
            OperatingPoint(inputs.threshold, inputs.min_lesion_mm3, inputs.min_peak),
            earlier=np.stack([_read(path).astype(np.int32) for path in inputs.earlier]),
            affine=affine,
            to_template=to_template if inputs.orientation_known else None,
            sessions=inputs.sessions,
            min_change_mm3=inputs.min_change_mm3,
        )
        saved: dict[str, list[str]] = {"tracked": [], "changes": [], "masks": []}
        for number, labels in enumerate(compared.track.labels):
            drawn = change_map(compared.track, compared.table, inputs.sessions, max(number, 1))
            images = {
                "tracked": nib.Nifti1Image(labels, affine),
                "changes": nib.Nifti1Image(drawn, affine),
                "masks": make_mask(labels > 0, affine),
            }
            for name, image in images.items():
                saved[name].append(save_image(image, runtime.cwd, f"{name}{number}.nii.gz"))
        folder = Path(runtime.cwd)
        compared.table.round(4).to_csv(folder / "change.tsv", sep="\t", index=False, na_rep="n/a")
        intervals = summarise_intervals(compared.table, inputs.sessions, inputs.years)
        (folder / "intervals.json").write_text(json.dumps(intervals))
        self._results |= {
            "brain": save_image(make_mask(brain, affine), runtime.cwd, "brain.nii.gz"),
            **saved,
            "table": str(folder / "change.tsv"),
            "intervals": str(folder / "intervals.json"),
        }
        return runtime


class _DrawOnSessionInput(BaseInterfaceInputSpec):
    number = traits.Int(mandatory=True, desc="of the session, from 0")
    tracked = InputMultiObject(File(exists=True), mandatory=True, desc="in common space")
    changes = InputMultiObject(File(exists=True), mandatory=True, desc="in common space")
    to_common = InputMultiObject(File(exists=True), mandatory=True, desc="of all sessions")
    grid = File(exists=True, mandatory=True, desc="output of the session on the raw grid")


class _DrawOnSessionOutput(TraitedSpec):
    tracked = File(exists=True)
    changes = File(exists=True)


class DrawOnSession(SimpleInterface):
    """Resample label maps from common space to the grid of a session's raw FLAIR."""

    input_spec = _DrawOnSessionInput
    output_spec = _DrawOnSessionOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.resample import resample

        grid = nib.Nifti1Image.from_filename(self.inputs.grid)
        number = self.inputs.number
        transform = read_transform(Path(self.inputs.to_common[number]))
        for name in ("tracked", "changes"):
            image = nib.Nifti1Image.from_filename(getattr(self.inputs, name)[number])
            drawn = resample(image, grid.shape, grid.affine, transform, order=0)
            # Both forms of the header are those of the raw image.
            header = grid.header.copy()
            header.set_data_dtype(image.get_data_dtype())
            data = np.asarray(drawn.dataobj).astype(image.get_data_dtype())
            saved = nib.Nifti1Image(data, grid.affine, header)
            self._results[name] = save_image(saved, runtime.cwd, f"{name}.nii.gz")
        return runtime


def _load(path: str) -> nib.Nifti1Image:
    """Load an output of a session."""
    from cascade_bids.preprocess.conform import orient
    from cascade_bids.preprocess.load import load_image

    return orient(load_image(Path(path)), path)


def _read(path: str) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
