"""Nipype interfaces around the networks: paths in, paths out, nothing else."""

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
    weights = traits.Str(mandatory=True, desc="their SHA-256, so that new weights run anew")


class _ImageOutput(TraitedSpec):
    out_file = File(exists=True)


class _ExtractBrainInput(_NetworkInput):
    in_file = File(exists=True, mandatory=True)


class ExtractBrain(SimpleInterface):
    """`brain.extract_brain`."""

    input_spec = _ExtractBrainInput
    output_spec = _ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.network.brain import extract_brain
        from cascade_bids.network.device import prepare_device

        device = prepare_device(self.inputs.device, self.inputs.threads)
        mask = extract_brain(nib.Nifti1Image.from_filename(self.inputs.in_file), device=device)
        path = Path(runtime.cwd) / "brain.nii.gz"
        mask.to_filename(path)
        self._results["out_file"] = str(path)
        return runtime


class _FindLesionsOutput(_ImageOutput):
    spheres = File(exists=True, desc="sphere map, of a method with a sphere head")


class _FindLesionsInput(_NetworkInput):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    contrasts = traits.List(traits.Str(), mandatory=True, desc="of in_files")
    brain = File(exists=True, mandatory=True)
    anatomy = File(exists=True, desc="maps along a fourth axis, for networks that take them")
    method = traits.Str(mandatory=True)
    temperature = traits.Float(1.0, usedefault=True)
    mirrored = traits.Bool(False, usedefault=True, desc="ask about the mirrored head too")


class FindLesions(SimpleInterface):
    """`cascade.run_cascade`."""

    input_spec = _FindLesionsInput
    output_spec = _FindLesionsOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.network.cascade import fill_missing, load_stages, run_cascade
        from cascade_bids.network.device import prepare_device
        from cascade_bids.network.weights import load_card

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
        card = load_card(self.inputs.method)
        found = run_cascade(
            load_stages(self.inputs.method, device=device),
            fill_missing(images, card.get("optional", ())),
            np.asarray(brain.dataobj) > 0,
            card["contrasts"],
            combination=card["combination"],
            anatomy=anatomy,
            affine=brain.affine,
            temperature=self.inputs.temperature,
            mirrored=self.inputs.mirrored,
            cascades=card.get("cascades", 1),
        )
        maps = {"out_file": found.probability, "spheres": found.spheres}
        for output, values in maps.items():
            if values is not None:
                path = Path(runtime.cwd) / f"{output}.nii.gz"
                nib.Nifti1Image(values, brain.affine).to_filename(path)
                self._results[output] = str(path)
        return runtime
