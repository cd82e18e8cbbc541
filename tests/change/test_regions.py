"""Regions tell how much the signal of what may be a lesion changed."""

import numpy as np
import pytest
from scipy import ndimage

from cascade_bids.change.regions import Source, find_regions

from .volumes import ball

SHAPE = (44, 40, 42)
CENTRE = (22, 20, 21)
BRAIN = ball(SHAPE, CENTRE, 18)
EVERYWHERE = np.ones(SHAPE, bool)


def image(*lesions, seed, blur=0.8):
    """Return white matter at 0 with lesions, pairs of voxels and brightness."""
    signal = sum((bright * one.astype(np.float32) for one, bright in lesions), np.zeros(SHAPE))
    noise = np.random.default_rng(seed).normal(0, 0.15, SHAPE)
    return np.where(BRAIN, ndimage.gaussian_filter(signal, blur) + noise, 0).astype(np.float32)


def probability(lesion, value=0.9):
    return (value * ndimage.gaussian_filter(lesion.astype(np.float32), 0.5)).astype(np.float32)


def find(images, maps):
    likely = ndimage.binary_dilation(np.max(maps, axis=0) >= 0.05, iterations=2)
    return find_regions(images, maps, BRAIN, BRAIN & ~likely, EVERYWHERE)


def clearest(regions, source=None):
    of_source = [one for one in regions if source is None or one.source is source]
    return max(of_source, key=lambda one: abs(one.strength))


NOTHING = np.zeros(SHAPE, np.float32)
SMALL, LARGE = ball(SHAPE, CENTRE, 3.0), ball(SHAPE, CENTRE, 3.0 * 1.5 ** (1 / 3))


def test_a_new_lesion_has_no_signal_before():
    regions = find((image(seed=0), image((LARGE, 3), seed=1)), (NOTHING, probability(LARGE)))
    for source in Source:
        found = clearest(regions, source)
        assert found.strength > 8
        assert found.part < 0.1
        whole = np.zeros(SHAPE, bool)
        whole[found.box] = found.voxels
        assert (whole & LARGE).sum() / (whole | LARGE).sum() > 0.5


@pytest.mark.parametrize("blur", [0.5, 1.5])
def test_the_part_is_that_of_the_volumes_however_sharp_the_images_are(blur):
    """Half more volume, of which half a voxel at the rim is all there is to see."""
    pair = image((SMALL, 3), seed=0, blur=blur), image((LARGE, 3), seed=1, blur=0.8)
    found = clearest(find(pair, (probability(SMALL), probability(LARGE))), Source.LESION)
    assert found.part == pytest.approx(SMALL.sum() / LARGE.sum(), abs=0.12)
    assert found.strength > 5


def test_a_lesion_that_only_its_map_sees_differently_has_not_changed():
    pair = image((SMALL, 3), seed=0), image((SMALL, 3), seed=1)
    assert not [one for one in find(pair, (NOTHING, probability(LARGE))) if one.strength > 5]


def test_deep_in_white_matter_images_alone_show_a_region():
    pair = image(seed=0), image((SMALL, 3), seed=1)
    # In so small a head, a lesion that no map sees would be a large part of the noise.
    normal = BRAIN & ~ball(SHAPE, CENTRE, 6)
    (found,) = find_regions(pair, (NOTHING, NOTHING), BRAIN, normal, EVERYWHERE)
    assert found.source is Source.IMAGE
    assert found.strength > 7


def test_near_the_border_of_the_brain_images_alone_show_none():
    near = ball(SHAPE, (22, 20, 21 + 16), 1.5)
    pair = image(seed=0), image((near, 3), seed=1)
    normal = BRAIN & ~ball(SHAPE, (22, 20, 21 + 16), 6)
    assert not find_regions(pair, (NOTHING, NOTHING), BRAIN, normal, EVERYWHERE)


def test_equal_images_have_no_regions():
    one = image((SMALL, 3), seed=0)
    assert not find((one, one), (probability(SMALL), probability(LARGE)))


def test_noise_alone_has_none():
    assert not find((image(seed=0), image(seed=1)), (NOTHING, NOTHING))


def test_exchanging_the_sessions_exchanges_the_signals():
    pair = image((SMALL, 2), seed=0), image((LARGE, 3), seed=1)
    maps = probability(SMALL), probability(LARGE)
    there, back = find(pair, maps), find(pair[::-1], maps[::-1])
    assert len(there) == len(back) > 2

    def describe(region, sign):
        box = tuple((one.start, one.stop) for one in region.box)
        first, second = (region.before, region.after)[::sign]
        return (box, int(region.voxels.sum()), region.source.name), first, second, region.strength

    forward = sorted(describe(one, 1) for one in there)
    backward = sorted(describe(one, -1) for one in back)
    for one, other in zip(forward, backward, strict=True):
        assert one[0] == other[0]
        np.testing.assert_allclose(one[1:3], other[1:3], atol=1e-4)
        np.testing.assert_allclose(one[3], -other[3], atol=1e-2)


def test_boxes_are_those_of_the_whole_grid():
    shifted = np.roll(BRAIN, 3, axis=0)
    lesion = np.roll(SMALL, 3, axis=0)
    pair = [np.roll(one, 3, axis=0) for one in (image(seed=0), image((SMALL, 3), seed=1))]
    found = clearest(
        find_regions(pair, (NOTHING, probability(lesion)), shifted, shifted & ~lesion, EVERYWHERE)
    )
    whole = np.zeros(SHAPE, bool)
    whole[found.box] = found.voxels
    assert np.argwhere(whole).mean(axis=0) == pytest.approx(np.argwhere(lesion).mean(axis=0), abs=1)
