"""Lesions keep their numbers over time, and what splits, merges or returns is told."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cascade_bids.change.track import track_lesions
from cascade_bids.lesions.label import CONNECTED

from .volumes import box

few = settings(max_examples=60, derandomize=True, deadline=None)
SHAPE = (30, 10, 10)


def draw_states(count):
    """Return a strategy of sessions in which lesions come, go, split and merge."""
    third = st.integers(0, 2).map(lambda number: number == 0)
    return arrays(bool, (count, 7, 1, 5), elements=third)


cells = st.integers(2, 5).flatmap(lambda count: arrays(bool, (count, 4, 3)))
"""Session, then where there is a lesion that overlaps none but itself."""


def draw_cells(present):
    """Draw a lesion of its own volume, from 1 to 12 voxels, in each cell of each session."""
    states = np.zeros((len(present), 4 * 4, 3 * 5, 3), bool)
    for session, x, y in np.argwhere(present):
        width, length = np.unravel_index(3 * x + y, (3, 4))
        states[session, 4 * x : 4 * x + width + 1, 5 * y : 5 * y + length + 1, 1] = True
    return states


def numbers_of(labels, mask):
    return set(np.unique(labels[mask]).tolist()) - {0}


def number_of(labels, mask):
    """Return the number that all voxels of a mask have."""
    (number,) = np.unique(labels[mask])
    return int(number)


@few
@given(draw_states(3))
def test_every_lesion_voxel_has_the_number_of_its_lesion(states):
    track = track_lesions(states)
    assert track.labels.dtype == np.int32
    np.testing.assert_array_equal(track.labels > 0, states)
    for labels, state in zip(track.labels, states, strict=True):
        components, count = ndimage.label(state, structure=CONNECTED)
        # As many numbers as lesions, and one number in each.
        pairs = {*zip(labels[state].tolist(), components[state].tolist(), strict=True)}
        assert len(pairs) == len({number for number, _ in pairs}) == count


@few
@given(draw_states(3))
def test_numbers_leave_no_gaps(states):
    numbers = numbers_of(track_lesions(states).labels, states)
    assert numbers == set(range(1, len(numbers) + 1))


@few
@given(draw_states(3))
def test_whatever_overlaps_goes_on_or_is_told_to_split_or_merge(states):
    track = track_lesions(states)
    for session in range(1, len(states)):
        before, after = track.labels[session - 1 : session + 1]
        splits, merges = track.split_from[session], track.merged_into[session]
        were, are = numbers_of(before, before > 0), numbers_of(after, after > 0)
        assert not were & splits.keys()
        assert not are & merges.keys()
        for lesion in were - are:
            # Gone without a trace, or part of another.
            heirs = numbers_of(after, before == lesion)
            assert (merges.get(lesion) in heirs) if heirs else lesion not in merges
        for lesion in are - were:
            origins = numbers_of(before, after == lesion)
            if origins:
                assert splits[lesion] in origins & are


@few
@given(draw_states(3))
def test_a_lesion_that_overlaps_one_other_keeps_its_number(states):
    track = track_lesions(states)
    for session in range(1, len(states)):
        before, after = track.labels[session - 1 : session + 1]
        for lesion in numbers_of(before, before > 0):
            heirs = numbers_of(after, before == lesion)
            if len(heirs) == 1:
                (heir,) = heirs
                if numbers_of(before, after == heir) == {lesion}:
                    assert heir == lesion


@few
@given(draw_states(2))
def test_exchanging_two_sessions_exchanges_what_came_and_went(states):
    there, back = track_lesions(states), track_lesions(states[::-1])
    for one, other in ((there, back), (back, there)):
        # Gone in one order is what has no lesion before it in the other.
        gone = numbers_of(one.labels[0], states.any(axis=0)) - {
            *numbers_of(one.labels[1], states.any(axis=0)),
            *one.merged_into[1],
        }
        new = numbers_of(other.labels[1], states.any(axis=0)) - {
            *numbers_of(other.labels[0], states.any(axis=0)),
            *other.split_from[1],
        }
        np.testing.assert_array_equal(
            np.isin(one.labels[0], list(gone)), np.isin(other.labels[1], list(new))
        )


def test_new_lesions_are_numbered_by_time_and_volume():
    small, large = box(SHAPE, (1, 1, 1), 2), box(SHAPE, (10, 1, 1), 4)
    later, larger = box(SHAPE, (20, 1, 1), 3), box(SHAPE, (25, 1, 1), 4)
    states = np.stack([small | large, small | large | later | larger])
    labels = track_lesions(states).labels
    assert [number_of(labels[1], mask) for mask in (large, small, larger, later)] == [1, 2, 3, 4]


def test_of_a_lesion_that_splits_the_part_that_shares_most_keeps_the_number():
    whole = box(SHAPE, (2, 2, 2), (15, 3, 3))
    part, other = box(SHAPE, (2, 2, 2), (8, 3, 3)), box(SHAPE, (12, 2, 2), (5, 7, 7))
    track = track_lesions(np.stack([whole, part | other]))
    assert other.sum() > part.sum()
    assert number_of(track.labels[1], part) == 1
    assert number_of(track.labels[1], other) == 2
    assert track.split_from == ({}, {2: 1})
    assert track.merged_into == ({}, {})


def test_of_lesions_that_merge_the_one_that_shares_most_keeps_the_number():
    small, large = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (10, 2, 2), 4)
    whole = box(SHAPE, (2, 2, 2), (12, 4, 4))
    track = track_lesions(np.stack([small | large, whole]))
    assert track.merged_into == ({}, {2: 1})
    assert track.split_from == ({}, {})
    assert number_of(track.labels[1], whole) == 1


def test_a_lesion_that_meets_a_part_of_another_keeps_its_number():
    """One splits, and a second lesion lies in the smaller part."""
    whole, small = box(SHAPE, (2, 2, 2), (14, 3, 3)), box(SHAPE, (18, 2, 2), 2)
    part, other = box(SHAPE, (2, 2, 2), (7, 3, 3)), box(SHAPE, (10, 2, 2), (10, 3, 3))
    track = track_lesions(np.stack([whole | small, part | other]))
    assert number_of(track.labels[1], part) == 1
    assert number_of(track.labels[1], other) == 2
    assert track.split_from == track.merged_into == ({}, {})


def test_a_lesion_that_returns_has_its_old_number():
    lesion, other = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (12, 2, 2), 4)
    back = box(SHAPE, (4, 4, 4), 3)  # by one voxel
    nothing = np.zeros(SHAPE, bool)
    track = track_lesions(np.stack([lesion | other, other, nothing, back]))
    assert number_of(track.labels[3], back) == number_of(track.labels[0], lesion) == 2
    assert track.split_from == track.merged_into == ({},) * 4


def test_a_lesion_keeps_its_number_where_another_one_was():
    """What is gone is no lesion of the session before."""
    lasting, gone = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (6, 2, 2), (9, 3, 3))
    spread = box(SHAPE, (2, 2, 2), (13, 3, 3))
    track = track_lesions(np.stack([lasting | gone, lasting, spread]))
    assert number_of(track.labels[2], spread) == number_of(track.labels[0], lasting) == 2


def test_a_part_that_breaks_off_to_where_a_lesion_was_is_told():
    lesion, gone = box(SHAPE, (2, 2, 2), (10, 3, 3)), box(SHAPE, (13, 2, 2), (7, 3, 3))
    part, other = box(SHAPE, (2, 2, 2), (6, 3, 3)), box(SHAPE, (9, 2, 2), (11, 3, 3))
    track = track_lesions(np.stack([lesion | gone, lesion, part | other]))
    assert number_of(track.labels[2], part) == 1
    assert track.split_from[2] == {number_of(track.labels[2], other): 1}


def test_where_nothing_overlaps_numbers_depend_on_the_place_alone():
    states = draw_cells(np.array([np.eye(4, 3, dtype=bool), np.ones((4, 3), bool)]))
    labels = track_lesions(states).labels
    assert numbers_of(labels[0], states[0]) == {1, 2, 3}
    assert numbers_of(labels[1], states[1]) == set(range(1, 13))
    np.testing.assert_array_equal(labels[0], np.where(states[0], labels[1], 0))


SHIFTED = np.zeros((3, 20, 1, 1), bool)
"""Of two lesions, the larger one merges into the smaller one, and stays there."""
SHIFTED[0, :10] = SHIFTED[0, 11:] = SHIFTED[1:, 2:] = True


@few
@given(draw_states(3))
@example(SHIFTED)
def test_the_same_sessions_have_the_same_numbers_again(states):
    first = track_lesions(states)
    again = track_lesions(states, first.labels)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert (again.split_from, again.merged_into) == (first.split_from, first.merged_into)


@few
@given(draw_states(3))
def test_a_session_that_is_added_at_the_end_changes_no_number(states):
    first = track_lesions(states[:2]).labels
    earlier = np.concatenate([first, np.zeros_like(first[:1])])
    np.testing.assert_array_equal(track_lesions(states, earlier).labels[:2], first)


@few
@given(cells, st.data())
def test_a_session_that_is_added_anywhere_changes_no_number(present, data):
    states = draw_cells(present)
    added = data.draw(st.integers(0, len(states) - 1))
    old = np.delete(np.arange(len(states)), added)
    earlier = np.zeros(states.shape, np.int32)
    earlier[old] = track_lesions(states[old]).labels
    labels = track_lesions(states, earlier).labels
    np.testing.assert_array_equal(labels[old], earlier[old])
    # What only the added session shows has a number that no other lesion ever had.
    only = states[added] & ~states[old].any(axis=0)
    assert not numbers_of(labels[added], only) & numbers_of(earlier, earlier > 0)


def test_a_number_of_before_goes_to_the_lesion_that_shares_most_with_it():
    """In a session that is added before the others, two lie where there is one later."""
    whole = box(SHAPE, (2, 2, 2), (8, 3, 3))
    small, large = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (9, 2, 2), 5)
    earlier = np.stack([0 * whole, 7 * whole])
    labels = track_lesions(np.stack([small | large, whole]), earlier).labels
    assert number_of(labels[0], small) == 7
    assert number_of(labels[0], large) == 8
    assert number_of(labels[1], whole) == 7


@pytest.mark.parametrize("count", [1, 4])
def test_without_lesions_there_are_no_numbers(count):
    track = track_lesions(np.zeros((count, 4, 4, 4), bool))
    assert not track.labels.any()
    assert track.split_from == track.merged_into == ({},) * count
