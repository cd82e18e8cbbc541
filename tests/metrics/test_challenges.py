import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade_bids.metrics.challenges import (
    isbi2015_normalised,
    isbi2015_score,
    miccai2008_score,
    msseg2016_detection,
    volume_difference_percent,
)

few = settings(max_examples=25, derandomize=True, deadline=None)
masks = arrays(bool, (6, 5, 7))


# --- ISBI-2015 ---


def test_isbi2015_weighs_detection_and_volume_twice_as_much_as_overlap():
    worst = {"dsc": 0, "ppv": 0, "ltpr": 0, "lfpr": 1, "volume_correlation": 0}
    best = {"dsc": 1, "ppv": 1, "ltpr": 1, "lfpr": 0, "volume_correlation": 1}
    assert isbi2015_score(**worst) == 0
    gains = {name: isbi2015_score(**{**worst, name: best[name]}) for name in worst}
    assert gains == {
        "dsc": 1 / 8,
        "ppv": 1 / 8,
        "ltpr": 1 / 4,
        "lfpr": 1 / 4,
        "volume_correlation": 1 / 4,
    }


def test_isbi2015_normalised_gives_a_second_rater_90():
    assert isbi2015_normalised(0.7, inter_rater=0.7) == pytest.approx(90)
    assert isbi2015_normalised(1, inter_rater=0.7) == 100
    with pytest.raises(ValueError, match="below 1"):
        isbi2015_normalised(0.5, inter_rater=1)


@pytest.mark.parametrize(
    ("published", "measures"),
    [
        (93.32, (0.639, 0.914, 0.533, 0.122, 0.860)),  # ALL-Net
        (91.33, (0.630, 0.787, 0.367, 0.153, 0.866)),  # cascade
    ],
)
def test_isbi2015_normalised_comes_near_published_results(published, measures):
    # doi 10.1016/j.nicl.2021.102854
    names = ("dsc", "ppv", "ltpr", "lfpr", "volume_correlation")
    score = isbi2015_score(**dict(zip(names, measures, strict=True)))
    assert isbi2015_normalised(score) == pytest.approx(published, abs=0.11)


# --- MICCAI-2008 ---


def test_volume_difference_is_absolute_and_relative_to_the_reference():
    assert volume_difference_percent(3, 4) == 25
    assert volume_difference_percent(5, 4) == 25
    assert volume_difference_percent(0, 4) == 100
    assert volume_difference_percent(0, 0) == 0
    assert volume_difference_percent(1, 0) == math.inf


def test_miccai2008_components_count_alike_and_do_not_fall_below_0():
    perfect = {"volume_difference_percent": 0, "assd_mm": 0, "ltpr": 1, "lfpr": 0}
    assert miccai2008_score(**perfect) == 100
    for rater in (
        {"volume_difference_percent": 68},
        {"assd_mm": 4.9},
        {"ltpr": 0.68},
        {"lfpr": 0.32},
    ):
        assert miccai2008_score(**{**perfect, **rater}) == pytest.approx((3 * 100 + 90) / 4)
    assert miccai2008_score(**{**perfect, "volume_difference_percent": math.inf}) == 75
    assert miccai2008_score(**{**perfect, "assd_mm": 500}) == 75


def test_miccai2008_of_one_empty_mask_is_as_documented():
    no_reference = {"volume_difference_percent": math.inf, "assd_mm": 49, "ltpr": 1, "lfpr": 1}
    no_prediction = {"volume_difference_percent": 100, "assd_mm": 49, "ltpr": 0, "lfpr": 0}
    assert miccai2008_score(**no_reference) == pytest.approx(42.2, abs=0.05)
    assert miccai2008_score(**no_prediction) == pytest.approx(63.5, abs=0.05)


# --- MSSEG-2016 ---


def detect(pred, ref, **options):
    return msseg2016_detection(pred, ref, voxel_mm3=1, **{"ignored_mm3": 0, **options})


def line(length, *parts):
    """Masks along one axis, 3D: voxels from to in each pair."""
    mask = np.zeros((length, 1, 1), bool)
    for start, stop in parts:
        mask[start:stop] = True
    return mask


def test_msseg2016_needs_more_than_a_tenth_of_the_lesion():
    ref = line(40, (0, 20))
    assert detect(line(40, (0, 2)), ref).sensitivity == 0
    assert detect(line(40, (0, 3)), ref).sensitivity == 1


def test_msseg2016_lets_a_prediction_lie_outside_by_seven_tenths():
    ref = line(40, (0, 6))
    assert detect(line(40, (0, 20)), ref).sensitivity == 1  # 14 of 20 outside
    assert detect(line(40, (0, 21)), ref).sensitivity == 0  # 15 of 21 outside


def test_msseg2016_outside_means_outside_all_reference_lesions():
    ref = line(40, (0, 4), (5, 20))
    assert detect(line(40, (0, 20)), ref) == (1, 1, 1)


def test_msseg2016_looks_at_the_largest_parts_until_gamma():
    # Three predictions touch the lesion, by 7, 3 and 2 voxels; only the third is mostly outside.
    ref = line(60, (5, 25))
    pred = line(60, (6, 13), (15, 18), (23, 40))
    assert detect(pred, ref, gamma=0.83) == (1, 1, 1)  # 10 of 12 are enough
    assert detect(pred, ref, gamma=0.84).sensitivity == 0
    # Of the third prediction, 2 of 17 voxels are covered: more than a tenth, not a fifth.
    assert detect(pred, ref, gamma=0.83, alpha=0.2) == pytest.approx((1, 2 / 3, 0.8))


def test_msseg2016_takes_lesions_of_up_to_3_mm3_away():
    ref, pred = line(40, (0, 3), (10, 20)), line(40, (10, 20), (30, 33))
    assert msseg2016_detection(pred, ref, voxel_mm3=1) == (1, 1, 1)
    assert msseg2016_detection(pred, ref, voxel_mm3=1.1) == (1 / 2, 1 / 2, 1 / 2)
    assert msseg2016_detection(pred, ref, voxel_mm3=1 + 1e-7) == (1, 1, 1)


def test_msseg2016_of_empty_masks():
    empty, full = np.zeros((3, 3, 3)), np.ones((3, 3, 3))
    assert detect(empty, empty) == (1, 1, 1)
    assert detect(full, empty) == (1, 0, 0)
    assert detect(empty, full) == (0, 1, 0)


@few
@given(masks, masks, st.permutations(range(3)), st.integers(0, 2))
def test_msseg2016_exchanges_with_the_masks_and_does_not_care_for_orientation(
    pred, ref, order, axis
):
    found = detect(pred, ref)
    assert (found.precision, found.sensitivity) == detect(ref, pred)[:2]
    assert detect(ref, ref) == (1, 1, 1)
    turned = [np.flip(mask.transpose(order), axis) for mask in (pred, ref)]
    # Which of two equally large overlaps counts as the larger is a matter of array order.
    assert detect(*turned, gamma=1) == detect(pred, ref, gamma=1)


@pytest.mark.parametrize("voxel_mm3", [0, -1, np.nan])
def test_msseg2016_refuses_impossible_voxels(voxel_mm3):
    with pytest.raises(ValueError, match="voxels of"):
        msseg2016_detection(np.ones((2, 2, 2)), np.ones((2, 2, 2)), voxel_mm3=voxel_mm3)


def test_msseg2016_refuses_masks_on_different_grids():
    with pytest.raises(ValueError, match="different grids"):
        detect(np.ones((2, 2, 2)), np.ones((2, 2, 3)))
