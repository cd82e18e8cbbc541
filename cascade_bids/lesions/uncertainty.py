"""How sure a method is: of each lesion, and of the load."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit

FLOOR_ML = 0.1
"""Added to the expected error, so that a method which is sure of all has an interval too."""


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
        Intercept, and weights of both `lesion_features`.

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


def expected_error_ml(probability: np.ndarray, voxel_mm3: float) -> float:
    """Give the volume that is expected to be on the wrong side of 0.5, ``Σ min(p, 1 − p)``.

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
    """Give how much a load may be off, but for a factor: the root of the error expected.

    The variance of a volume grows with the volume that is unsure, as that of a count does; in
    proportion to the volume itself, intervals of high loads would be too wide.

    Parameters
    ----------
    error_ml
        See `expected_error_ml`.

    Returns
    -------
    float
        √ml; above 0 however sure a method is, by `FLOOR_ML`.
    """
    return math.sqrt(error_ml + FLOOR_ML)


def load_interval_ml(load_ml: float, error_ml: float, factor: float) -> tuple[float, float]:
    """Give an interval of the load, wider where a method is less sure.

    Parameters
    ----------
    load_ml
        The load that was found.
    error_ml
        See `expected_error_ml`.
    factor
        How many times `load_spread` the interval reaches to both sides, √ml.

    Returns
    -------
    tuple of float
        Lower and upper end, ml; the lower is not below 0.

    Examples
    --------
    >>> load_interval_ml(2.0, 0.15, 1.5)
    (1.25, 2.75)
    """
    reach = factor * load_spread(error_ml)
    return max(0.0, load_ml - reach), load_ml + reach
