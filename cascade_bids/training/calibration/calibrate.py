"""Calibrate a method on scans that it has not learned from.

The operating point that makes lesions of its probabilities, the chance that a lesion is one, and an
interval of the load.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from scipy.special import stdtrit
from sklearn.linear_model import LogisticRegression

from cascade_bids.lesions.label import OperatingPoint, find_peaks
from cascade_bids.lesions.uncertainty import (
    expected_error_ml,
    lesion_features,
    load_interval_ml,
    load_spread,
)
from cascade_bids.training.calibration.operating_point import choose_operating_point
from cascade_bids.training.calibration.out_of_fold import (
    Prediction,
    contrast_subsets,
    read_prediction,
)
from cascade_bids.training.folds import Fold
from cascade_bids.training.recipes import Recipe

FEW = 1
"""So many participants count together as much as all synthetic scans, which are harder."""

COVERAGE = 0.9
"""Part of the scans whose true load the interval is to hold."""

FEWEST = 5
"""Participants without whom no interval is fitted."""


@dataclass(frozen=True)
class Calibration:
    """How probabilities are to be read; goes into the card of a method."""

    operating_point: OperatingPoint
    """What makes lesions of the probabilities."""
    load_factor: float | None = None
    """Factor of `cascade_bids.lesions.uncertainty.load_interval_ml`."""
    confidence: tuple[float, float, float] | None = None
    """Weights of `cascade_bids.lesions.uncertainty.lesion_confidence`."""

    def to_card(self) -> dict[str, Any]:
        """Return the entries of a card."""
        return {
            "threshold": self.operating_point.threshold,
            "min_lesion_mm3": self.operating_point.min_lesion_mm3,
            "peak": self.operating_point.min_peak,
            "load_factor": self.load_factor,
            "confidence": self.confidence,
        }

    @classmethod
    def from_card(cls, entries: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that entries of a card state; see `to_card`."""
        return cls(
            OperatingPoint(entries["threshold"], entries["min_lesion_mm3"], entries["peak"]),
            entries["load_factor"],
            entries["confidence"],
        )


def fit_calibration(predictions: Sequence[Prediction]) -> Calibration:
    """Choose the operating point on out-of-fold predictions.

    Raises
    ------
    ValueError
        When there is no scan.
    """
    if not predictions:
        raise ValueError("a calibration needs scans")
    return Calibration(choose_operating_point(predictions))


def fit_uncertainty(
    calibration: Calibration, people: Sequence[Sequence[Prediction]]
) -> Calibration:
    """Add the interval of the load and the confidence of lesions, where there is enough to fit.

    Parameters
    ----------
    calibration
        Its operating point makes the lesions.
    people
        The predictions of each participant, or of each synthetic scan.

    Returns
    -------
    Calibration
        With what could be fitted.
    """
    point = calibration.operating_point
    return replace(
        calibration,
        load_factor=choose_load_factor(people, point),
        confidence=fit_confidence(list(chain.from_iterable(people)), point),
    )


def choose_load_factor(
    people: Sequence[Sequence[Prediction]], operating_point: OperatingPoint
) -> float | None:
    """Choose the factor whose intervals hold the true load of `COVERAGE` of the participants.

    Errors, in parts of what is expected of each scan, are taken as normal around 0: the factor is
    their root mean square times the quantile of Student's t distribution. Split conformal
    prediction would take the largest error of up to 18 participants. Scans of one participant, who
    is not several, share the weight of one.

    Returns
    -------
    float or None
        None of fewer than `FEWEST` participants.
    """
    if len(people) < FEWEST:
        return None
    squares = [
        np.mean([_relative_error(one, operating_point) ** 2 for one in own]) for own in people
    ]
    quantile = stdtrit(len(people), (1 + COVERAGE) / 2)
    return round(float(quantile * np.sqrt(np.mean(squares))), 4)


def _relative_error(one: Prediction, operating_point: OperatingPoint) -> float:
    """Return the error of a load in parts of what is expected."""
    error = abs(one.load_ml(operating_point) - one.true_load_ml)
    return error / load_spread(expected_error_ml(one.probability, one.voxel_mm3))


def fit_confidence(
    predictions: Sequence[Prediction], operating_point: OperatingPoint
) -> tuple[float, float, float] | None:
    """Fit how likely a found lesion touches a true one, by its highest probability and volume.

    Returns
    -------
    tuple of float, or None
        As in `Calibration`; None unless there are lesions of both kinds.
    """
    features, true = [], []
    for one in predictions:
        labels = one.label(operating_point)
        count = int(labels.max(initial=0))
        if count:
            volumes = np.bincount(labels.ravel())[1:] * one.voxel_mm3
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


