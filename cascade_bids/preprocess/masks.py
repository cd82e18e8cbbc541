"""Brain masks: largest component, closed sulci, masks of brain-extracted images."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.images import make_image, make_mask

THICK_MM, TIMES_THICKER = 5.0, 2.0
"""Slices that are thicker than this, and so many times thicker than their pixels are wide, are
thick."""

ISLAND_CM2 = 2.0
"""Pieces of brain in a thick slice that are smaller are none."""

LEAST_KEPT = 0.85
"""Part of the brain that is kept at the least, since orbits and skull base are a few percent."""

APART_MM = 3.0
"""How far a brain may reach beyond that on another image of the same head."""


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


def centre_of(mask: nib.Nifti1Image) -> np.ndarray:
    """Return the centroid of a mask (X, Y, Z) in its world, mm (3,)."""
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    return nib.affines.apply_affine(mask.affine, voxels.mean(axis=0))


def bounding_box(mask: np.ndarray, *, margin: int = 0) -> tuple[slice, ...]:
    """Return the bounding box of a mask, widened as far as the array goes.

    Parameters
    ----------
    mask
        (X, Y, Z) bool.
    margin
        Voxels on each side.

    Returns
    -------
    tuple of slice
        Three slices; of the whole array for an empty mask.
    """
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return tuple(slice(0, size) for size in mask.shape)
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, size in zip(boxes[0], mask.shape, strict=True)
    )


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


def are_slices_thick(spacing_mm: np.ndarray) -> bool:
    """Return whether an image has thick slices, so that its brain mask needs `trim_slices`.

    Parameters
    ----------
    spacing_mm
        (3,) voxel size.

    Returns
    -------
    bool
        Whether it has.
    """
    return bool(spacing_mm.max() > max(THICK_MM, TIMES_THICKER * spacing_mm.min()))


def trim_slices(
    brain: np.ndarray, spacing_mm: np.ndarray, other: np.ndarray | None = None
) -> np.ndarray:
    """Trim a brain mask of thick slices, where what lies under a brain looks like a part of it.

    Orbits and skull base share voxels with the brain above them there. On another contrast they
    look different, so what is brain on one image alone is left out, except in slices where the
    other shows no brain at all. So are small pieces.

    Parameters
    ----------
    brain
        (X, Y, Z) bool.
    spacing_mm
        (3,) voxel size; the largest is the distance of the slices.
    other
        (X, Y, Z) bool, mask found on another image and resampled to this grid; None if there is
        none.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool, part of `brain`, with its holes filled.
    """
    axis = int(np.argmax(spacing_mm))
    area_cm2 = np.prod(np.delete(spacing_mm, axis)) / 100
    kept = brain.copy()
    if other is not None:
        near = ndimage.distance_transform_edt(~other, spacing_mm) <= APART_MM
        slices = other.any(axis=tuple({0, 1, 2} - {axis}), keepdims=True)
        kept &= near | ~slices
        if kept.sum() < LEAST_KEPT * brain.sum():  # the other mask is wrong
            kept = brain.copy()
    for piece in np.moveaxis(kept, axis, 0):  # views, which are changed in place
        labels, _ = ndimage.label(piece)
        small = np.bincount(labels.ravel()) * area_cm2 < ISLAND_CM2
        piece &= ~small[labels]
    return ndimage.binary_fill_holes(kept)


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
