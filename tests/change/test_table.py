"""The change table says what became of each lesion, and its sums are those of the lesions."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade_bids.change.table import (
    CLASSES,
    COLUMNS,
    change_table,
    classify,
    summarise_intervals,
)
from cascade_bids.change.track import track_lesions

from .volumes import box

few = settings(max_examples=40, derandomize=True, deadline=None)
volumes = st.floats(0, 1e4, allow_subnormal=False)
states = arrays(bool, (3, 7, 1, 5), elements=st.integers(0, 2).map(lambda number: number == 0))
SHAPE = (30, 10, 10)
BACKWARD = dict(zip(CLASSES, reversed(CLASSES), strict=True))


def tabulate(states, *, voxel_mm3=1.0, min_change_mm3=3.0, locations=None):
    track = track_lesions(np.asarray(states))
    sessions = [f"ses-{number}" for number in range(len(states))]
    table = change_table(
        track,
        sessions,
        voxel_mm3=voxel_mm3,
        min_change_mm3=min_change_mm3,
        locations=locations,
    )
    return track, sessions, table


def rows(table, session):
    return table[table["session_id"] == session].set_index("lesion")


@few
@given(volumes, volumes, st.floats(0, 20))
def test_exchanging_two_sessions_exchanges_what_became_of_a_lesion(before, after, min_change):
    if before or after:
        forward = classify(before, after, min_change)
        assert classify(after, before, min_change) == BACKWARD[forward]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0, 1, "new"),
        (1, 0, "gone"),
        (4, 6.9, "stable"),  # 73 %, but less than 3 mm³
        (4, 7, "enlarged"),
        (7, 4, "shrunk"),
        (100, 119, "stable"),  # 19 mm³, but less than 20 %
        (100, 120, "enlarged"),
        (120, 100, "shrunk"),
        (50, 50, "stable"),
    ],
)
def test_a_change_is_large_in_volume_and_for_the_lesion(before, after, expected):
    assert classify(before, after, 3.0) == expected


def test_a_lesion_has_a_row_for_each_session_in_which_it_is_seen_or_just_gone():
    lesion, other = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (10, 2, 2), (5, 4, 4))
    grown = box(SHAPE, (10, 2, 2), (8, 4, 4))
    states = [lesion | other, lesion | other, grown, grown, lesion | grown]
    locations = {1: "juxtacortical", 2: "periventricular"}
    _, _, table = tabulate(states, voxel_mm3=0.5, locations=locations)
    assert tuple(table.columns) == COLUMNS
    found = table.astype(object).where(table.notna(), None)
    columns = ["lesion", "session_id", "class", "volume_mm3", "change_mm3", "location"]
    assert found[columns].to_numpy().tolist() == [
        [1, "ses-0", None, 40.0, None, "juxtacortical"],
        [1, "ses-1", "stable", 40.0, 0.0, "juxtacortical"],
        [1, "ses-2", "enlarged", 64.0, 24.0, "juxtacortical"],
        [1, "ses-3", "stable", 64.0, 0.0, "juxtacortical"],
        [1, "ses-4", "stable", 64.0, 0.0, "juxtacortical"],
        [2, "ses-0", None, 13.5, None, "periventricular"],
        [2, "ses-1", "stable", 13.5, 0.0, "periventricular"],
        [2, "ses-2", "gone", 0.0, -13.5, "periventricular"],
        [2, "ses-4", "new", 13.5, 13.5, "periventricular"],
    ]
    assert set(table["first_session"]) == {"ses-0"}
    assert set(table["last_session"]) == {"ses-4"}


def test_without_an_orientation_lesions_have_no_location():
    _, _, table = tabulate([box(SHAPE, (2, 2, 2), 3)] * 2)
    assert len(table) == 2
    assert table["location"].isna().all()


def test_the_parts_of_a_lesion_change_together():
    whole = box(SHAPE, (2, 2, 2), (12, 4, 4))
    parts = box(SHAPE, (2, 2, 2), (6, 4, 4)) | box(SHAPE, (9, 2, 2), (5, 4, 4))
    _, _, table = tabulate([whole, parts])
    split = rows(table, "ses-1")
    assert split["volume_mm3"].to_dict() == {1: 96, 2: 80}
    assert split.loc[1, ["class", "change_mm3"]].tolist() == ["stable", -16]
    assert split.loc[2, "split_from"] == 1
    assert split.loc[2, ["class", "change_mm3"]].isna().all()

    _, _, table = tabulate([parts, whole])
    merged = rows(table, "ses-1")
    assert merged["volume_mm3"].to_dict() == {1: 192, 2: 0}
    assert merged.loc[1, ["class", "change_mm3"]].tolist() == ["stable", 16]
    assert merged.loc[2, "merged_into"] == 1
    assert merged.loc[2, "last_session"] == "ses-0"
    assert merged.loc[2, ["class", "change_mm3"]].isna().all()


@few
@given(states, st.sampled_from([0.5, 1.0, 3.0]))
def test_changes_sum_up_to_the_change_of_the_load(states, voxel_mm3):
    track, sessions, table = tabulate(states, voxel_mm3=voxel_mm3)
    loads = (track.labels > 0).sum(axis=(1, 2, 3)) * voxel_mm3
    for number, session in enumerate(sessions):
        own = rows(table, session)
        assert own.index.is_unique
        assert own["volume_mm3"].sum() == loads[number]
        if number:
            assert own["change_mm3"].sum() == loads[number] - loads[number - 1]
            # What has no class is counted with another lesion.
            others = own["split_from"].notna() | own["merged_into"].notna()
            assert (own["class"].isna() == others).all()


@few
@given(states)
def test_new_and_gone_are_exchanged_with_the_sessions(states):
    pair = states[:2]
    forward, backward = (rows(tabulate(one)[2], "ses-1") for one in (pair, pair[::-1]))
    for name in ("new", "gone"):
        there = forward[forward["class"] == name]["change_mm3"]
        back = backward[backward["class"] == BACKWARD[name]]["change_mm3"]
        assert sorted(there) == sorted(-back)


def test_a_table_without_lesions_has_all_columns():
    _, sessions, table = tabulate(np.zeros((3, 4, 4, 4), bool))
    assert table.empty
    assert tuple(table.columns) == COLUMNS
    for interval in summarise_intervals(table, sessions, [1.0, None]):
        assert all(interval[name] == {"count": 0, "change_ml": 0} for name in CLASSES)


def test_each_interval_counts_its_lesions():
    lesion, other = box(SHAPE, (2, 2, 2), 3), box(SHAPE, (10, 2, 2), (5, 4, 4))
    third = box(SHAPE, (20, 2, 2), 5)
    shrunk = box(SHAPE, (10, 2, 2), (2, 4, 4))
    states = [lesion | other, other | third, lesion | shrunk | third]
    _, sessions, table = tabulate(states, voxel_mm3=2.0)
    first, second = summarise_intervals(table, sessions, [0.5, None])
    assert (first["from"], first["to"], first["years"]) == ("ses-0", "ses-1", 0.5)
    assert first["new"] == {"count": 1, "change_ml": 0.25}
    assert first["gone"] == {"count": 1, "change_ml": -0.054}
    assert first["stable"] == {"count": 1, "change_ml": 0}
    assert first["per_year"]["new"] == {"count": 2, "change_ml": 0.5}
    assert first["per_year"]["gone"] == {"count": 2, "change_ml": -0.108}
    assert second["years"] is None
    assert second["per_year"] is None
    assert second["shrunk"] == {"count": 1, "change_ml": -0.096}
    assert second["new"] == {"count": 1, "change_ml": 0.054}


@few
@given(states, st.tuples(*[st.none() | st.floats(0.01, 20)] * 2))
def test_a_summary_is_that_of_its_table(states, years):
    _, sessions, table = tabulate(states)
    intervals = summarise_intervals(table, sessions, years)
    assert json.loads(json.dumps(intervals)) == intervals
    for number, interval in enumerate(intervals, start=1):
        own = rows(table, sessions[number])
        counts = own["class"].value_counts()
        for name in CLASSES:
            assert interval[name]["count"] == counts.get(name, 0)
            if interval["per_year"]:
                yearly = interval["per_year"][name]["count"] * years[number - 1]
                assert math.isclose(yearly, interval[name]["count"], abs_tol=1e-3)
        total = sum(interval[name]["change_ml"] for name in CLASSES)
        assert total == pytest.approx(own["change_mm3"].sum() / 1000, abs=1e-3)
        assert (interval["per_year"] is None) == (years[number - 1] is None)


def test_the_table_keeps_its_numbers_as_text():
    """Numbers of lesions stay whole where most are missing."""
    whole = box(SHAPE, (2, 2, 2), (12, 4, 4))
    parts = box(SHAPE, (2, 2, 2), (6, 4, 4)) | box(SHAPE, (9, 2, 2), (5, 4, 4))
    _, _, table = tabulate([whole, parts])
    text = table.to_csv(sep="\t", index=False, na_rep="n/a")
    assert "\t1\tn/a\n" in text
    assert isinstance(table["split_from"].dtype, pd.Int64Dtype)
