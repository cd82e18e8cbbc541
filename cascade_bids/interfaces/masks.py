"""Nipype interfaces for masks."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
)

from cascade_bids.errors import ScanError
from cascade_bids.interfaces.images import ImageInput, ImageOutput, save_image
from cascade_bids.transforms import read_transform


class NonzeroMask(SimpleInterface):
    """Compute the mask of a brain-extracted image, see `preprocess.masks.nonzero_mask`."""

    input_spec = ImageInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.masks import nonzero_mask

        mask = nonzero_mask(nib.Nifti1Image.from_filename(self.inputs.in_file))
        self._results["out_file"] = save_image(mask, runtime.cwd, "brain.nii")
        return runtime


class _ResampleMaskInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="mask")
    grid = File(exists=True, mandatory=True, desc="image on the grid")
    transform = File(exists=True, desc="grid to mask; none if both share a space")


class ResampleMask(SimpleInterface):
    """Resample a mask onto the grid of an image, see `preprocess.resample.resample_mask`."""

    input_spec = _ResampleMaskInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.load import load_mask
        from cascade_bids.preprocess.resample import resample_mask

        grid = nib.Nifti1Image.from_filename(self.inputs.grid)
        transform = (
            read_transform(Path(self.inputs.transform)) if self.inputs.transform else np.eye(4)
        )
        path = self.inputs.in_file
        mask = load_mask(Path(path))
        if not np.asarray(mask.dataobj).any():
            raise ScanError(f"the mask {path} is empty; give a whole mask, or leave it out")
        found = resample_mask(mask, grid.shape, grid.affine, transform)
        if not np.asarray(found.dataobj).any():
            raise ScanError(
                f"the mask {path} lies outside of the image; give the mask of this image"
            )
        self._results["out_file"] = save_image(found, runtime.cwd, "mask.nii")
        return runtime


class _TrimInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="brain mask")
    other = File(exists=True, desc="brain mask of another image")
    transform = File(exists=True, desc="in_file to other")


class TrimBrain(SimpleInterface):
    """Trim the brain mask of an image of thick slices, see `preprocess.masks.trim_slices`."""

    input_spec = _TrimInput
    output_spec = ImageOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.preprocess.images import make_mask
        from cascade_bids.preprocess.masks import trim_slices
        from cascade_bids.preprocess.resample import resample_mask

        mask, other = nib.Nifti1Image.from_filename(self.inputs.in_file), None
        if self.inputs.other:
            found = nib.Nifti1Image.from_filename(self.inputs.other)
            transform = read_transform(Path(self.inputs.transform))
            there = resample_mask(found, mask.shape, mask.affine, transform)
            other = np.asarray(there.dataobj) > 0
        spacing_mm = nib.affines.voxel_sizes(mask.affine)
        trimmed = trim_slices(np.asarray(mask.dataobj) > 0, spacing_mm, other)
        self._results["out_file"] = save_image(
            make_mask(trimmed, mask.affine), runtime.cwd, "brain.nii"
        )
        return runtime
