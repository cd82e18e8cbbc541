"""How common lesions are in a scan, found from what a network says of all its candidates."""

import numpy as np

STEPS, TOLERANCE = 100, 1e-7
"""At the most, and the change of the prior at which it ends."""

LOWEST = 1 / 3
"""Part of the prior of the training below which none is found: where few voxels are suspicious
and none is sure, it would fall to 0, and all lesions with it."""


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
