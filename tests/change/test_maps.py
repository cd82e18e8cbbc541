"""The change map shows what the change table tells."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade_bids.change.maps import VALUES, change_map
from cascade_bids.change.table import change_table
from cascade_bids.change.track import track_lesions

from .volumes import box

few = settings(max_examples=40, derandomize=True, deadline=None)
states = arrays(bool, (3, 7, 1, 5), elements=st.integers(0, 2).map(lambda number: number == 0))
SHAPE = (40, 10, 10)
SESSIONS = ["ses-1", "ses-2", "ses-3"]
NEW, ENLARGED, STABLE, SHRUNK, GONE = 1, 2, 3, 4, 5


def draw(states, later=1, min_change_mm3=1.0):
    track = track_lesions(np.asarray(states))
    sessions = SESSIONS[: len(states)]
    table = change_table(
        track, sessions, voxel_mm3=1.0, min_change_mm3=min_change_mm3, locations=None
    )
    drawn = change_map(track, table, sessions, later)
    assert drawn.dtype == np.uint8
    return drawn, table[table["session_id"] == SESSIONS[later]].set_index("lesion")


def test_the_values_of_a_map_do_not_change():
    expected = {"new": NEW, "enlarged": ENLARGED, "stable": STABLE, "shrunk": SHRUNK, "gone": GONE}
    assert expected == VALUES


def test_each_change_is_drawn_where_it_is():
    new, gone, stable = (box(SHAPE, (x, 2, 2), 3) for x in (1, 6, 11))
    small, large = box(SHAPE, (17, 2, 2), (3, 3, 3)), box(SHAPE, (17, 2, 2), (7, 3, 3))
    wide, narrow = box(SHAPE, (27, 2, 2), (8, 3, 3)), box(SHAPE, (29, 2, 2), (4, 3, 3))
    drawn, _ = draw([gone | stable | small | wide, new | stable | large | narrow])
    expected = np.zeros(SHAPE, int)
    expected[new] = NEW
    expected[gone] = GONE
    expected[stable | small | narrow] = STABLE
    expected[large & ~small] = ENLARGED
    expected[wide & ~narrow] = SHRUNK
    np.testing.assert_array_equal(drawn, expected)


def test_each_interval_has_its_own_map():
    lesion, nothing = box(SHAPE, (2, 2, 2), 3), np.zeros(SHAPE, bool)
    states = [nothing, lesion, nothing]
    for later, value in ((1, NEW), (2, GONE)):
        np.testing.assert_array_equal(draw(states, later)[0], value * lesion)


def test_a_change_that_is_too_small_is_not_drawn():
    lesion = box(SHAPE, (2, 2, 2), (10, 4, 4))
    grown = lesion | box(SHAPE, (12, 2, 2), 2)
    drawn, _ = draw([lesion, grown])
    np.testing.assert_array_equal(drawn, STABLE * grown)
    drawn, _ = draw([grown, lesion])
    np.testing.assert_array_equal(drawn, STABLE * lesion)


def test_lesions_that_merge_are_new_only_where_none_was():
    one, other = box(SHAPE, (2, 2, 2), 4), box(SHAPE, (12, 2, 2), 3)
    whole = box(SHAPE, (2, 2, 2), (13, 4, 4))
    drawn, _ = draw([one | other, whole])
    np.testing.assert_array_equal(drawn[whole & ~(one | other)], ENLARGED)
    np.testing.assert_array_equal(drawn[one | other], STABLE)
    # And the other way round, what is left of a lesion that splits is stable.
    drawn, _ = draw([whole, one | other])
    np.testing.assert_array_equal(drawn[whole & ~(one | other)], SHRUNK)
    np.testing.assert_array_equal(drawn[one | other], STABLE)


def test_all_parts_of_a_lesion_are_drawn_alike():
    middle = box(SHAPE, (10, 2, 2), (6, 3, 3))
    ends = box(SHAPE, (2, 2, 2), (10, 3, 3)) | box(SHAPE, (14, 2, 2), (12, 3, 3))
    drawn, _ = draw([middle, ends])  # it breaks in two that are larger
    np.testing.assert_array_equal(drawn, np.where(middle, STABLE * ends, ENLARGED * ends))
    drawn, _ = draw([ends, middle])
    np.testing.assert_array_equal(drawn, np.where(middle, STABLE * middle, SHRUNK * ends))
    # One that was gone comes back in two.
    drawn, _ = draw([ends | middle, np.zeros(SHAPE, bool), ends], later=2)
    np.testing.assert_array_equal(drawn, NEW * ends)


def test_without_lesions_the_map_is_empty():
    nothing = np.zeros((3, 4, 4, 4), bool)
    for later in (1, 2):
        assert not draw(nothing, later)[0].any()


@few
@given(arrays(int, (3, 5), elements=st.integers(0, 6)), st.sampled_from([1, 2]))
def test_volumes_of_a_map_are_those_of_the_table(lengths, later):
    """Lesions of any length in each session, which grow and shrink at one end."""
    states = np.zeros((3, 5 * 8, 1, 2), bool)
    for session, lesion in np.ndindex(lengths.shape):
        states[session, 8 * lesion : 8 * lesion + lengths[session, lesion]] = True
    drawn, rows = draw(states, later, min_change_mm3=3.0)
    change = rows.groupby("class")["change_mm3"].sum()
    for name, sign in (("new", 1), ("gone", -1), ("enlarged", 1), ("shrunk", -1)):
        assert (drawn == VALUES[name]).sum() == sign * change.get(name, 0)


@few
@given(states, st.sampled_from([1, 2]))
def test_new_and_gone_lesions_that_split_or_merge_are_drawn_whole(states, later):
    drawn, rows = draw(states, later)
    change = rows.groupby("class")["change_mm3"].sum()
    assert (drawn == NEW).sum() == change.get("new", 0)
    assert (drawn == GONE).sum() == -change.get("gone", 0)


@few
@given(states, st.sampled_from([1, 2]))
def test_a_map_tells_lesion_from_what_was_lesion(states, later):
    drawn, _ = draw(states, later)
    before, after = states[later - 1], states[later]
    np.testing.assert_array_equal(np.isin(drawn, (NEW, ENLARGED, STABLE)), after)
    assert not before[np.isin(drawn, (NEW, ENLARGED))].any()
    assert before[np.isin(drawn, (SHRUNK, GONE))].all()
