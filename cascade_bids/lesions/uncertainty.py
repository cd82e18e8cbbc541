"""How sure a method is: of each lesion, and of the load."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit

from cascade_bids.lesions.postprocess import label_lesions


def lesion_confidence(
    highest: np.ndarray, volume_mm3: np.ndarray, weights: Sequence[float]
) -> np.ndarray:
    """Give the chance that lesions are such.

    Parameters
    ----------
    highest
        (N,) highest probability in each lesion.
    volume_mm3
        (N,) its volume.
    weights
        As in `Calibration.confidence`.

    Returns
    -------
    numpy.ndarray
        (N,) in [0, 1].
    """
    return expit(weights[0] + lesion_features(highest, volume_mm3) @ np.asarray(weights[1:]))


def lesion_features(highest: np.ndarray, volume_mm3: np.ndarray) -> np.ndarray:
    """Give what the confidence depends on, (N, 2): the highest logit, and ln(volume in mm³)."""
    certain = np.clip(highest, 1e-4, 1 - 1e-4)
    return np.stack([logit(certain), np.log(volume_mm3)], axis=1)


def load_interval_ml(
    probability: np.ndarray,
    thresholds: tuple[float, float],
    *,
    min_lesion_mm3: float,
    voxel_mm3: float,
) -> tuple[float, float]:
    """Give an interval of the load: the loads at a high and at a low threshold.

    Parameters
    ----------
    probability
        (X, Y, Z) float in [0, 1].
    thresholds
        Of the lower and of the upper end, as the method's calibration chose them.
    min_lesion_mm3
        Smallest lesion that is kept, mm³.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    tuple of float
        Lower and upper end, ml.
    """
    low, high = (
        int((label > 0).sum()) * voxel_mm3 / 1000
        for label in (
            label_lesions(
                probability,
                threshold=threshold,
                min_lesion_mm3=min_lesion_mm3,
                voxel_mm3=voxel_mm3,
            )
            for threshold in thresholds
        )
    )
    return low, high
