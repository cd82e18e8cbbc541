"""Create images with consistent headers."""

import nibabel as nib
import numpy as np


def make_mask(inside: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """Create a uint8 image of a mask.

    Parameters
    ----------
    inside
        (X, Y, Z) bool.
    affine
        (4, 4), voxel to world, mm.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8, with a header as from `make_image`.
    """
    return make_image(inside, affine, np.uint8)


def make_image(
    data: np.ndarray, affine: np.ndarray, dtype: type[np.generic] = np.float32
) -> nib.Nifti1Image:
    """Create an image with equal sform and qform, so that all programs read the same space.

    Parameters
    ----------
    data
        (X, Y, Z).
    affine
        (4, 4), voxel to world, mm.
    dtype
        Type of the voxels.

    Returns
    -------
    nibabel.Nifti1Image
        The image, with code 1 (scanner) and mm in its header.
    """
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return image
