"""Resample the images of a scan onto one grid and normalise their intensities."""

from collections.abc import Mapping

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.resample import resample, resample_mask


def prepare(
    images: Mapping[str, nib.Nifti1Image],
    transforms: Mapping[str, np.ndarray],
    brain: nib.Nifti1Image,
    brain_transform: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> tuple[dict[str, nib.Nifti1Image], nib.Nifti1Image]:
    """Resample the images of a scan onto one grid and normalise them inside the brain.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) image, each on its own grid; one is the FLAIR.
    transforms
        Contrast to (4, 4) world of the grid to world of the image.
    brain
        Brain mask of the scan.
    brain_transform
        (4, 4) world of the grid to world of the mask.
    shape, affine
        Shape and affine of the grid.

    Returns
    -------
    images : dict of str to nibabel.Nifti1Image
        Contrast to float32 z-scores on the grid, 0 outside the brain.
    brain : nibabel.Nifti1Image
        uint8 mask on the grid.

    Raises
    ------
    ScanError
        When an image is constant inside the brain.
    """
    mask = resample_mask(brain, shape, affine, brain_transform)
    inside = np.asarray(mask.dataobj) > 0
    resampled = {
        contrast: np.asarray(
            resample(image, shape, affine, transforms[contrast], order=3, where=inside).dataobj
        )
        for contrast, image in images.items()
    }
    tissue = tissue_mask(resampled["FLAIR"], inside)
    normalised = {}
    for contrast, values in resampled.items():
        try:
            scores = normalise_intensity(values, tissue, inside)
        except ScanError as error:
            raise ScanError(f"the {contrast}: {error}") from error
        normalised[contrast] = make_image(scores, affine)
    return normalised, mask


def bring_normalised(
    images: Mapping[str, nib.Nifti1Image],
    brain: nib.Nifti1Image,
    transform: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> tuple[dict[str, nib.Nifti1Image], nib.Nifti1Image]:
    """Resample the z-scores of an earlier run onto another grid.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) z-scores, 0 outside the brain, all on one grid.
    brain
        Brain mask on that grid.
    transform
        (4, 4) world of the new grid to world of the images.
    shape, affine
        Shape and affine of the new grid.

    Returns
    -------
    images : dict of str to nibabel.Nifti1Image
        Contrast to float32 z-scores on the new grid, 0 outside the brain.
    brain : nibabel.Nifti1Image
        uint8 mask on the new grid.
    """
    mask = resample_mask(brain, shape, affine, transform)
    inside = np.asarray(mask.dataobj) > 0
    resampled = {
        contrast: resample(spread, shape, affine, transform, order=3, where=inside)
        for contrast, spread in spread_brain(images, brain).items()
    }
    return resampled, mask


def spread_brain(
    images: Mapping[str, nib.Nifti1Image], brain: nib.Nifti1Image
) -> dict[str, nib.Nifti1Image]:
    """Give voxels outside the brain the value of the nearest one inside.

    Outside the brain, z-scores are 0, the mean of tissue, which neither interpolation nor
    registration must take for what lies beside the fluid at the edge of the brain.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) z-scores, 0 outside the brain, all on one grid.
    brain
        Brain mask on that grid.

    Returns
    -------
    dict of str to nibabel.Nifti1Image
        Contrast to float32 image on the same grid.
    """
    nearest = ndimage.distance_transform_edt(
        np.asarray(brain.dataobj) == 0,
        sampling=nib.affines.voxel_sizes(brain.affine),
        return_distances=False,
        return_indices=True,
    )
    return {
        contrast: make_image(np.asarray(image.dataobj)[tuple(nearest)], image.affine)
        for contrast, image in images.items()
    }


FLUID_BELOW = 0.6
"""Brain voxels below this fraction of the brain's median on FLAIR are cerebrospinal fluid."""


def tissue_mask(flair: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Find the brain tissue: brain voxels that are not as dark as fluid on FLAIR.

    Brain masks differ in how much of the surrounding fluid they include, from none to a quarter of
    their volume. Statistics of the tissue alone do not depend on it.

    Parameters
    ----------
    flair
        (X, Y, Z) intensities, 0 where there is no signal.
    brain
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool.
    """
    inside = flair[brain]
    middle = float(np.median(inside)) if inside.size else 0.0
    return brain & (flair > FLUID_BELOW * middle)


def normalise_intensity(values: np.ndarray, tissue: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Compute z-scores by a robust mean and standard deviation of the brain tissue.

    Mean and standard deviation are those of the tissue voxels between the 2nd and the 98th
    percentile, so that lesions, vessels and the edge of the mask do not affect them.

    Parameters
    ----------
    values
        (X, Y, Z) intensities in any unit.
    tissue
        (X, Y, Z) bool, from `tissue_mask`.
    brain
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 z-scores, 0 outside the brain.

    Raises
    ------
    ScanError
        When the image is constant inside the tissue.
    """
    inside = np.asarray(values[tissue], dtype=np.float64)
    low, high = np.percentile(inside, [2, 98]) if inside.size else (0.0, 0.0)
    middle = inside[(inside >= low) & (inside <= high)]
    # The standard deviation of equal numbers is not always 0 after rounding, so the percentiles are
    # compared too.
    spread = float(middle.std()) if low < high and middle.size else 0.0
    if spread == 0:
        raise ScanError("the image is constant inside the brain; check that it is a head scan")
    scores = np.zeros(values.shape, np.float32)
    scores[brain] = (values[brain] - middle.mean()) / spread
    return scores
