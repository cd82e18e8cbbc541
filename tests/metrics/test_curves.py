import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from cascade_bids.metrics.curves import (
    LESION_THRESHOLDS,
    VOXEL_THRESHOLDS,
    average_precision,
    count_at_thresholds,
    lesion_roc,
    lesion_roc_area,
    precision_recall,
)
from cascade_bids.metrics.overlap import count_lesions, positive_predictive_value, sensitivity

few = settings(max_examples=25, derandomize=True, deadline=None)
refs = arrays(bool, (4, 5, 3)).filter(np.any)
maps = arrays(np.float32, (4, 5, 3), elements=st.integers(0, 20).map(lambda k: np.float32(k / 20)))


@few
@given(maps, refs)
def test_counts_are_those_of_the_thresholded_masks(probability, ref):
    counts = count_at_thresholds(probability, ref)
    recall, precision = precision_recall(counts)
    for k, threshold in enumerate(np.float32(VOXEL_THRESHOLDS[::-1])):
        if k % 97 == 0:
            mask = probability >= threshold
            assert recall[k] == sensitivity(mask, ref)
            assert precision[k] == positive_predictive_value(mask, ref)
    for row, threshold in zip(counts.lesions, np.float32(LESION_THRESHOLDS), strict=True):
        lesions = count_lesions(probability >= threshold, ref)
        assert row.tolist() == [
            lesions.found,
            lesions.reference,
            lesions.true,
            lesions.predicted,
        ]


@few
@given(maps, refs)
def test_average_precision_agrees_with_scikit_learn(probability, ref):
    probability = np.maximum(probability, np.float32(0.05) * ref)  # none below the thresholds
    expected = average_precision_score(ref.ravel(), probability.ravel())
    assert average_precision(count_at_thresholds(probability, ref)) == pytest.approx(expected)


@few
@given(maps, refs)
def test_lesion_roc_rises_from_0_to_1_and_keeps_the_best(probability, ref):
    counts = count_at_thresholds(probability, ref)
    lfpr, ltpr = lesion_roc(counts)
    assert (lfpr[0], lfpr[-1]) == (0, 1)
    assert (np.diff(lfpr) > 0).all()
    assert (np.diff(ltpr) >= 0).all()
    for row in counts.lesions:
        found, reference, true, predicted = row
        reached = ltpr[np.searchsorted(lfpr, 1 - true / predicted if predicted else 0)]
        assert reached >= found / reference
    assert 0 <= lesion_roc_area(counts) <= 1


def test_lesion_roc_of_known_truth():
    ref = np.zeros((12, 3, 3), bool)
    ref[0, 0, 0] = ref[4, 0, 0] = True
    probability = np.zeros(ref.shape, np.float32)
    probability[0, 0, 0], probability[8, 0, 0], probability[4, 0, 0] = 0.92, 0.72, 0.52
    counts = count_at_thresholds(probability, ref)
    lfpr, ltpr = lesion_roc(counts)
    # Half of the lesions are had for nothing, both for one false lesion in three.
    np.testing.assert_allclose(lfpr, [0, 1 / 3, 1 / 2, 1])
    np.testing.assert_allclose(ltpr, [1 / 2, 1, 1, 1])
    assert lesion_roc_area(counts) == pytest.approx(1 / 3 * 1 / 2 + 2 / 3)


def test_perfect_and_silent_maps():
    ref = np.zeros((5, 5, 5), np.uint8)
    ref[1, 1, 1] = 1
    perfect = count_at_thresholds(ref.astype(np.float32), ref)
    silent = count_at_thresholds(np.zeros(ref.shape, np.float32), ref)
    assert (average_precision(perfect), lesion_roc_area(perfect)) == (1, 1)
    assert (average_precision(silent), lesion_roc_area(silent)) == (0, 0)


def test_empty_reference_has_no_areas():
    for probability in np.zeros((3, 3, 3), np.float32), np.ones((3, 3, 3), np.float32):
        counts = count_at_thresholds(probability, np.zeros((3, 3, 3)))
        assert np.isnan([average_precision(counts), lesion_roc_area(counts)]).all()
        assert np.isnan(lesion_roc(counts)).all()


def test_stored_thresholds_belong_to_the_lesion():
    ref = np.zeros((3, 3, 3), bool)
    ref[1, 1, 1] = True
    for k, threshold in enumerate(LESION_THRESHOLDS):
        counts = count_at_thresholds(np.where(ref, np.float32(threshold), np.float32(0)), ref)
        assert counts.lesions[:, 0].tolist() == [1] * (k + 1) + [0] * (18 - k)


@few
@given(maps, refs, maps, refs)
def test_sum_of_counts_pools_voxels_and_lesions(map_a, ref_a, map_b, ref_b):
    gap = np.zeros((4, 5, 1))  # keeps the lesions of the two apart
    both = count_at_thresholds(
        np.concatenate([map_a, gap, map_b], axis=2).astype(np.float32),
        np.concatenate([ref_a, gap, ref_b], axis=2),
    )
    total = count_at_thresholds(map_a, ref_a) + count_at_thresholds(map_b, ref_b)
    assert total.reference_voxels == both.reference_voxels
    for name in ("true_voxels", "predicted_voxels", "lesions"):
        np.testing.assert_array_equal(getattr(total, name), getattr(both, name))


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_values_that_are_no_probability_are_refused(value):
    with pytest.raises(ValueError, match="outside"):
        count_at_thresholds(np.full((2, 2, 2), value, np.float32), np.ones((2, 2, 2)))


def test_map_on_another_grid_is_refused():
    with pytest.raises(ValueError, match="different grids"):
        count_at_thresholds(np.ones((2, 2, 2)), np.ones((2, 2, 3)))
