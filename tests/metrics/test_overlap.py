import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_panoptic_quality
from skimage.measure import label
from sklearn.metrics import f1_score, precision_score, recall_score

from cascade_bids.metrics.overlap import (
    LesionCounts,
    count_lesions,
    dice,
    lesion_detection,
    lesion_f1,
    mean_displacement_mm,
    positive_predictive_value,
    sensitivity,
)

few = settings(max_examples=25, derandomize=True, deadline=None)
masks = arrays(bool, (5, 4, 6))
sparse = arrays(bool, (9, 8, 7), elements=st.integers(0, 7).map(lambda number: number == 0))
CORE, WHOLE = np.zeros((2, 5, 5, 5), bool)
CORE[1:3, 1:3, 1:3] = WHOLE[1:4, 1:4, 1:4] = True
matrices = arrays(np.float64, (3, 4), elements=st.floats(-2, 2, width=16))


def affine(rows):
    return np.vstack([rows, [0, 0, 0, 1]])


def test_dice_of_half_overlap():
    a, b = np.zeros((2, 4, 4, 4), bool)
    a[0, 0, :2] = True
    b[0, 0, 1:3] = True
    assert dice(a, b) == 0.5


def test_dice_of_empty_masks():
    empty, full = np.zeros((2, 2, 2)), np.ones((2, 2, 2))
    assert dice(empty, empty) == 1.0
    assert dice(empty, full) == 0.0


@few
@given(masks, masks, st.permutations(range(3)), st.integers(0, 2))
def test_dice_is_symmetric_and_does_not_care_for_orientation(a, b, order, axis):
    expected = dice(a, b)
    assert 0 <= expected <= 1
    assert dice(b, a) == expected
    assert dice(a, a) == 1
    assert dice(np.flip(a.transpose(order), axis), np.flip(b.transpose(order), axis)) == expected


def test_ppv_and_sensitivity_of_a_mask_that_is_too_large():
    ref, pred = np.zeros((2, 4, 4, 4), bool)
    ref[0, 0, :2] = True
    pred[0, 0] = pred[1, 0] = True
    assert positive_predictive_value(pred, ref) == 2 / 8
    assert sensitivity(pred, ref) == 1
    assert (positive_predictive_value(ref, pred), sensitivity(ref, pred)) == (1, 2 / 8)


def test_ppv_and_sensitivity_of_empty_masks():
    empty, full = np.zeros((2, 2, 2)), np.ones((2, 2, 2))
    assert (positive_predictive_value(empty, empty), sensitivity(empty, empty)) == (1, 1)
    assert (positive_predictive_value(full, empty), sensitivity(full, empty)) == (0, 1)
    assert (positive_predictive_value(empty, full), sensitivity(empty, full)) == (1, 0)


@few
@given(masks.filter(np.any), masks.filter(np.any))
def test_voxel_measures_agree_with_scikit_learn(pred, ref):
    given_masks = ref.ravel(), pred.ravel()
    assert dice(pred, ref) == pytest.approx(f1_score(*given_masks))
    assert positive_predictive_value(pred, ref) == pytest.approx(precision_score(*given_masks))
    assert sensitivity(pred, ref) == pytest.approx(recall_score(*given_masks))


@few
@given(masks, masks)
def test_dice_agrees_with_monai(a, b):
    batch = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
    # MONAI leaves the Dice of two empty masks open unless it is told to take 1, as it is here.
    options = {"include_background": True, "ignore_empty": False}
    assert dice(a, b) == pytest.approx(compute_dice(*batch, **options).item())


def test_lesion_detection_counts_lesions_not_voxels():
    ref, pred = np.zeros((2, 12, 5, 5), bool)
    ref[0:4, 0:4, 0:4] = True  # found by one voxel
    ref[6, 0, 0] = True  # missed
    pred[3, 3, 3] = True  # true
    pred[8, 4, 4] = pred[9, 3, 3] = True  # one false lesion, joined by a corner
    pred[11, 0, 0] = True  # another false lesion
    assert lesion_detection(pred, ref) == (1 / 2, 2 / 3)
    assert count_lesions(pred, ref) == LesionCounts(found=1, reference=2, true=1, predicted=3)
    assert count_lesions(pred, ref).lf1 == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_lesion_detection_without_lesions():
    empty, full = np.zeros((2, 2, 2)), np.ones((2, 2, 2))
    assert lesion_detection(empty, empty) == (1.0, 0.0)
    assert lesion_detection(full, empty) == (1.0, 1.0)
    assert lesion_detection(empty, full) == (0.0, 0.0)
    assert count_lesions(empty, empty).lf1 == 1
    assert count_lesions(full, empty).lf1 == 0
    assert count_lesions(empty, full).lf1 == 0


