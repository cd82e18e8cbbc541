"""Nipype interfaces for the networks."""

from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    traits,
)

from cascade_bids.interfaces.images import ImageOutput, save_image


class _NetworkInput(BaseInterfaceInputSpec):
    device = traits.Str("auto", usedefault=True)
    # Not hashed: the result is the same but for rounding.
    threads = traits.Int(1, usedefault=True, nohash=True)
    # Nipype hashes its text, which holds the SHA-256 of the whole card, so that the step runs again
    # with another card.
    card = traits.Any(mandatory=True, desc="models.card.ModelCard")


class _ExtractBrainInput(_NetworkInput):
    in_file = File(exists=True, mandatory=True)
    name = traits.Str(mandatory=True, desc="of the image, for warnings")


class _ExtractBrainOutput(ImageOutput):
    warnings = traits.List(traits.Str(), desc="sentences")


class ExtractBrain(SimpleInterface):
    """Compute the brain mask of an image.

    See `models.brain_extraction.extract_brain` and `models.brain_extraction.shows_brain_alone`.
    """

    input_spec = _ExtractBrainInput
    output_spec = _ExtractBrainOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.models.brain_extraction import extract_brain, shows_brain_alone
        from cascade_bids.models.device import prepare_device
        from cascade_bids.preprocess.masks import nonzero_mask

        device = prepare_device(self.inputs.device, self.inputs.threads)
        image = nib.Nifti1Image.from_filename(self.inputs.in_file)
        mask = extract_brain(image, self.inputs.card, device=device)
        self._results["warnings"] = []
        if shows_brain_alone(image, mask):
            mask = nonzero_mask(image)
            self._results["warnings"] = [
                f"{self.inputs.name}: It shows a brain without a skull, so all of it was taken as "
                "brain."
            ]
        self._results["out_file"] = save_image(mask, runtime.cwd, "brain.nii")
        return runtime


class _FindLesionsOutput(ImageOutput):
    spheres = File(exists=True, desc="sphere map of a method with a sphere head")


class _FindLesionsInput(_NetworkInput):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    brain = File(exists=True, mandatory=True)
    anatomy = File(exists=True, desc="anatomical coordinates along a fourth axis")
    mirrored = traits.Bool(False, usedefault=True, desc="also predict the mirrored head")
    precision = traits.Str("float32", usedefault=True, desc="from models.device.choose_precision")


class FindLesions(SimpleInterface):
    """Predict the probability of lesions, see `models.predict.predict_lesions`."""

    input_spec = _FindLesionsInput
    output_spec = _FindLesionsOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.models.device import prepare_device
        from cascade_bids.models.predict import load_stages, predict_lesions

        device = prepare_device(self.inputs.device, self.inputs.threads)
        brain = nib.Nifti1Image.from_filename(self.inputs.brain)
        images = {
            contrast: np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
            for contrast, path in zip(self.inputs.contrasts, self.inputs.in_files, strict=True)
        }
        anatomy = None
        if self.inputs.anatomy:
            image = nib.Nifti1Image.from_filename(self.inputs.anatomy)
            anatomy = np.moveaxis(np.asarray(image.dataobj, dtype=np.float32), -1, 0)
        card = self.inputs.card
        found = predict_lesions(
            load_stages(card, device=device, checked=True),
            card,
            images,
            np.asarray(brain.dataobj) > 0,
            affine=brain.affine,
            anatomy=anatomy,
            mirrored=self.inputs.mirrored,
            precision=self.inputs.precision,
        )
        maps = {"out_file": found.probability, "spheres": found.spheres}
        for output, values in maps.items():
            if values is not None:
                image = nib.Nifti1Image(values, brain.affine)
                self._results[output] = save_image(image, runtime.cwd, f"{output}.nii")
        return runtime
