"""Robust intensity normalisation inside the brain."""

import numpy as np

from cascade_bids.errors import ScanError


def normalise_intensity(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Give brain voxels a robust mean of 0 and spread of 1; all else becomes 0.

    Mean and standard deviation are those of the brain voxels between the 2nd and the 98th
    percentile, so that lesions, vessels and rims of the mask do not move them.

    Parameters
    ----------
    values
        (X, Y, Z) intensities in any unit.
    brain
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 z-scores.

    Raises
    ------
    ScanError
        When the image is constant inside the brain.
    """
    inside = np.asarray(values, dtype=np.float64)[brain]
    low, high = np.percentile(inside, [2, 98]) if inside.size else (0.0, 0.0)
    middle = inside[(inside >= low) & (inside <= high)]
    spread = float(middle.std()) if middle.size else 0.0
    if spread == 0:
        raise ScanError("the image is constant inside the brain; check that it is a head scan")
    scores = (np.asarray(values, dtype=np.float64) - middle.mean()) / spread
    return np.where(brain, scores, 0).astype(np.float32)
