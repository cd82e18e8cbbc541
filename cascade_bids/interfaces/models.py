"""Nipype interfaces for the networks."""

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


class _NetworkInput(BaseInterfaceInputSpec):
    device = traits.Str("auto", usedefault=True)
    threads = traits.Int(1, usedefault=True)
    # Nipype hashes its text, which holds the SHA-256 of the whole card, so that the step runs again
    # with another card.
    card = traits.Any(mandatory=True, desc="models.card.ModelCard")


class _ImageOutput(TraitedSpec):
    out_file = File(exists=True)


class _ExtractBrainInput(_NetworkInput):
    in_file = File(exists=True, mandatory=True)


class ExtractBrain(SimpleInterface):
    """Compute the brain mask of an image, see `models.brain_extraction.extract_brain`."""

    input_spec = _ExtractBrainInput
    output_spec = _ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.models.brain_extraction import extract_brain
        from cascade_bids.models.device import prepare_device

        device = prepare_device(self.inputs.device, self.inputs.threads)
        mask = extract_brain(
            nib.Nifti1Image.from_filename(self.inputs.in_file), self.inputs.card, device=device
        )
        path = Path(runtime.cwd) / "brain.nii.gz"
        mask.to_filename(path)
        self._results["out_file"] = str(path)
        return runtime


class _FindLesionsOutput(_ImageOutput):
    spheres = File(exists=True, desc="sphere map of a method with a sphere head")


class _FindLesionsInput(_NetworkInput):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    brain = File(exists=True, mandatory=True)
    anatomy = File(exists=True, desc="anatomical coordinates along a fourth axis")
    mirrored = traits.Bool(False, usedefault=True, desc="also predict the mirrored head")


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
        )
        maps = {"out_file": found.probability, "spheres": found.spheres}
        for output, values in maps.items():
            if values is not None:
                path = Path(runtime.cwd) / f"{output}.nii.gz"
                nib.Nifti1Image(values, brain.affine).to_filename(path)
                self._results[output] = str(path)
        return runtime
