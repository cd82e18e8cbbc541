"""The rule is found that makes the best lesions of simulated answers."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cascade_bids.lesions.metrics import count_lesions, dice
from cascade_bids.training.held_out import HeldOut
from cascade_bids.training.rules import PEAKS, SIZES_MM3, THRESHOLDS, _measure, choose_rule

from .test_calibration import SHAPE, lesions_and_specks


def test_the_rule_takes_rims_and_leaves_specks():
    scans = [lesions_and_specks(seed) for seed in range(4)]
    threshold, smallest, peak = choose_rule(scans)
    rule = SimpleNamespace(threshold=threshold, min_lesion_mm3=smallest, peak=peak)
    for one in scans:
        np.testing.assert_array_equal(one.label(rule) > 0, one.lesions)


def test_a_scan_without_lesions_asks_for_finding_none():
    healthy = HeldOut(np.full(SHAPE, 0.3, np.float32), np.zeros(SHAPE, bool))
    threshold, _, peak = choose_rule([healthy])
    assert max(threshold, peak) > 0.3


def test_what_is_nowhere_sure_is_left_out():
    truth = np.zeros(SHAPE, bool)
    truth[5:10, 5:10, 5:10] = True
    probability = np.where(truth, 0.35, 0.05).astype(np.float32)
    probability[7, 7, 7] = 0.75
    # As large as the lesion and as bright, but for its middle.
    probability[18:23, 18:23, 18:23] = 0.35
    rule = choose_rule([HeldOut(probability, truth)])
    assert rule == (0.2, 3.0, 0.5)


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
    one = HeldOut(probability, truth)
    rule = SimpleNamespace(threshold=threshold, min_lesion_mm3=smallest, peak=peak)
    mask = one.label(rule) > 0
    found, true = int(mask.sum()), int(truth.sum())
    similarity = 1 - abs(found - true) / (found + true)
    expected = (dice(mask, truth) + count_lesions(mask, truth).lf1 + similarity) / 3
    assert _measure(one, threshold).quality(smallest, peak) == pytest.approx(expected)
