"""Brain masks: largest component, closed sulci, masks of brain-extracted images."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.images import make_image, make_mask


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest component of a mask, 6-connected: voxels that share a face.

    Parameters
    ----------
    mask
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool; of equally large components the first in array order; empty for an empty
        mask.
    """
    components, count = ndimage.label(mask)
    if not count:
        return np.zeros(mask.shape, dtype=bool)
    return components == 1 + int(np.argmax(np.bincount(components.ravel())[1:]))


def close_sulci(tissue: np.ndarray, *, closed_mm: float, spacing_mm: float) -> np.ndarray:
    """Close a mask with a ball, and fill its holes.

    Parameters
    ----------
    tissue
        (X, Y, Z) bool, with isotropic voxels.
    closed_mm
        Radius of the ball, mm: sulci narrower than twice this are closed.
    spacing_mm
        Voxel size, mm.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool.
    """
    radius = closed_mm / spacing_mm
    margin = int(np.ceil(radius)) + 1
    padded = np.pad(tissue, margin)
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    inner = (slice(margin, -margin),) * 3
    return ndimage.binary_fill_holes(closed[inner] | tissue)


def apply_mask(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> nib.Nifti1Image:
    """Set all voxels outside a mask to 0.

    Parameters
    ----------
    image, mask
        (X, Y, Z) images on one grid; voxels above 0 are inside the mask.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the same grid.
    """
    inside = np.asarray(mask.dataobj) > 0
    return make_image(np.where(inside, np.asarray(image.dataobj), 0), image.affine)


def nonzero_mask(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Compute the brain mask of an image that is already brain-extracted.

    The mask is the largest component of the voxels above 1 % of the 99th percentile of the positive
    ones, with its holes filled. The threshold excludes the ringing of earlier resampling.

    Parameters
    ----------
    image
        (X, Y, Z), about 0 outside the brain.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 on the same grid.

    Raises
    ------
    ScanError
        When no voxel is positive.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    positive = data[data > 0]
    if positive.size == 0:
        raise ScanError("the image has no positive voxel, so no brain; check the conversion")
    largest = largest_component(data > 0.01 * np.percentile(positive, 99))
    return make_mask(ndimage.binary_fill_holes(largest), image.affine)
