"""Resample images, masks and probability maps onto a grid, through one transform."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.preprocess.images import make_image, make_mask


def resample(
    image: nib.Nifti1Image,
    shape: tuple[int, ...],
    affine: np.ndarray,
    transform: np.ndarray,
    *,
    order: int,
) -> nib.Nifti1Image:
    """Resample an image onto a grid through one transform, in a single interpolation.

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

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the grid, within the range of the image and 0; 0 beyond its border.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    voxel = np.linalg.inv(image.affine) @ transform @ affine

    def sample(values: np.ndarray, order: int, mode: str) -> np.ndarray:
        return ndimage.affine_transform(
            values, voxel[:3, :3], voxel[:3, 3], output_shape=shape, order=order, mode=mode
        )

    # The image extends half a voxel beyond its outermost voxel centres. If it ended at the centres,
    # rounding would remove whole faces of an oblique image.
    inside = sample(np.ones(data.shape, np.uint8), 0, "grid-constant") > 0
    found = np.where(inside, sample(data, order, "nearest"), 0)
    return make_image(np.clip(found, min(0.0, float(data.min())), float(data.max())), affine)


def resample_highest(
    image: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> nib.Nifti1Image:
    """Resample a probability map without losing its maxima; parameters as of `resample`.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the grid: in each voxel the highest of the probability interpolated at
        its centre and of all voxels of the image with their centre in it.
    """
    highest = np.array(resample(image, shape, affine, transform, order=1).dataobj)
    values = np.asarray(image.dataobj, dtype=np.float32)
    voxels = np.argwhere(values > 0)
    to_grid = np.linalg.inv(transform @ affine) @ image.affine
    targets = np.rint(nib.affines.apply_affine(to_grid, voxels)).astype(int)
    inside = ((targets >= 0) & (targets < np.array(shape))).all(axis=1)
    np.maximum.at(highest, tuple(targets[inside].T), values[tuple(voxels[inside].T)])
    return make_image(highest, affine)


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


def reaches(
    mask: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> bool:
    """Return whether any voxel centre of a mask lies within a grid; parameters as of `resample`."""
    to_grid = np.linalg.inv(transform @ affine) @ mask.affine
    voxels = nib.affines.apply_affine(to_grid, np.argwhere(np.asarray(mask.dataobj) > 0))
    return bool(((voxels > -0.5) & (voxels < np.array(shape) - 0.5)).all(axis=1).any())
