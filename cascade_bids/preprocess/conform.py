"""Check raw images and convert them to the form that all later steps rely on."""

import zlib

import nibabel as nib
import numpy as np

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.images import make_image

MIN_VOXELS = 8
"""Smallest number of voxels of a head scan along an axis."""


def conform(image: nib.Nifti1Image, name: str) -> nib.Nifti1Image:
    """Check an image and convert it to the form that all later steps rely on.

    Parameters
    ----------
    image
        Any NIfTI image.
    name
        Name of the image in error messages: its file.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32, axes permuted and flipped to RAS+, finite, sform and qform equal.

    Raises
    ------
    ScanError
        When the image is not 3D (trailing axes of length one are dropped), is smaller than
        `MIN_VOXELS`, holds colours or complex numbers, cannot be read to its end, is constant, has
        no finite or no positive voxel, or has an affine that is singular or sheared.
    """
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < MIN_VOXELS:
        raise ScanError(
            f"{name} has shape {tuple(image.shape)}; a 3D image of at least {MIN_VOXELS} voxels "
            "along each axis is needed"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError(
            f"{name} holds {image.get_data_dtype()}, no plain numbers; convert it again"
        )
    try:
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScanError(f"{name} is damaged ({error}); copy or convert it again") from error
    if not np.isfinite(data).any():
        raise ScanError(f"{name} holds no finite number; check the conversion from DICOM")
    data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    if data.min() == data.max():
        raise ScanError(f"{name} is constant; check the conversion from DICOM")
    if data.max() <= 0:
        raise ScanError(f"{name} has no positive voxel; check the conversion from DICOM")
    directions = _directions(image.affine, name)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise ScanError(f"{name} has a sheared affine; resample it to an orthogonal grid first")
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))
    return make_image(np.asarray(canonical.dataobj), canonical.affine)


def _directions(affine: np.ndarray, name: str) -> np.ndarray:
    spacing = nib.affines.voxel_sizes(affine)
    if not np.isfinite(affine).all() or spacing.min() <= 0 or np.linalg.det(affine[:3, :3]) == 0:
        raise ScanError(f"{name} has no usable affine in its header; convert it again")
    return affine[:3, :3] / spacing
