"""A calibration finds how sure a method may be, on simulated methods whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.probabilities import scale_temperature
from cascade_bids.training.calibration.calibrate import (
    Calibration,
    check_calibration,
    choose_load_factor,
    fit_calibration,
    fit_confidence,
    fit_uncertainty,
)
from cascade_bids.training.calibration.out_of_fold import Prediction

SHAPE = (30, 30, 30)
HALF, LOW = OperatingPoint(0.5, 3.0, 0.5), OperatingPoint(0.4, 3.0, 0.4)


def voxels(seed, sureness):
    """Voxels whose truth is drawn from their logits, as a method predicts that may be too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, SHAPE)
    truth = rng.random(SHAPE) < expit(logits)
    return Prediction(expit(logits * sureness), truth)


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=2), temperature=st.floats(0.25, 4))
def test_a_temperature_keeps_order_and_ends(values, temperature):
    low, high = scale_temperature(np.sort(values), temperature)
    assert 0 <= low <= high <= 1
    ends = scale_temperature(np.array([0.0, 0.5, 1.0], np.float32), temperature)
    assert ends.tolist() == [0, 0.5, 1]
    assert ends.dtype == np.float32


def test_a_prediction_without_candidates_has_no_confidence():
    empty = Prediction(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool))
    assert fit_uncertainty(fit_calibration([empty]), [[empty]]).confidence is None
    with pytest.raises(ValueError, match="needs scans"):
        fit_calibration([])


def lesions_and_specks(seed):
    """Two lesions whose rims have 0.35, and specks of 4 voxels that are none."""
    rng = np.random.default_rng(seed)
    probability = np.full(SHAPE, 0.05, np.float32)
    truth = np.zeros(SHAPE, bool)
    for _ in range(2):
        a, b, c = rng.integers(2, 20, 3)
        truth[a : a + 6, b : b + 6, c : c + 6] = True
        probability[a : a + 6, b : b + 6, c : c + 6] = 0.45
        probability[a + 2 : a + 4, b + 2 : b + 4, c + 2 : c + 4] = 0.95
    for _ in range(6):
        a, b, c = rng.integers(0, 27, 3)
        if not truth[max(0, a - 2) : a + 4, max(0, b - 2) : b + 4, max(0, c - 2) : c + 3].any():
            probability[a : a + 2, b : b + 2, c] = 0.9
    return Prediction(probability, truth)


def test_confidence_tells_lesions_from_specks():
    weights = fit_confidence([lesions_and_specks(seed) for seed in range(6)], LOW)
    assert weights is not None
    assert weights[2] > 0  # larger is surer
    assert fit_confidence([], LOW) is None


def loads(seed):
    """A lesion of uncertain size: the truth is cut at a random level of its probability."""
    rng = np.random.default_rng(seed)
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - 14.5, axis=-1)
    probability = np.clip(1 - distance / rng.uniform(4, 14), 0, 1).astype(np.float32)
    return Prediction(probability, probability >= rng.uniform(0.2, 0.8))


def test_the_interval_holds_new_loads():
    fitted = fit_uncertainty(Calibration(HALF), [[loads(seed)] for seed in range(60)])
    assert fitted.load_factor is not None
    checked = check_calibration([loads(seed) for seed in range(1000, 1200)], fitted)
    assert 0.83 <= checked["coverage"] <= 0.99
    assert 0 < checked["interval_ml"] < 10


def test_few_scans_give_no_interval():
    assert choose_load_factor([[loads(seed)] for seed in range(4)], HALF) is None
    assert choose_load_factor([[loads(seed)] for seed in range(5)], HALF) is not None


def test_scans_of_one_participant_weigh_as_one_in_the_interval():
    people = [[loads(seed)] for seed in range(9)]
    once = choose_load_factor(people, HALF)
    assert choose_load_factor([own * 3 for own in people], HALF) == pytest.approx(once)
    assert choose_load_factor([[one for own in people for one in own]], HALF) is None


def test_the_calibration_error_tells_who_is_too_sure():
    right, too_sure = (
        check_calibration([voxels(0, sureness)], Calibration(HALF)) for sureness in (1.0, 2.5)
    )
    assert right["calibration_error"] < 0.02 < 0.1 < too_sure["calibration_error"]
    assert np.isnan(right["coverage"])


def test_cropping_changes_nothing_that_counts():
    one = lesions_and_specks(0)
    padded = Prediction(np.pad(one.probability, 9), np.pad(one.lesions, 9))
    cropped = padded.crop()
    assert cropped.probability.shape == SHAPE
    assert cropped.load_ml(LOW) == padded.load_ml(LOW)
    assert cropped.true_load_ml == padded.true_load_ml


def test_volumes_are_those_of_the_voxels():
    one = lesions_and_specks(0)
    coarse = replace(one, voxel_mm3=2.5)
    assert coarse.true_load_ml == pytest.approx(2.5 * one.true_load_ml)
    # Specks of 4 voxels are lesions of 10 mm³ now.
    point = OperatingPoint(0.4, 10.0, 0.4)
    assert coarse.load_ml(point) > 2.5 * one.load_ml(point)
