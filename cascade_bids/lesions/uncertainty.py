"""Confidence of each lesion, and interval of the lesion load."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit

FLOOR_ML = 0.1
"""Added to the expected error, ml, so that the interval is never empty."""


def lesion_confidence(
    highest: np.ndarray, volume_mm3: np.ndarray, weights: Sequence[float]
) -> np.ndarray:
    """Compute the confidence of lesions: the probability that each is a true lesion.

    Parameters
    ----------
    highest
        (N,) highest probability in each lesion.
    volume_mm3
        (N,) volume of each lesion, mm³.
    weights
        Intercept, and weights of both `lesion_features`.

    Returns
    -------
    numpy.ndarray
        (N,) in [0, 1].
    """
    return expit(weights[0] + lesion_features(highest, volume_mm3) @ np.asarray(weights[1:]))


def lesion_features(highest: np.ndarray, volume_mm3: np.ndarray) -> np.ndarray:
    """Compute the features of `lesion_confidence`.

    Parameters
    ----------
    highest
        (N,) highest probability in each lesion.
    volume_mm3
        (N,) volume of each lesion, mm³.

    Returns
    -------
    numpy.ndarray
        (N, 2): logit of the highest probability, and ln(volume in mm³).
    """
    certain = np.clip(highest, 1e-4, 1 - 1e-4)
    return np.stack([logit(certain), np.log(volume_mm3)], axis=1)


def expected_error_ml(probability: np.ndarray, voxel_mm3: float) -> float:
    """Compute the volume that is expected to be misclassified at 0.5, ``Σ min(p, 1 − p)``.

    Parameters
    ----------
    probability
        (X, Y, Z) float in [0, 1], calibrated.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    float
        ml.
    """
    return float(np.minimum(probability, 1 - probability).sum(dtype=np.float64)) * voxel_mm3 / 1000


def load_spread(error_ml: float) -> float:
    """Compute the uncertainty of a load, up to a factor: the expected error.

    Errors of voxels go together, so the error of a volume grows with the uncertain volume, and not
    with its root. An uncertainty proportional to the load would make the intervals of high loads
    too wide.

    Parameters
    ----------
    error_ml
        See `expected_error_ml`.

    Returns
    -------
    float
        ml; above 0 because of `FLOOR_ML`.
    """
    return error_ml + FLOOR_ML


def load_interval_ml(load_ml: float, error_ml: float, factor: float) -> tuple[float, float]:
    """Compute an interval of the load, wider where the probabilities are less certain.

    Parameters
    ----------
    load_ml
        Measured load.
    error_ml
        See `expected_error_ml`.
    factor
        Half-width of the interval in units of `load_spread`.

    Returns
    -------
    tuple of float
        Lower and upper end, ml; the lower end is at least 0.

    Examples
    --------
    >>> load_interval_ml(2.0, 0.15, 1.5)
    (1.625, 2.375)
    """
    reach = factor * load_spread(error_ml)
    return max(0.0, load_ml - reach), load_ml + reach
