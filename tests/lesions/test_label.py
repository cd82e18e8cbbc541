import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade_bids.lesions.label import OperatingPoint, label_lesions, measure_dropped

few = settings(max_examples=25, derandomize=True, deadline=None)
maps = arrays(np.float32, (5, 6, 4), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1]))


def label(probability, *, threshold=0.5, min_lesion_mm3=0.0, voxel_mm3=1.0, min_peak=0.0):
    return label_lesions(
        np.asarray(probability, np.float32),
        OperatingPoint(threshold, min_lesion_mm3, min_peak),
        voxel_mm3=voxel_mm3,
    )


def test_the_threshold_itself_is_lesion():
    probability = np.zeros((3, 3, 3))
    probability[1, 1, 1] = 0.1
    assert label(probability, threshold=0.1).sum() == 1
    assert label(probability, threshold=0.11).sum() == 0


def test_voxels_that_share_a_corner_are_one_lesion():
    probability = np.zeros((4, 4, 4))
    probability[0, 0, 0] = probability[1, 1, 1] = 1
    probability[3, 3, 3] = 1
    labels = label(probability)
    assert labels[0, 0, 0] == labels[1, 1, 1] == 1
    assert labels[3, 3, 3] == 2


def test_numbers_descend_with_volume_and_ties_go_by_first_voxel():
    probability = np.zeros((9, 3, 3))
    probability[0, 0, 0] = 1
    probability[3:6, 0, 0] = 1
    probability[8, 0, 0] = 1
    labels = label(probability)
    assert labels[3, 0, 0] == 1
    assert labels[0, 0, 0] == 2
    assert labels[8, 0, 0] == 3
    assert labels.dtype == np.int32


def test_small_lesions_go_and_the_others_are_numbered_without_gaps():
    probability = np.zeros((9, 3, 3))
    probability[0:2, 0, 0] = 1
    probability[4, 0, 0] = 1
    probability[6:9, 0, 0] = 1
    labels = label(probability, min_lesion_mm3=6, voxel_mm3=3)
    assert labels[4, 0, 0] == 0
    assert labels[6, 0, 0] == 1
    assert labels[0, 0, 0] == 2


def test_an_affine_in_single_precision_does_not_cost_a_lesion():
    probability = np.zeros((12, 3, 3))
    probability[0:10, 1, 1] = 1
    assert label(probability, min_lesion_mm3=10, voxel_mm3=0.99999994).max() == 1


def test_lesions_below_the_smallest_peak_are_dropped():
    probability = np.zeros((9, 3, 3))
    probability[0:5, 0, 0] = 0.5
    probability[6:9, 0, 0] = 0.5
    probability[7, 0, 0] = 0.75
    labels = label(probability, min_peak=0.75)
    assert (labels[6:9, 0, 0] == 1).all()
    assert (labels > 0).sum() == 3
    assert label(probability, min_peak=0.76).max() == 0
    assert label(probability, min_peak=0.1).max() == 2


@pytest.mark.parametrize("wrong", [np.nan, -0.01, 1.01, np.inf])
def test_values_that_are_no_probability_are_refused(wrong):
    probability = np.zeros((3, 3, 3))
    probability[1, 2, 0] = wrong
    with pytest.raises(ValueError, match="NaN or values outside"):
        label(probability)


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"min_lesion_mm3": -1}, "volumes"),
        ({"voxel_mm3": 0}, "volumes"),
        ({"min_peak": 1.01}, "peak"),
        ({"min_peak": -0.1}, "peak"),
        ({"voxel_mm3": float("nan")}, "volumes"),
    ],
)
def test_settings_out_of_range_are_refused(settings_given, message):
    with pytest.raises(ValueError, match=message):
        label(np.zeros((3, 3, 3)), **settings_given)


def test_four_axes_are_refused():
    with pytest.raises(ValueError, match="3 axes"):
        label(np.zeros((3, 3, 3, 1)))


@few
@given(maps, st.sampled_from([0.0, 2.0, 5.0]))
def test_what_is_kept_is_above_threshold_and_large_enough(probability, minimum):
    labels = label(probability, min_lesion_mm3=minimum)
    sizes = np.bincount(labels.ravel())[1:]
    assert (probability[labels > 0] >= 0.5).all()
    assert (sizes >= max(minimum, 1)).all()
    assert (np.diff(sizes) <= 0).all()


@few
@given(maps, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_turning_the_map_turns_the_lesions(probability, order, flipped):
    def turn(array):
        return np.flip(array.transpose(order), axis=tuple(flipped))

    before, after = (
        turn(label(probability, min_lesion_mm3=2)),
        label(turn(probability), min_lesion_mm3=2),
    )
    # Ties may be numbered differently, so compare which voxels go together.
    pairs = np.unique(np.stack([before.ravel(), after.ravel()]), axis=1)
    assert pairs.shape[1] == before.max() + (before == 0).any()
    np.testing.assert_array_equal(np.bincount(before.ravel()), np.bincount(after.ravel()))


def test_what_each_rule_drops_is_told():
    probability = np.zeros((12, 3, 3))
    probability[0:2, 0, 0] = 0.9  # too small
    probability[3:7, 0, 0] = 0.6  # unsure
    probability[8, 0, 0] = 0.6  # both
    probability[10:12, :, 0] = 0.9
    point = OperatingPoint(0.5, 9, 0.8)
    assert measure_dropped(probability, point, voxel_mm3=3) == {
        "smallest_peak": {"count": 2, "load_ml": pytest.approx(0.015)},
        "smallest_lesion": {"count": 1, "load_ml": pytest.approx(0.006)},
    }
    assert label_lesions(probability, point, voxel_mm3=3).max() == 1


@few
@given(maps, st.sampled_from([0.0, 4.0, 9.0]), st.sampled_from([0.0, 0.5, 0.75, 1.0]))
def test_dropped_and_kept_are_all_that_reaches_the_threshold(probability, size, peak):
    point = OperatingPoint(0.5, size, peak)
    kept = np.count_nonzero(label_lesions(probability, point, voxel_mm3=2))
    dropped = measure_dropped(probability, point, voxel_mm3=2)
    volume = kept * 2 / 1000 + sum(rule["load_ml"] for rule in dropped.values())
    assert volume == pytest.approx(np.count_nonzero(probability >= 0.5) * 2 / 1000)
