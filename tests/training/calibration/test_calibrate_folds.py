"""What a fold is calibrated on: the other folds' scans and its own synthetic ones."""

import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.cases import Case
from cascade_bids.training.calibration.calibrate import calibrate_folds, weight_participants
from cascade_bids.training.calibration.out_of_fold import write_prediction
from cascade_bids.training.folds import split_cases
from cascade_bids.training.recipes import RECIPES

from .simulated import simulate_prediction


def make_folds(folder, **thresholds):
    """Make a fold of each participant, whose scan is found best with one threshold."""
    cases = [Case(Scan(name, None, None), folder, ("FLAIR",)) for name in thresholds]
    folds = split_cases(cases, "loo", folder / "folds")
    for seed, (fold, threshold) in enumerate(zip(folds, thresholds.values(), strict=True)):
        write_prediction(simulate_prediction(threshold, seed), fold.prediction(fold.tested[0]))
    return folds


def test_participants_weigh_more_against_synthetic_scans_the_more_there_are():
    scan, synthetic = [simulate_prediction(0.5, 0)], [simulate_prediction(0.5, 1)] * 4

    def weights(*arguments):
        return [one.weight for one in weight_participants(*arguments)]

    assert weights([scan] * 3, synthetic) == pytest.approx([1 / 4] * 3 + [1 / 16] * 4)
    assert weights([scan], synthetic) == pytest.approx([1 / 2] + [1 / 8] * 4)
    assert weights([scan] * 2, []) == [0.5, 0.5]
    both = weights([scan * 2, scan], synthetic)
    assert both == pytest.approx([1 / 6, 1 / 6, 1 / 3] + [1 / 12] * 4)


def test_a_fold_is_not_calibrated_on_its_own_scans(tmp_path):
    folds = make_folds(tmp_path, a=0.3, b=0.5)
    (of_a, of_b), overall = calibrate_folds(RECIPES["perceptrons"], folds)
    # Each has the other's.
    assert of_a.operating_point.threshold > of_b.operating_point.threshold
    assert overall is not None


def test_own_synthetic_scans_take_part(tmp_path):
    folds = make_folds(tmp_path, a=0.5, b=0.8)
    before = calibrate_folds(RECIPES["perceptrons"], folds)[0][0]
    for number in range(3):
        write_prediction(simulate_prediction(0.2, number), folds[0].synthetic / f"{number}.npz")
    after = calibrate_folds(RECIPES["perceptrons"], folds)[0][0]
    assert after.operating_point.threshold < before.operating_point.threshold


def test_published_methods_keep_their_operating_point(tmp_path):
    folds = make_folds(tmp_path, a=0.2, b=0.8)
    calibrations, overall = calibrate_folds(RECIPES["msseg2016"], folds)
    published = OperatingPoint(0.5, 30.0, min_peak=0.5)
    assert [one.operating_point for one in calibrations] == [published] * 2
    assert overall is None
