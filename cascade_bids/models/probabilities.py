"""Probabilities: combined over networks, calibrated, and adapted to one scan."""

import functools
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit

COMBINATIONS = ("last", "product", "mean", "vote")
"""How the maps of stages are combined; see `combine`."""

STEPS, TOLERANCE = 100, 1e-7
"""At the most, and the change of the prior at which it ends."""

LOWEST = 1 / 3
"""Part of the prior of the training below which none is found: where few voxels are suspicious
and none is sure, it would fall to 0, and all lesions with it."""


def combine(found: Sequence[np.ndarray], combination: str) -> np.ndarray:
    """Combine the maps of all stages.

    Parameters
    ----------
    found
        (X, Y, Z) float32 in [0, 1] of each stage, first to last.
    combination
        ``last`` takes the last, ``product`` multiplies them, ``mean`` takes the mean of their
        log-odds, ``vote`` takes the median of each voxel: of an odd number of maps it is above a
        threshold where most of them are.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1].
    """
    if combination == "vote":
        return np.median(np.stack(found), axis=0)
    if combination == "mean" and len(found) > 1:
        with np.errstate(divide="ignore"):
            # Where one says 0, so does the mean.
            odds = [logit(np.minimum(one, np.float32(1 - 1e-7))) for one in found]
        return expit(np.mean(odds, axis=0)).astype(found[0].dtype)
    return functools.reduce(np.multiply, found) if combination == "product" else found[-1]


def scale_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities by a temperature [1]_; 0 and 1 stay.

    Parameters
    ----------
    probability
        Float array in [0, 1].
    temperature
        Above 0; above 1 makes a method less sure.

    Returns
    -------
    numpy.ndarray
        Of the same shape and dtype.

    References
    ----------
    .. [1] Guo et al. On calibration of modern neural networks. ICML 2017, PMLR 70:1321-1330.

    Examples
    --------
    >>> scale_temperature(np.array([0.0, 0.5, 0.9]), 2.0).round(3)
    array([0.  , 0.5 , 0.75])
    """
    if temperature == 1:
        return probability  # as it is, to the last bit
    with np.errstate(divide="ignore"):
        return expit(logit(probability) / temperature).astype(probability.dtype)


def adapt_prior(probability: np.ndarray, prior: float) -> np.ndarray:
    """Adapt probabilities to how common lesions are in one scan.

    A network expects of every scan the mean load of those that it learned from. Expectation
    maximisation finds the load under which what it says of the candidates is likeliest [1]_, so
    that few lesions are not exaggerated and many are not missed.

    Parameters
    ----------
    probability
        (N,) float in (0, 1), of all candidates of a scan.
    prior
        Part of the candidates that were lesion in the training.

    Returns
    -------
    numpy.ndarray
        (N,) float, in the same order.

    References
    ----------
    .. [1] Saerens et al. Adjusting the outputs of a classifier to new a priori probabilities.
       Neural Computation 2002, 14:21-41, doi 10.1162/089976602753284446.

    Examples
    --------
    >>> adapt_prior(np.array([0.9, 0.2, 0.2, 0.2]), prior=0.5).round(2)
    array([0.74, 0.07, 0.07, 0.07])
    """
    said = probability.astype(np.float64)
    if not said.size:
        return probability
    found, adapted = prior, said
    for _ in range(STEPS):
        lesion, other = said * found / prior, (1 - said) * (1 - found) / (1 - prior)
        adapted = lesion / (lesion + other)
        before, found = found, max(float(adapted.mean()), LOWEST * prior)
        if abs(found - before) < TOLERANCE:
            break
    return adapted.astype(probability.dtype)
