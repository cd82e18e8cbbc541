"""What a method's numbers mean: fitted on scans that it has not learned from.

Probabilities, the rule that makes lesions of them, the chance that a lesion is one, and an interval
of the load.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from cascade_bids.lesions.postprocess import find_peaks
from cascade_bids.lesions.uncertainty import (
    expected_error_ml,
    lesion_features,
    load_interval_ml,
    load_spread,
)
from cascade_bids.training.held_out import VOXEL_MM3, HeldOut
from cascade_bids.training.rules import choose_rule

COVERAGE = 0.9
"""Part of the scans whose true load the interval is to hold."""


@dataclass(frozen=True)
class Calibration:
    """How probabilities are to be read; goes into the card of a method."""

    temperature: float
    """What the logits are divided by."""
    threshold: float
    """Lowest probability of a lesion voxel, once the temperature is applied."""
    min_lesion_mm3: float
    """Smallest lesion that is kept."""
    peak: float
    """Lowest probability of the surest voxel of a lesion that is kept."""
    load_factor: float | None = None
    """Factor of `cascade_bids.lesions.uncertainty.load_interval_ml`."""
    confidence: tuple[float, float, float] | None = None
    """Weights of `cascade_bids.lesions.uncertainty.lesion_confidence`."""

    def to_card(self) -> dict[str, Any]:
        """Write it as it stands in a card."""
        return dict(vars(self))


def fit_rule(held_out: Sequence[HeldOut]) -> Calibration:
    """Fit the temperature, and `choose_rule`, on scans that a method has not learned from.

    Raises
    ------
    ValueError
        When there is no scan.
    """
    if not held_out:
        raise ValueError("a calibration needs scans")
    temperature = round(fit_temperature(held_out), 4)
    return Calibration(temperature, *choose_rule([one.scale(temperature) for one in held_out]))


def fit_uncertainty(rule: Calibration, held_out: Sequence[HeldOut]) -> Calibration:
    """Add the interval of the load and the confidence of lesions, where there is enough to fit."""
    scaled = [one.scale(rule.temperature) for one in held_out]
    return replace(
        rule,
        load_factor=choose_load_factor(scaled, rule),
        confidence=fit_confidence(scaled, rule),
    )


def fit_temperature(held_out: Sequence[HeldOut]) -> float:
    """Find the temperature under which the truth is likeliest.

    Voxels with a probability of 0 are left out: no stage was asked about them, and no temperature
    changes them.
    """
    logits, truths, weights = [], [], []
    for one in held_out:
        asked = one.probability > 0
        if asked.any():
            values = np.clip(one.probability[asked].astype(np.float64), 1e-7, 1 - 1e-7)
            logits.append(logit(values))
            truths.append(one.lesions[asked])
            weights.append(np.full(values.size, one.weight / values.size))
    if not logits:
        return 1.0
    z, truth, weight = (np.concatenate(parts) for parts in (logits, truths, weights))
    signed = np.where(truth, z, -z)

    def loss(log_temperature: float) -> float:
        return float((weight * np.logaddexp(0, -signed / np.exp(log_temperature))).sum())

    found = minimize_scalar(loss, bounds=(np.log(0.25), np.log(4)), method="bounded")
    return float(np.exp(found.x))


def choose_load_factor(held_out: Sequence[HeldOut], rule: Calibration) -> float | None:
    """Choose the factor whose intervals hold the true load of `COVERAGE` of the scans.

    By locally weighted split conformal prediction [1]_: the factor is the quantile of the scans'
    errors in parts of what is expected of each, a little higher the fewer they are.

    Returns
    -------
    float or None
        None when there are too few scans.

    References
    ----------
    .. [1] Lei et al. Distribution-free predictive inference for regression. Journal of the American
       Statistical Association 2018;113:1094-1111. doi 10.1080/01621459.2017.1307116
    """
    rank = math.ceil((len(held_out) + 1) * COVERAGE)
    if rank > len(held_out):
        return None
    errors = sorted(
        abs(one.load_ml(rule) - one.true_load_ml)
        / load_spread(expected_error_ml(one.probability, VOXEL_MM3))
        for one in held_out
    )
    return round(errors[rank - 1], 4)


def fit_confidence(
    held_out: Sequence[HeldOut], rule: Calibration
) -> tuple[float, float, float] | None:
    """Fit how likely a found lesion touches a true one, by its highest probability and volume.

    Returns
    -------
    tuple of float, or None
        As in `Calibration`; None unless there are lesions of both kinds.
    """
    features, true = [], []
    for one in held_out:
        labels = one.label(rule)
        count = int(labels.max(initial=0))
        if count:
            volumes = np.bincount(labels.ravel())[1:] * VOXEL_MM3
            highest = find_peaks(one.probability, labels, count)
            features.append(lesion_features(highest, volumes))
            touched = np.zeros(count + 1, dtype=bool)
            touched[labels[one.lesions]] = True
            true.append(touched[1:])
    if not true or len(np.unique(np.concatenate(true))) < 2:
        return None
    model = LogisticRegression().fit(np.concatenate(features), np.concatenate(true))
    intercept, weights = float(model.intercept_[0]), model.coef_[0].tolist()
    return (round(intercept, 4), round(weights[0], 4), round(weights[1], 4))


def describe(held_out: Sequence[HeldOut], calibration: Calibration) -> Mapping[str, float]:
    """Check on scans whether the interval holds the load and the probabilities are right.

    Returns
    -------
    mapping of str to float
        ``coverage``, part of the scans whose true load lies in the interval; ``interval_ml``,
        its mean width; ``calibration_error``, the expected one of the
        voxels' probabilities over ten bins.
    """
    covered, widths, sure, right = [], [], [], []
    for one in held_out:
        scaled = one.scale(calibration.temperature)
        asked = scaled.probability > 0
        sure.append(scaled.probability[asked])
        right.append(one.lesions[asked])
        if calibration.load_factor is not None:
            load = scaled.load_ml(calibration)
            error = expected_error_ml(scaled.probability, VOXEL_MM3)
            low, high = load_interval_ml(load, error, calibration.load_factor)
            covered.append(low <= one.true_load_ml <= high)
            widths.append(high - low)
    return {
        "coverage": float(np.mean(covered)) if covered else np.nan,
        "interval_ml": float(np.mean(widths)) if widths else np.nan,
        "calibration_error": _calibration_error(np.concatenate(sure), np.concatenate(right)),
    }


def _calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Give the mean gap between probability and truth over bins (Naeini et al., AAAI 2015)."""
    if not probability.size:
        return np.nan
    bins = np.minimum((probability * 10).astype(int), 9)
    gaps = np.bincount(bins, probability - truth, minlength=10)
    return float(np.abs(gaps).sum() / probability.size)
