"""Resample images, masks and probability maps onto a grid, through one transform."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.preprocess.images import make_image, make_mask
from cascade_bids.preprocess.masks import bounding_box

BEYOND = 12
"""Voxels around what is sampled that a spline takes into account; the others weigh nothing."""

EXACT = 1e-3
"""Part of a voxel by which the voxels of two grids may lie apart and still count as the same."""


def resample(
    image: nib.Nifti1Image,
    shape: tuple[int, ...],
    affine: np.ndarray,
    transform: np.ndarray,
    *,
    order: int,
    where: np.ndarray | None = None,
) -> nib.Nifti1Image:
    """Resample an image onto a grid through one transform, in a single interpolation.

    Where the voxels of the grid are those of the image, nothing is interpolated.

    Parameters
    ----------
    image
        (X, Y, Z) image.
    shape, affine
        Shape and affine of the grid.
    transform
        (4, 4) world of the grid to world of the image.
    order
        Order of the spline: 0 for labels, 1 for masks and probabilities, 3 for intensities.
    where
        Bool array of `shape`, the voxels that are needed; all when None.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the grid, within the range of the image and 0; 0 beyond its border, and
        where it is not needed.
    """
    found = np.zeros(shape, np.float32)
    if where is None:
        where = np.ones(shape, bool)
    if not where.any():
        return make_image(found, affine)
    box = bounding_box(where)
    voxel = np.linalg.inv(image.affine) @ transform @ affine @ _shift(box)
    seen = _corners(voxel, found[box].shape)
    if np.allclose(seen, _corners(np.rint(voxel), found[box].shape), rtol=0, atol=EXACT):
        order = 0
    source = _source_box(seen, image.shape)
    # nibabel can't read an empty part of a file.
    if all(side.start < side.stop for side in source):
        data = np.asarray(image.dataobj[source], dtype=np.float32)
        to_data = np.linalg.inv(_shift(source)) @ voxel
        sampled = ndimage.affine_transform(
            data,
            to_data[:3, :3],
            to_data[:3, 3],
            output_shape=found[box].shape,
            order=order,
            mode="nearest",
        )
        needed = where[box] & _inside(voxel, sampled.shape, image.shape)
        found[box] = np.where(needed, sampled, 0)
        np.clip(found, min(0.0, float(data.min())), max(0.0, float(data.max())), out=found)
    return make_image(found, affine)


def _shift(box: tuple[slice, ...]) -> np.ndarray:
    """Return the affine from indices in a box to indices in the whole array."""
    return nib.affines.from_matvec(np.eye(3), [side.start for side in box])


def _corners(voxel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return where the corners (8, 3) of a grid lie in the source, in its voxels."""
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij"), -1)
    return nib.affines.apply_affine(voxel, corners.reshape(-1, 3))


def _source_box(seen: np.ndarray, source: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of the source that a grid with these corners sees."""
    low = np.floor(seen.min(0)).astype(int) - BEYOND
    high = np.ceil(seen.max(0)).astype(int) + BEYOND + 1
    return tuple(
        slice(int(np.clip(a, 0, size)), int(np.clip(b, 0, size)))
        for a, b, size in zip(low, high, source, strict=True)
    )


def _inside(voxel: np.ndarray, shape: tuple[int, ...], source: tuple[int, ...]) -> np.ndarray:
    """Return which voxels of a grid lie in the source, which ends half a voxel beyond its centres.

    If it ended at the centres, rounding would remove whole faces of an oblique image.
    """
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    inside = np.ones(shape, dtype=bool)
    for row, size in zip(voxel[:3], source, strict=True):
        x, y, z = (np.float32(factor) * index for factor, index in zip(row[:3], grid, strict=True))
        at = x + y + z + np.float32(row[3])
        inside &= (at > -0.5 - EXACT) & (at < size - 0.5 + EXACT)
    return inside


def average_blocks(image: nib.Nifti1Image, size_mm: float) -> nib.Nifti1Image:
    """Average blocks of voxels, so that voxels are about as large as wanted along each axis.

    Parameters
    ----------
    image
        (X, Y, Z) image.
    size_mm
        Size of the blocks, mm; axes with larger voxels stay as they are.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32; voxels that fill no block at the end of an axis are left out.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    counts = np.maximum(1, np.rint(size_mm / nib.affines.voxel_sizes(image.affine))).astype(int)
    shape = np.maximum(1, np.array(data.shape) // counts)
    counts = np.minimum(counts, data.shape)
    whole = data[tuple(slice(0, end) for end in shape * counts)]
    blocks = whole.reshape([size for pair in zip(shape, counts, strict=True) for size in pair])
    # Floats, since an affine of whole numbers would cut off the half voxel.
    to_image = nib.affines.from_matvec(np.diag(counts.astype(float)), (counts - 1) / 2)
    return make_image(blocks.mean(axis=(1, 3, 5)), image.affine @ to_image)


def resample_mask(
    mask: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> nib.Nifti1Image:
    """Resample a mask: a voxel is inside if at least half of it is; parameters as of `resample`.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 on the grid.
    """
    part = np.asarray(resample(mask, shape, affine, transform, order=1).dataobj)
    return make_mask(part >= 0.5, affine)


def resample_share(
    mask: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> nib.Nifti1Image:
    """Resample a mask to the part of each voxel that it fills; parameters as of `resample`.

    Between thick slices the part changes linearly, as what is interpolated between them does.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the grid, 0 to 1; 0 everywhere for an empty mask.

    Raises
    ------
    ValueError
        When the mask holds something, but nothing of it lies on the grid.
    """
    found = resample(mask, shape, affine, transform, order=1)
    if np.asarray(mask.dataobj).any() and not np.asarray(found.dataobj).any():
        to_grid = np.linalg.inv(transform @ affine) @ mask.affine
        voxels = nib.affines.apply_affine(to_grid, np.argwhere(np.asarray(mask.dataobj) > 0))
        # A tiny lesion may lie between the centres of the grid.
        if not ((voxels > -0.5) & (voxels < np.array(shape) - 0.5)).all(axis=1).any():
            raise ValueError("lies outside of the image; give the mask of this image")
    return found
