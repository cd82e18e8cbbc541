"""Sessions differ where something changed, and nowhere else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade_bids.change.detect import Changes
from cascade_bids.change.states import judge_together
from cascade_bids.lesions.label import OperatingPoint, label_lesions

from .volumes import box

few = settings(max_examples=40, derandomize=True, deadline=None)
maps = arrays(np.float32, (3, 6, 2, 4), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1]))
# What happens to a voxel in each interval: nothing, it appears, or it is gone.
fates = arrays(int, (2, 6, 2, 4), elements=st.sampled_from([0, 0, 0, 1, -1]))
POINT = OperatingPoint(0.5, 0.0)
SHAPE = (30, 8, 8)
NOTHING = np.zeros(SHAPE, bool)


def judge(probabilities, appeared=None, gone=None, lasting=None, point=POINT, voxel_mm3=1.0):
    probabilities = np.asarray(probabilities, np.float32)
    never = [np.zeros(probabilities.shape[1:], bool)] * (len(probabilities) - 1)
    changes = map(Changes, appeared or never, gone or never, lasting or never)
    return judge_together(probabilities, list(changes), point, voxel_mm3=voxel_mm3)


@few
@given(maps, st.sampled_from([0.0, 3.0]), st.sampled_from([0.0, 0.75]))
def test_without_change_all_sessions_have_the_lesions_of_the_mean(maps, size, peak):
    point = OperatingPoint(0.5, size, peak)
    expected = label_lesions(maps.mean(axis=0), point, voxel_mm3=1.5) > 0
    for state in judge(maps, point=point, voxel_mm3=1.5):
        np.testing.assert_array_equal(state, expected)


@few
@given(maps, fates)
def test_what_appeared_and_what_is_gone_differs_between_its_sessions(maps, fates):
    appeared, gone = fates > 0, fates < 0
    states = judge(maps, list(appeared), list(gone))
    for number in (1, 2):
        assert not (states[number] & gone[number - 1]).any()
        assert not (states[number - 1] & appeared[number - 1] & ~states[number]).any()


@few
@given(arrays(bool, (3, 4, 3)))
def test_changes_are_found_again_where_lesions_do_not_touch(present):
    """Single voxels that come and go, with maps that say so."""
    states = np.zeros((3, 8, 6, 1), bool)
    states[:, ::2, ::2, 0] = present
    maps = np.where(states, 0.9, 0.1)
    appeared = [~a & b for a, b in pairwise(states)]
    gone = [a & ~b for a, b in pairwise(states)]
    np.testing.assert_array_equal(judge(maps, appeared, gone), states)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("appears", None, [0, 1, 1]),
        (None, "appears", [0, 0, 1]),
        ("gone", None, [1, 0, 0]),
        (None, "gone", [1, 1, 0]),
        ("appears", "gone", [0, 1, 0]),
        ("gone", "appears", [1, 0, 1]),
        ("appears", "appears", [0, 1, 1]),
        ("gone", "gone", [1, 0, 0]),
    ],
)
def test_a_change_lasts_until_the_next_one(first, second, expected):
    lesion = box(SHAPE, (4, 2, 2), 3)
    maps = [np.where(lesion, 0.9 if there else 0.1, 0) for there in expected]
    events = (first, second)
    appeared = [lesion if one == "appears" else NOTHING for one in events]
    gone = [lesion if one == "gone" else NOTHING for one in events]
    states = judge(maps, appeared, gone)
    for state, there in zip(states, expected, strict=True):
        np.testing.assert_array_equal(state, lesion & bool(there))


def test_a_lesion_that_grows_keeps_what_it_was():
    small, large = box(SHAPE, (4, 2, 2), 3), box(SHAPE, (4, 2, 2), (8, 3, 3))
    maps = [np.where(small, 0.9, 0.1), np.where(large, 0.9, 0.1)]
    states = judge(maps, [large & ~small])
    np.testing.assert_array_equal(states, [small, large])
    # And the same backwards.
    np.testing.assert_array_equal(judge(maps[::-1], None, [large & ~small]), [large, small])


def test_a_lesion_that_grows_and_shrinks_again_was_not_large_before():
    small, large = box(SHAPE, (4, 2, 2), 3), box(SHAPE, (4, 2, 2), (8, 3, 3))
    rim = large & ~small
    maps = [np.where(lesion, 0.9, 0.1) for lesion in (small, large, small)]
    np.testing.assert_array_equal(
        judge(maps, [rim, NOTHING], [NOTHING, rim]), [small, large, small]
    )
    maps = [np.where(lesion, 0.9, 0.1) for lesion in (large, small, large)]
    np.testing.assert_array_equal(
        judge(maps, [NOTHING, rim], [rim, NOTHING]), [large, small, large]
    )


def test_the_rim_of_a_new_lesion_is_new_too():
    """At its rim the images differ too little, but on average it is lesion."""
    core, whole = box(SHAPE, (5, 3, 3), 2), box(SHAPE, (4, 2, 2), 4)
    maps = [np.where(whole, 0.4, 0.1), np.where(whole, 0.9, 0.1)]
    np.testing.assert_array_equal(judge(maps, [core]), [NOTHING, whole])
    np.testing.assert_array_equal(judge(maps[::-1], None, [core]), [whole, NOTHING])


def test_a_few_voxels_do_not_make_a_new_lesion_an_enlarged_one():
    speck, lesion = box(SHAPE, (4, 2, 2), 1), box(SHAPE, (5, 2, 2), (9, 4, 4))
    there = box(SHAPE, (20, 2, 2), 3)
    before = np.where(there | speck, 0.9, 0.1)
    maps = [before, np.where(there | speck | lesion, 0.9, 0.1)]
    states = judge(maps, [lesion])
    np.testing.assert_array_equal(states, [there, there | speck | lesion])
    # A larger part of it was a lesion before.
    part = box(SHAPE, (2, 2, 2), 3)
    maps = [np.where(part, 0.9, 0.1), np.where(part | lesion, 0.9, 0.1)]
    np.testing.assert_array_equal(judge(maps, [lesion]), [part, part | lesion])


def test_what_changes_elsewhere_leaves_a_lesion_as_it_is():
    lesion, new = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (20, 2, 2), 3)
    maps = [np.where(lesion, p, 0.1) for p in (0.45, 0.9, 0.9)]
    maps = [np.where(new, q, one) for q, one in zip((0.1, 0.1, 0.9), maps, strict=True)]
    states = judge(maps, [NOTHING, new])
    np.testing.assert_array_equal(states, [lesion, lesion, lesion | new])


def test_what_lasts_is_lesion_though_no_map_says_so():
    small, large = box(SHAPE, (4, 2, 2), 3), box(SHAPE, (4, 2, 2), (8, 3, 3))
    maps = [np.where(large, 0.2, 0.1)] * 3
    states = judge(maps, [large & ~small, NOTHING], None, [small, NOTHING])
    np.testing.assert_array_equal(states, [small, large, large])
    states = judge(maps, None, [NOTHING, large & ~small], [NOTHING, small])
    np.testing.assert_array_equal(states, [large, large, small])
