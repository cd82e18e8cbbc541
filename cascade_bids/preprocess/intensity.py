"""Robust intensity normalisation inside the brain."""

import numpy as np

from cascade_bids.errors import ScanError

FLUID_BELOW = 0.6
"""Brain voxels darker on FLAIR than this part of the brain's median hold cerebrospinal fluid."""


def tissue_mask(flair: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Find the brain tissue: brain voxels that are not dark on FLAIR, as fluid is.

    Brain masks differ in how much fluid around the brain they include, from none to a quarter of
    their volume. Statistics of the tissue alone do not depend on that.

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
    """Give brain tissue a robust mean of 0 and spread of 1; voxels outside the brain become 0.

    Mean and standard deviation are those of the tissue voxels between the 2nd and the 98th
    percentile, so that lesions, vessels and rims of the mask do not move them.

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
        (X, Y, Z) float32 z-scores.

    Raises
    ------
    ScanError
        When the image is constant inside the tissue.
    """
    scores = np.asarray(values, dtype=np.float64)
    inside = scores[tissue]
    low, high = np.percentile(inside, [2, 98]) if inside.size else (0.0, 0.0)
    middle = inside[(inside >= low) & (inside <= high)]
    # The deviation of equal numbers is not always 0 after rounding, so the ends are asked too.
    spread = float(middle.std()) if low < high and middle.size else 0.0
    if spread == 0:
        raise ScanError("the image is constant inside the brain; check that it is a head scan")
    return np.where(brain, (scores - middle.mean()) / spread, 0).astype(np.float32)
