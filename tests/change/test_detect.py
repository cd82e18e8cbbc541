"""Changes stand out from the noise, and edges do not count as changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cascade_bids.change.detect import (
    CRITERION,
    ENOUGH,
    ChangeCriterion,
    find_appeared,
    score_difference,
)

from .volumes import ball, box

few = settings(max_examples=40, derandomize=True, deadline=None)
SHAPE = (32, 32, 32)
EVERYWHERE = np.ones(SHAPE, bool)
POINT = ChangeCriterion(weight=10.0, grow=3.0, peak=8.0, rise=0.05, rim=0.0, min_mm3=3.0)


def noise(seed, sigma=1.0):
    return np.random.default_rng(seed).normal(0, sigma, SHAPE)


def tissue():
    """Bright and dark tissue, some mm wide, with edges of all strengths."""
    pattern = ndimage.gaussian_filter(np.random.default_rng(9).normal(size=SHAPE), 2.5)
    return np.tanh(3 * pattern / pattern.std())


@pytest.mark.parametrize("sigma", [0.01, 0.1, 1.0])
def test_in_noise_alone_scores_are_standard_deviations(sigma):
    score = score_difference(noise(0, sigma), noise(1, sigma), EVERYWHERE)
    assert score.dtype == np.float32
    assert score.std() == pytest.approx(1, abs=0.1)
    assert score.mean() == pytest.approx(0, abs=0.1)


def test_exchanging_the_images_changes_the_sign():
    one = tissue() + noise(0, 0.1)
    other = tissue() + noise(1, 0.1) + 2 * ball(SHAPE, (9, 20, 14), 3)
    there, back = (score_difference(*pair, EVERYWHERE) for pair in ((one, other), (other, one)))
    np.testing.assert_allclose(there, -back, atol=1e-5)
    assert there[9, 20, 14] > 5


def test_equal_images_have_no_difference():
    assert not score_difference(tissue(), tissue(), EVERYWHERE).any()


def test_a_lesion_that_appeared_stands_out():
    lesion = ball(SHAPE, (16, 16, 16), 3)
    score = score_difference(noise(0, 0.1), noise(1, 0.1) + lesion, ~lesion)
    assert score[16, 16, 16] > 5
    assert np.median(score[lesion]) > 5
    assert score[~ndimage.binary_dilation(lesion, iterations=3)].max() < 5


@pytest.mark.parametrize("contrast", [2.0, 4.0])
def test_a_lesion_that_is_a_little_brighter_has_not_changed(contrast):
    """Where there is much contrast, little of it is no change, however small the noise."""
    lesion = ball(SHAPE, (16, 16, 16), 4)
    first = contrast * lesion + noise(0, 0.02)
    brighter, twice = (factor * contrast * lesion + noise(1, 0.02) for factor in (1.05, 2))
    core = ball(SHAPE, (16, 16, 16), 2)
    assert score_difference(first, brighter, ~lesion)[core].max() < CRITERION.grow
    assert score_difference(first, twice, ~lesion)[core].min() > 5


def test_edges_that_lie_apart_are_no_larger_than_noise():
    """Half a voxel of motion makes differences at edges that are many times the noise."""
    still = tissue()
    moved = ndimage.shift(still, (0.5, 0, 0), mode="nearest")
    one, other = still + noise(0, 0.05), moved + noise(1, 0.05)
    score = score_difference(one, other, EVERYWHERE)
    inner = (slice(3, -3),) * 3
    edges = ndimage.gaussian_gradient_magnitude(still, 1.0)[inner]
    strong = edges > np.quantile(edges, 0.8)
    difference = ndimage.gaussian_filter(other - one, 0.7)[inner]
    assert np.abs(difference[strong]).mean() > 3 * np.abs(difference[~strong]).mean()
    # What normal numbers have is 0.8.
    assert np.abs(score[inner][strong]).mean() < 1
    # A group of voxels may be change from this score on.
    beyond = np.abs(score[inner]) >= CRITERION.peak
    assert beyond[strong].mean() < 0.01


def test_what_does_not_look_normal_does_not_set_the_noise():
    lesions = ball(SHAPE, (10, 10, 10), 6) | ball(SHAPE, (22, 22, 22), 6)
    other = noise(1, 0.1) + 2 * lesions * np.sign(noise(2))
    score = score_difference(noise(0, 0.1), other, ~ndimage.binary_dilation(lesions, iterations=3))
    expected = score_difference(noise(0, 0.1), noise(1, 0.1), EVERYWHERE)
    away = ~ndimage.binary_dilation(lesions, iterations=6)
    assert score[away].std() == pytest.approx(expected[away].std(), rel=0.15)


GRID = (20, 9, 9)


def find(lesion, *, score=6.0, before=0.0, after=0.9, threshold=0.5, voxel_mm3=1.0, point=POINT):
    """Find a change in voxels of a lesion that have these values."""
    return find_appeared(
        np.where(lesion, score, 0.0),
        np.where(lesion, before, 0.0),
        np.where(lesion, after, 0.0),
        threshold,
        point,
        voxel_mm3=voxel_mm3,
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, True),
        ({"score": 5.0}, True),
        ({"score": 4.9}, False),  # the maps alone make no change
        ({"score": -0.1}, False),  # darker
        ({"score": 8.0, "after": 0.04}, False),  # the images alone make none either
        ({"score": 7.6, "after": 0.05}, True),
        ({"score": 7.4, "after": 0.05}, False),  # little of both
        ({"score": 7.4, "after": 0.1}, True),
        ({"before": 0.3, "after": 0.34}, False),  # hardly more likely than before
        ({"before": 0.49}, True),
        ({"before": 0.5}, False),  # lesion before
        ({"before": 0.5, "threshold": 0.6}, True),
    ],
)
def test_images_and_maps_must_agree(values, found):
    lesion = box(GRID, (4, 3, 3), 3)
    np.testing.assert_array_equal(find(lesion, **values), lesion & found)


def test_a_change_grows_from_its_peak():
    lesion, peak = box(GRID, (4, 3, 3), (6, 3, 3)), box(GRID, (5, 4, 4), 1)
    np.testing.assert_array_equal(find(lesion, score=np.where(peak, 6.0, 0.1)), lesion)
    rose = np.where(peak, 0.4, 0.05)
    np.testing.assert_array_equal(find(lesion, after=rose), lesion)
    # The peak of the images and that of the maps are one.
    score = np.where(peak, 6.0, 2.6)
    assert not find(lesion, score=score, after=np.where(peak, 0.15, 0.9)).any()


def test_the_rim_is_what_changed_by_little_of_what_most_of_it_did():
    lesion, core = box(GRID, (3, 2, 2), 5), box(GRID, (4, 3, 3), 3)
    score = np.where(core, 10.0, 3.9)
    found = find(lesion, score=score, point=replace(POINT, rim=0.4))
    np.testing.assert_array_equal(found, core)
    np.testing.assert_array_equal(find(lesion, score=score), lesion)


def test_parts_that_the_rim_held_together_must_be_large_enough_each():
    lesion = box(GRID, (3, 2, 2), (9, 3, 1))
    score = np.full(GRID, 4.5)
    score[3, 2:5, 2], score[11, 2:4, 2] = 10, 10
    found = find(lesion, score=score, point=replace(POINT, rim=0.5))
    assert np.argwhere(found)[:, 0].tolist() == [3, 3, 3]


def test_each_group_needs_a_peak_of_its_own():
    one, other = box(GRID, (2, 2, 2), 3), box(GRID, (10, 2, 2), 3)
    score = np.where(one, 6.0, 4.0)
    np.testing.assert_array_equal(find(one | other, score=score), one)


def test_voxels_that_were_lesion_have_not_appeared():
    core, whole = box(GRID, (4, 3, 3), 3), box(GRID, (3, 2, 2), 5)
    found = find(whole, before=np.where(core, 0.9, 0))
    np.testing.assert_array_equal(found, whole & ~core)


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
    np.testing.assert_array_equal(find(lesion, voxel_mm3=voxel_mm3), lesion & found)


def test_voxels_that_share_a_corner_are_one_change():
    diagonal = np.zeros(GRID, bool)
    diagonal[[2, 3, 4], [2, 3, 4], [2, 3, 4]] = True
    np.testing.assert_array_equal(find(diagonal), diagonal)
    diagonal[3, 3, 3] = False
    assert not find(diagonal).any()


small = (6, 3, 4)
scores = arrays(float, small, elements=st.sampled_from([-6.0, 0.0, 3.0, 3.0, 6.0]))
maps = arrays(float, small, elements=st.sampled_from([0.0, 0.2, 0.4, 0.9]))


@few
@given(scores, maps, maps, st.sampled_from([1.0, 0.5, 2.0]))
def test_what_is_found_meets_all_limits(score, before, after, voxel_mm3):
    found = find_appeared(score, before, after, 0.5, POINT, voxel_mm3=voxel_mm3)
    rise = after - before
    evidence = score + POINT.weight * np.minimum(rise, ENOUGH)
    assert (evidence[found] >= POINT.grow).all()
    assert (score[found] > 0).all()
    assert (rise[found] >= POINT.rise).all()
    assert (before[found] < 0.5).all()
    groups, count = ndimage.label(found, structure=np.ones((3, 3, 3)))
    for group in range(1, count + 1):
        own = groups == group
        assert own.sum() * voxel_mm3 >= POINT.min_mm3
        assert (evidence[own] >= POINT.peak).any()


@few
@given(scores, maps, maps)
def test_nothing_appears_and_is_gone_at_once(score, before, after):
    appeared = find_appeared(score, before, after, 0.5, POINT, voxel_mm3=1.0)
    gone = find_appeared(-score, after, before, 0.5, POINT, voxel_mm3=1.0)
    assert not (appeared & gone).any()
