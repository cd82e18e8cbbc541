"""Regions that changed enough become changes of voxels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade_bids.change.detect import CRITERION, NEW_PART, ChangeCriterion, find_changes
from cascade_bids.change.regions import Region, Source

from .volumes import box

GRID = (20, 9, 9)
POINT = ChangeCriterion(strength=5.0, part=0.8, peak=0.12, min_mm3=3.0)
WHOLE = tuple(slice(0, size) for size in GRID)
NOTHING = np.zeros(GRID)
LESION = box(GRID, (4, 3, 3), (4, 3, 3))


def region(voxels=LESION, before=0.0, after=1.0, strength=6.0, source=Source.LESION):
    sign = 1 if after > before else -1
    return Region(WHOLE, voxels, before, after, sign * strength, source)


def find(*regions, before=NOTHING, after=None, threshold=0.5, voxel_mm3=1.0, point=POINT):
    after = np.where(LESION, 0.9, 0) if after is None else after
    return find_changes(regions, before, after, threshold, point, voxel_mm3=voxel_mm3)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, True),
        ({"strength": 5.0}, True),
        ({"strength": 4.9}, False),
        ({"before": 0.81}, False),  # hardly brighter than before
        ({"before": -0.5}, True),
    ],
)
def test_the_signal_must_change_clearly_and_by_much(values, found):
    np.testing.assert_array_equal(find(region(**values)).appeared, LESION & found)


@pytest.mark.parametrize("source", Source)
def test_a_map_must_see_something_unless_the_images_show_it_alone(source):
    changes = find(region(source=source), after=np.where(LESION, 0.11, 0))
    assert changes.appeared.any() == (source is Source.IMAGE)
    assert find(region(source=source), after=np.where(LESION, 0.12, 0)).appeared.any()


def test_of_a_new_lesion_nothing_lasts():
    appeared, gone, lasting = find(region(before=NEW_PART - 0.01))
    np.testing.assert_array_equal(appeared, LESION)
    assert not gone.any()
    assert not lasting.any()


def test_voxels_that_were_lesion_have_not_appeared():
    core = box(GRID, (4, 3, 3), (2, 3, 3))
    before = np.where(core, 0.5, 0)
    for source in Source:
        changes = find(region(before=0.1, source=source), before=before)
        np.testing.assert_array_equal(changes.lasting, core)
        np.testing.assert_array_equal(changes.appeared, LESION & ~core)


@pytest.mark.parametrize("part", [0.5, 0.75])
def test_of_a_lesion_that_grew_the_most_probable_part_lasts(part):
    before = np.where(LESION, np.linspace(0.2, 0.4, GRID[0])[:, None, None], 0)
    appeared, gone, lasting = find(region(before=part), before=before)
    assert lasting.sum() == part * LESION.sum()
    np.testing.assert_array_equal(lasting | appeared, LESION)
    assert before[lasting].min() > before[appeared].max()
    assert not gone.any()


def test_where_only_the_maps_rose_a_region_has_no_lesion_before():
    changes = find(region(before=0.7, source=Source.RISE))
    np.testing.assert_array_equal(changes.appeared, LESION)


def test_of_regions_that_overlap_the_clearest_counts():
    large = box(GRID, (2, 2, 2), (8, 5, 5))
    after = np.where(large, 0.9, 0)
    changes = find(region(large, strength=6.0), region(LESION, strength=7.0), after=after)
    np.testing.assert_array_equal(changes.appeared, LESION)
    # A new lesion is not part of one that grew, however clearly, and a whole one comes first.
    changes = find(region(large, before=0.7, strength=9), region(LESION), after=after)
    np.testing.assert_array_equal(changes.appeared, LESION)
    rise = region(LESION, before=0.7, strength=9, source=Source.RISE)
    changes = find(rise, region(large, before=0.6), after=after)
    np.testing.assert_array_equal(changes.appeared | changes.lasting, large)


@pytest.mark.parametrize(
    ("voxel_mm3", "voxels", "found"),
    [
        (1.0, 2, False),
        (1.0, 3, True),
        (0.5, 5, False),
        (0.5, 6, True),
        (3.0, 1, True),
        (0.99999994, 3, True),  # stored in single precision
    ],
)
def test_the_smallest_change_is_in_mm3(voxel_mm3, voxels, found):
    lesion = box(GRID, (4, 3, 3), (voxels, 1, 1))
    changes = find(region(lesion), after=np.where(lesion, 0.9, 0), voxel_mm3=voxel_mm3)
    np.testing.assert_array_equal(changes.appeared, lesion & found)


small = (6, 3, 4)
boxes = st.tuples(*[st.integers(0, n - 1) for n in small])
signals = st.floats(-1, 3, allow_nan=False)
some_regions = st.lists(
    st.tuples(boxes, signals, signals, st.floats(0, 12), st.sampled_from(Source)), max_size=6
)
maps = arrays(float, small, elements=st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.9]))


def build(described):
    found = []
    for corner, before, after, strength, source in described:
        size = tuple(min(3, n - at) for n, at in zip(small, corner, strict=True))
        where = tuple(slice(at, at + n) for at, n in zip(corner, size, strict=True))
        sign = 1 if after > before else -1
        found.append(Region(where, np.ones(size, bool), before, after, sign * strength, source))
    return found


@settings(max_examples=60, derandomize=True, deadline=None)
@given(some_regions, maps, maps)
def test_nothing_happens_twice_and_backwards_all_is_the_other_way_round(described, before, after):
    regions = build(described)
    changes = find_changes(regions, before, after, 0.5, CRITERION, voxel_mm3=1.0)
    assert np.sum(changes, axis=0).max(initial=0) <= 1
    turned = [
        replace(one, before=one.after, after=one.before, strength=-one.strength) for one in regions
    ]
    back = find_changes(turned, after, before, 0.5, CRITERION, voxel_mm3=1.0)
    np.testing.assert_array_equal(back.gone, changes.appeared)
    np.testing.assert_array_equal(back.appeared, changes.gone)
    np.testing.assert_array_equal(back.lasting, changes.lasting)
