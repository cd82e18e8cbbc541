"""Predictions of scans that a method has not learned from: which there are, and how they are kept.

Predictions of synthetic scans are tested with healthy scans.
"""

import numpy as np

from cascade_bids.training.calibration.out_of_fold import (
    contrast_subsets,
    read_prediction,
    write_prediction,
)
from cascade_bids.training.recipes import RECIPES

from .simulated import simulate_prediction


def test_predictions_are_kept_as_they_are(tmp_path):
    one = simulate_prediction(0.5, 0)
    write_prediction(one, tmp_path / "x" / "one.npz")
    back = read_prediction(tmp_path / "x" / "one.npz")
    np.testing.assert_array_equal(back.probability, one.probability)
    np.testing.assert_array_equal(back.lesions, one.lesions)


def test_a_scan_is_predicted_with_fewer_contrasts_too():
    contrasts = ("T1w", "FLAIR", "T2w")
    subsets = contrast_subsets(contrasts, RECIPES["cascade"])
    assert subsets == [(), ("T1w",), ("T2w",), ("T1w", "T2w")]
    assert contrast_subsets(contrasts, RECIPES["valverde2017"]) == [()]
    assert contrast_subsets(("FLAIR",), RECIPES["cascade"]) == [()]
