"""Nipype interfaces for the preprocessing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from cascade_bids.interfaces.images import ImageInput, ImageOutput, save_image
from cascade_bids.preprocess.header import give_forms
from cascade_bids.transforms import read_transform, write_transform


class _ConformOutput(ImageOutput):
    warnings = traits.List(traits.Str(), desc="sentences")
    orientation_known = traits.Bool(desc="whether the header tells the orientation")


class Conform(SimpleInterface):
    """Load an image and conform it.

    See `preprocess.load.load_image` and `preprocess.conform.conform`.
    """

    input_spec = ImageInput
    output_spec = _ConformOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.conform import conform
        from cascade_bids.preprocess.load import load_image

        path = self.inputs.in_file
        conformed = conform(load_image(Path(path)), path)
        self._results["out_file"] = save_image(conformed.image, runtime.cwd, "conform.nii")
        self._results["warnings"] = [f"{Path(path).name}: {text}" for text in conformed.warnings]
        self._results["orientation_known"] = conformed.is_orientation_known
        return runtime


class Orient(SimpleInterface):
    """Load normalised images of an earlier run, see `preprocess.conform.orient`."""

    input_spec = ImageInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.conform import orient
        from cascade_bids.preprocess.load import load_image

        path = self.inputs.in_file
        oriented = orient(load_image(Path(path)), path)
        self._results["out_file"] = save_image(oriented, runtime.cwd, "oriented.nii")
        return runtime


class CorrectBias(SimpleInterface):
    """Correct the bias field, see `preprocess.bias.correct_bias`."""

    input_spec = ImageInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.bias import correct_bias

        corrected = correct_bias(nib.Nifti1Image.from_filename(self.inputs.in_file))
        self._results["out_file"] = save_image(corrected, runtime.cwd, "n4.nii")
        return runtime


class _RegisterInput(BaseInterfaceInputSpec):
    fixed = File(exists=True, mandatory=True)
    moving = File(exists=True, mandatory=True)
    fixed_brain = File(exists=True, mandatory=True)
    moving_brain = File(exists=True, mandatory=True)
    seed = traits.Int(mandatory=True)


class _TransformOutput(TraitedSpec):
    transform = File(exists=True)


class RegisterRigid(SimpleInterface):
    """Register two images rigidly, see `preprocess.registration.register_rigid`."""

    input_spec = _RegisterInput
    output_spec = _TransformOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.registration import register_rigid

        found = register_rigid(
            nib.Nifti1Image.from_filename(self.inputs.fixed),
            nib.Nifti1Image.from_filename(self.inputs.moving),
            fixed_brain=nib.Nifti1Image.from_filename(self.inputs.fixed_brain),
            moving_brain=nib.Nifti1Image.from_filename(self.inputs.moving_brain),
            seed=self.inputs.seed,
        )
        path = Path(runtime.cwd) / "rigid.txt"
        write_transform(found, path)
        self._results["transform"] = str(path)
        return runtime


class _AlignInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    brain = File(exists=True, mandatory=True)
    seed = traits.Int(mandatory=True)


class _AlignOutput(TraitedSpec):
    rigid = File(exists=True, desc="template to image, the rigid part of affine")
    affine = File(exists=True, desc="template to image")
    inverse = File(exists=True, desc="image to template, the inverse of affine")


class AlignToTemplate(SimpleInterface):
    """Register a brain to the template.

    See `preprocess.registration.align_to_template` and `preprocess.registration.rigid_part`.
    """

    input_spec = _AlignInput
    output_spec = _AlignOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.registration import align_to_template

        affine = align_to_template(
            nib.Nifti1Image.from_filename(self.inputs.in_file),
            nib.Nifti1Image.from_filename(self.inputs.brain),
            seed=self.inputs.seed,
        )
        self._results.update(_save_alignment(affine, runtime.cwd))
        return runtime


class _ReadAlignmentInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="affine, template to image")


class ReadAlignment(SimpleInterface):
    """Read the alignment to the template of an earlier run, see `transforms.read_transform`."""

    input_spec = _ReadAlignmentInput
    output_spec = _AlignOutput

    def _run_interface(self, runtime: Any) -> Any:
        affine = read_transform(Path(self.inputs.in_file))
        self._results.update(_save_alignment(affine, runtime.cwd))
        return runtime


class _PrepareInput(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="FLAIR first")
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    transforms = InputMultiObject(File(exists=True), desc="FLAIR to each other image")
    brain = File(exists=True, mandatory=True, desc="brain mask on the FLAIR's grid")
    grid = File(exists=True, desc="image on the grid; the network grid when none is given")
    rigid = File(exists=True, desc="network grid to FLAIR; none for a grid in FLAIR space")


class _PrepareOutput(TraitedSpec):
    out_files = traits.List(File(exists=True), desc="normalised images, one per contrast")
    brain = File(exists=True, desc="brain mask on the grid")


class Prepare(SimpleInterface):
    """Resample all images of a scan onto one grid and normalise them inside the brain.

    See `preprocess.normalise.prepare`.
    """

    input_spec = _PrepareInput
    output_spec = _PrepareOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.normalise import prepare

        shape, affine, raw = _read_raw_grid(self.inputs.grid)
        to_flair = read_transform(Path(self.inputs.rigid)) if self.inputs.rigid else np.eye(4)
        flair, *others = self.inputs.contrasts
        transforms = {flair: to_flair}
        for contrast, path in zip(others, self.inputs.transforms or [], strict=True):
            transforms[contrast] = read_transform(Path(path)) @ to_flair
        images, brain = prepare(
            _load_contrasts(self.inputs.contrasts, self.inputs.in_files),
            transforms,
            nib.Nifti1Image.from_filename(self.inputs.brain),
            to_flair,
            shape,
            affine,
        )
        # Those on a given grid are outputs of the run.
        ending = "nii"
        if raw is not None:
            images, ending = {name: give_forms(one, raw) for name, one in images.items()}, "nii.gz"
            brain = give_forms(brain, raw)
        self._results.update(_save_prepared(images, brain, runtime.cwd, ending))
        return runtime


class _BringNormalisedInput(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="z-scores in FLAIR space")
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    brain = File(exists=True, mandatory=True, desc="brain mask on the same grid")
    rigid = File(exists=True, mandatory=True, desc="network grid to FLAIR")


class BringNormalised(SimpleInterface):
    """Resample the normalised images of an earlier run onto the network grid.

    See `preprocess.normalise.bring_normalised`.
    """

    input_spec = _BringNormalisedInput
    output_spec = _PrepareOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.normalise import bring_normalised
        from cascade_bids.preprocess.template import network_grid

        images, brain = bring_normalised(
            _load_contrasts(self.inputs.contrasts, self.inputs.in_files),
            nib.Nifti1Image.from_filename(self.inputs.brain),
            read_transform(Path(self.inputs.rigid)),
            *network_grid(),
        )
        self._results.update(_save_prepared(images, brain, runtime.cwd, "nii"))
        return runtime


class _AnatomyInput(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="normalised images")
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts, with T1w and FLAIR")
    brain = File(exists=True, mandatory=True, desc="brain mask on the same grid")
    rigid = File(exists=True, mandatory=True, desc="template to FLAIR")
    affine = File(exists=True, mandatory=True, desc="template to FLAIR")


class MeasureAnatomy(SimpleInterface):
    """Compute the anatomical coordinates, which are the fourth axis of one image.

    See `preprocess.anatomical_coordinates.measure_anatomy`.
    """

    input_spec = _AnatomyInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.anatomical_coordinates import measure_anatomy

        files = dict(zip(self.inputs.contrasts, self.inputs.in_files, strict=True))
        brain = nib.Nifti1Image.from_filename(self.inputs.brain)
        maps = measure_anatomy(
            nib.Nifti1Image.from_filename(files["T1w"]),
            nib.Nifti1Image.from_filename(files["FLAIR"]),
            brain,
            rigid=read_transform(Path(self.inputs.rigid)),
            affine=read_transform(Path(self.inputs.affine)),
        )
        image = nib.Nifti1Image(np.moveaxis(maps, 0, -1), brain.affine)
        self._results["out_file"] = save_image(image, runtime.cwd, "anatomy.nii")
        return runtime


class _ProbabilityInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="probability map on the network grid")
    rigid = File(exists=True, mandatory=True, desc="network grid to FLAIR")
    grid = File(exists=True, desc="image on the grid; the template when none is given")
    to_flair = File(exists=True, desc="FLAIR to image, or template to FLAIR without grid")


class ResampleProbability(SimpleInterface):
    """Resample a probability map from the network grid to that of an image or the template.

    See `preprocess.resample.resample`.
    """

    input_spec = _ProbabilityInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.resample import resample

        flair_to_network = np.linalg.inv(read_transform(Path(self.inputs.rigid)))
        other = read_transform(Path(self.inputs.to_flair)) if self.inputs.to_flair else np.eye(4)
        shape, affine, raw = _read_raw_grid(self.inputs.grid)
        to_flair = other if raw is None else np.linalg.inv(other)
        image = nib.Nifti1Image.from_filename(self.inputs.in_file)
        found = resample(image, shape, affine, flair_to_network @ to_flair, order=1)
        if raw is not None:
            found = give_forms(found, raw)
        self._results["out_file"] = save_image(found, runtime.cwd, "probability.nii.gz")
        return runtime


def _read_raw_grid(path: str) -> tuple[tuple[int, ...], np.ndarray, nib.Nifti1Header | None]:
    """Return shape and affine of the network grid or, if there is one, of a raw image.

    The header of the raw image comes with them, for `preprocess.header.give_forms`.
    """
    from cascade_bids.preprocess.load import read_header
    from cascade_bids.preprocess.template import network_grid

    if not path:
        return *network_grid(), None
    raw = read_header(Path(path))
    return raw.shape[:3], raw.affine, raw.header


def _load_contrasts(contrasts: Sequence[str], paths: Sequence[str]) -> dict[str, nib.Nifti1Image]:
    files = zip(contrasts, paths, strict=True)
    return {contrast: nib.Nifti1Image.from_filename(path) for contrast, path in files}


def _save_prepared(
    images: Mapping[str, nib.Nifti1Image], brain: nib.Nifti1Image, folder: str, ending: str
) -> dict[str, Any]:
    # Compression runs without Python's lock.
    with ThreadPoolExecutor(max_workers=2) as pool:
        saved = [
            pool.submit(save_image, image, folder, f"{name}.{ending}")
            for name, image in {**images, "brain": brain}.items()
        ]
        *paths, brain_path = [one.result() for one in saved]
    return {"out_files": paths, "brain": brain_path}


def _save_alignment(affine: np.ndarray, folder: str) -> dict[str, str]:
    from cascade_bids.preprocess.registration import rigid_part

    inverse = np.linalg.inv(affine)
    transforms = {"rigid": rigid_part(affine), "affine": affine, "inverse": inverse}
    paths = {name: Path(folder) / f"{name}.txt" for name in transforms}
    for name, transform in transforms.items():
        write_transform(transform, paths[name])
    return {name: str(path) for name, path in paths.items()}