@few
@given(masks, masks, st.permutations(range(3)), st.integers(0, 2))
def test_lesion_detection_does_not_care_for_orientation(pred, ref, order, axis):
    turned = [np.flip(mask.transpose(order), axis) for mask in (pred, ref)]
    assert lesion_detection(*turned) == lesion_detection(pred, ref)
    assert lesion_detection(ref, ref) == (1.0, 0.0)


def match_in_monai(pred, ref, iou):
    """Count matched, false and missed lesions, by scikit-image's lesions and MONAI's matching."""
    instances = [torch.from_numpy(label(mask, connectivity=3)) for mask in (pred, ref)]
    # MONAI can't do without lesions in either mask.
    assert all(lesions.any() for lesions in instances)
    counts = compute_panoptic_quality(
        *instances, match_iou_threshold=iou, output_confusion_matrix=True
    )
    return [int(count) for count in counts[:3]]


@few
@given(sparse.filter(np.any), sparse.filter(np.any))
def test_lesion_counts_agree_with_the_matching_of_monai(pred, ref):
    """MONAI pairs each lesion with one other at most; here one may find several.

    So the number of its pairs, at any overlap, is at most that of found and of true lesions. They
    are equal where no lesion touches two others. The totals are always the same.
    """
    counts = count_lesions(pred, ref)
    pairs, false, missed = match_in_monai(pred, ref, iou=1e-6)
    assert (pairs + missed, pairs + false) == (counts.reference, counts.predicted)
    assert pairs <= min(counts.found, counts.true)
    assert (pairs == 0) == (counts.found == 0) == (counts.true == 0)


@few
@given(arrays(bool, (3, 3, 3)).filter(np.any), arrays(bool, (3, 3, 3)))
def test_lesion_counts_are_those_of_monai_where_each_touches_one_other(first, second):
    """Each lesion in a cell of its own, larger in the prediction."""
    ref, pred = (np.kron(cells, block) > 0 for cells, block in ((first, CORE), (second, WHOLE)))
    counts = count_lesions(pred, ref)
    found = int((first & second).sum())
    assert counts == LesionCounts(found, int(first.sum()), found, int(second.sum()))
    if second.any():
        pairs, false, missed = match_in_monai(pred, ref, iou=1e-6)
        assert (counts.found, counts.predicted - counts.true) == (pairs, false)
        assert counts.reference - counts.found == missed
        # By the usual rule of panoptic quality, more than half, 8 of 27 voxels are too few.
        assert match_in_monai(pred, ref, iou=0.5)[0] == 0


@pytest.mark.parametrize(
    ("ltpr", "lfpr", "published"), [(0.533, 0.122, 0.663), (0.917, 0.301, 0.793)]
)
def test_lesion_f1_is_that_of_published_results(ltpr, lfpr, published):
    # ALL-Net on ISBI-2015 and on the Cornell data, doi 10.1016/j.nicl.2021.102854
    assert lesion_f1(ltpr, 1 - lfpr) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(
    "measure", [dice, lesion_detection, positive_predictive_value, sensitivity, count_lesions]
)
def test_masks_on_different_grids_are_refused(measure):
    with pytest.raises(ValueError, match="different grids"):
        measure(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))


def test_displacement_of_a_rotation_about_z():
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])  # half a turn
    points = np.array([[10.0, 0, 5], [0, 20, -5]])
    assert mean_displacement_mm(np.eye(4), turned, points) == pytest.approx(30)


def test_displacement_without_points_is_refused():
    with pytest.raises(ValueError, match="at least one point"):
        mean_displacement_mm(np.eye(4), np.eye(4), np.zeros((0, 3)))


@few
@given(matrices, matrices, matrices)
def test_displacement_is_a_distance(first, second, third):
    points = np.random.default_rng(0).normal(0, 50, (20, 3))
    a, b, c = affine(first), affine(second), affine(third)
    assert mean_displacement_mm(a, a, points) == 0
    assert mean_displacement_mm(a, b, points) == mean_displacement_mm(b, a, points)
    direct = mean_displacement_mm(a, c, points)
    detour = mean_displacement_mm(a, b, points) + mean_displacement_mm(b, c, points)
    assert direct <= detour + 1e-9