def check_calibration(
    predictions: Sequence[Prediction], calibration: Calibration
) -> Mapping[str, float]:
    """Check on scans whether the interval holds the load and the probabilities are right.

    Returns
    -------
    mapping of str to float
        ``coverage``, part of the scans whose true load lies in the interval; ``interval_ml``,
        its mean width; ``calibration_error``, the expected one of the
        voxels' probabilities over ten bins.
    """
    covered, widths, sure, right = [], [], [], []
    for one in predictions:
        candidates = one.probability > 0
        sure.append(one.probability[candidates])
        right.append(one.lesions[candidates])
        if calibration.load_factor is not None:
            load = one.load_ml(calibration.operating_point)
            error = expected_error_ml(one.probability, one.voxel_mm3)
            low, high = load_interval_ml(load, error, calibration.load_factor)
            covered.append(low <= one.true_load_ml <= high)
            widths.append(high - low)
    return {
        "coverage": float(np.mean(covered)) if covered else np.nan,
        "interval_ml": float(np.mean(widths)) if widths else np.nan,
        "calibration_error": _calibration_error(np.concatenate(sure), np.concatenate(right)),
    }


def _calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Compute the mean gap between probability and truth over bins (Naeini et al., AAAI 2015)."""
    if not probability.size:
        return np.nan
    bins = np.minimum((probability * 10).astype(int), 9)
    gaps = np.bincount(bins, probability - truth, minlength=10)
    return float(np.abs(gaps).sum() / probability.size)


def calibrate_folds(
    recipe: Recipe, folds: Sequence[Fold]
) -> tuple[list[Calibration], Calibration | None]:
    """Calibrate each fold, and the method that learns from all scans.

    The calibration of a fold comes from the out-of-fold predictions of the other folds and the
    fold's own synthetic scans: no prediction of the scans that are scored with it has a part in it.
    (The networks of the other folds did learn from these scans; only nested cross-validation would
    do without.)

    Parameters
    ----------
    recipe
        Of the method.
    folds
        With their predictions.

    Returns
    -------
    list of Calibration
        One for each fold.
    Calibration or None
        For the method that learns from all scans; None if it is not calibrated.
    """
    if not recipe.calibrated:
        return [Calibration(recipe.operating_point)] * len(folds), None
    people = [_read_participants(fold, recipe) for fold in folds]
    synthetic = [
        [read_prediction(path).crop() for path in sorted(fold.synthetic.glob("[0-9]*.npz"))]
        for fold in folds
    ]
    every = calibrate_people(chain.from_iterable(people), list(chain.from_iterable(synthetic)))
    return calibrate_each(people, synthetic), every


def calibrate_each(
    people: Sequence[Sequence[Sequence[Prediction]]], synthetic: Sequence[Sequence[Prediction]]
) -> list[Calibration]:
    """Calibrate each fold on the participants of all others and its own synthetic scans.

    Parameters
    ----------
    people
        Of each fold the predictions of each participant.
    synthetic
        Of each fold those of synthetic scans.

    Returns
    -------
    list of Calibration
        One for each fold.
    """
    return [
        calibrate_people((one for other in people if other is not own for one in other), scans)
        for own, scans in zip(people, synthetic, strict=True)
    ]


def calibrate_people(
    people: Iterable[Sequence[Prediction]], synthetic: Sequence[Prediction] = ()
) -> Calibration:
    """Choose the operating point on all scans, and fit the uncertainty on the real ones.

    Parameters
    ----------
    people
        The predictions of each participant.
    synthetic
        Those of synthetic scans.

    Returns
    -------
    Calibration
        With what could be fitted.

    Raises
    ------
    ValueError
        When there is no scan.
    """
    real = list(people)
    return fit_uncertainty(fit_calibration(weight_participants(real, synthetic)), real)


def weight_participants(
    people: Sequence[Sequence[Prediction]], synthetic: Sequence[Prediction]
) -> list[Prediction]:
    """Weight n participants together by n / (n + `FEW`), and synthetic scans by the rest.

    The operating point that is best for a single patient, with few lesions or with many, is bad for
    others. The predictions of a participant, of all scans and some choices of contrasts, share the
    participant's weight.
    """
    part = len(people) / (len(people) + FEW) if synthetic else 1.0
    shares = [(own, part / len(people)) for own in people] + [(synthetic, 1 - part)]
    return [replace(one, weight=share / len(group)) for group, share in shares for one in group]


def _read_participants(fold: Fold, recipe: Recipe) -> list[list[Prediction]]:
    """Read the predictions of each participant who is left out."""
    people: dict[str, list[Prediction]] = {}
    for case in fold.tested:
        paths = [fold.prediction(case, names) for names in contrast_subsets(case.contrasts, recipe)]
        own = people.setdefault(case.participant, [])
        own.extend(read_prediction(path).crop() for path in paths)
    return list(people.values())
