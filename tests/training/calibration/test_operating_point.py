"""The operating point is found that makes the best lesions of simulated predictions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.metrics.overlap import count_lesions, dice
from cascade_bids.training.calibration.operating_point import (
    PEAKS,
    SIZES_MM3,
    THRESHOLDS,
    _measure,
    choose_operating_point,
)
from cascade_bids.training.calibration.out_of_fold import Prediction

from .test_calibrate import SHAPE, lesions_and_specks


def test_rims_are_taken_and_specks_are_left():
    scans = [lesions_and_specks(seed) for seed in range(4)]
    operating_point = choose_operating_point(scans)
    for one in scans:
        np.testing.assert_array_equal(one.label(operating_point) > 0, one.lesions)


def test_in_a_scan_without_lesions_nothing_is_to_be_found():
    healthy = Prediction(np.full(SHAPE, 0.3, np.float32), np.zeros(SHAPE, bool))
    chosen = choose_operating_point([healthy])
    assert max(chosen.threshold, chosen.min_peak) > 0.3


def test_what_is_nowhere_sure_is_left_out():
    truth = np.zeros(SHAPE, bool)
    truth[5:10, 5:10, 5:10] = True
    probability = np.where(truth, 0.35, 0.05).astype(np.float32)
    probability[7, 7, 7] = 0.75
    # As large as the lesion and as bright, but for its middle.
    probability[18:23, 18:23, 18:23] = 0.35
    chosen = choose_operating_point([Prediction(probability, truth)])
    assert chosen == OperatingPoint(0.2, 3.0, min_peak=0.5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    threshold=st.sampled_from(THRESHOLDS),
    smallest=st.sampled_from(SIZES_MM3),
    peak=st.sampled_from(PEAKS),
)
def test_quality_is_that_of_the_mask(seed, threshold, smallest, peak):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    probability = np.clip(0.4 + 2 * smooth / smooth.std() / 6, 0, 1)
    truth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5) + smooth > 2.2 * smooth.std()
    one = Prediction(probability, truth)
    mask = one.label(OperatingPoint(threshold, smallest, peak)) > 0
    found, true = int(mask.sum()), int(truth.sum())
    similarity = 1 - abs(found - true) / (found + true)
    expected = (dice(mask, truth) + count_lesions(mask, truth).lf1 + similarity) / 3
    assert _measure(one, threshold).quality(smallest, peak) == pytest.approx(expected)
