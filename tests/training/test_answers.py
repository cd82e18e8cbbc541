"""What a fold is calibrated on: the other folds' scans and its own samples."""

from pathlib import Path

import numpy as np
import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.training.answers import calibrate, choose_hidden, keep, read, weigh
from cascade_bids.training.cases import Case
from cascade_bids.training.folds import part
from cascade_bids.training.held_out import HeldOut
from cascade_bids.training.recipes import RECIPES

SHAPE = (16, 16, 16)


def answer(threshold: float, seed: int) -> HeldOut:
    """A scan whose lesion is found best with one threshold, at which its truth is cut."""
    rng = np.random.default_rng(seed)
    place = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - 7.5, axis=-1)
    probability = np.clip(1 - place / 9 + rng.normal(0, 0.002, SHAPE), 0.001, 0.999)
    return HeldOut(probability.astype(np.float32), probability >= threshold)


def fold_of(tmp_path: Path, **thresholds: float):
    cases = [Case(Scan(name, None, None), tmp_path, ("FLAIR",)) for name in thresholds]
    folds = part(cases, "loo", tmp_path / "folds")
    for seed, (fold, threshold) in enumerate(zip(folds, thresholds.values(), strict=True)):
        keep(answer(threshold, seed), fold.answer(fold.tested[0]))
    return folds


def test_answers_are_kept_as_they_are(tmp_path):
    one = answer(0.5, 0)
    keep(one, tmp_path / "x" / "one.npz")
    back = read(tmp_path / "x" / "one.npz")
    np.testing.assert_array_equal(back.probability, one.probability)
    np.testing.assert_array_equal(back.lesions, one.lesions)


def test_scans_weigh_more_against_samples_the_more_there_are():
    scan, samples = [answer(0.5, 0)], [answer(0.5, 1)] * 4
    assert [one.weight for one in weigh([scan] * 3, samples)] == pytest.approx(
        [1 / 4] * 3 + [1 / 16] * 4
    )
    few = [one.weight for one in weigh([scan], samples)]
    assert few == pytest.approx([1 / 2] + [1 / 8] * 4)
    assert [one.weight for one in weigh([scan] * 2, [])] == [0.5, 0.5]
    both = [one.weight for one in weigh([scan * 2, scan], samples)]
    assert both == pytest.approx([1 / 6, 1 / 6, 1 / 3] + [1 / 12] * 4)


def test_a_fold_is_not_calibrated_on_its_own_scans(tmp_path):
    folds = fold_of(tmp_path, a=0.3, b=0.5)
    (of_a, of_b), overall = calibrate(RECIPES["cascade"], folds)
    assert of_a.threshold > of_b.threshold  # each has the other's
    assert overall is not None


def test_a_scan_is_asked_about_with_fewer_contrasts_too():
    contrasts = ("T1w", "FLAIR", "T2w")
    asked = choose_hidden(contrasts, RECIPES["cascade"])
    assert asked == [(), ("T1w",), ("T2w",), ("T1w", "T2w")]
    assert choose_hidden(contrasts, RECIPES["valverde2017"]) == [()]
    assert choose_hidden(("FLAIR",), RECIPES["cascade"]) == [()]


def test_own_samples_take_part(tmp_path):
    folds = fold_of(tmp_path, a=0.5, b=0.8)
    before = calibrate(RECIPES["cascade"], folds)[0][0]
    for number in range(3):
        keep(answer(0.2, number), folds[0].samples / f"{number}.npz")
    after = calibrate(RECIPES["cascade"], folds)[0]
    assert after[0].threshold < before.threshold


def test_published_methods_keep_their_rule(tmp_path):
    folds = fold_of(tmp_path, a=0.2, b=0.8)
    calibrations, overall = calibrate(RECIPES["msseg2016"], folds)
    assert [(c.temperature, c.threshold, c.min_lesion_mm3) for c in calibrations] == [
        (1.0, 0.5, 30.0)
    ] * 2
    assert overall is None
