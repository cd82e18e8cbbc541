"""The noise between two sessions is as large as the means over regions really differ."""

import numpy as np
import pytest
from scipy import ndimage

from cascade_bids.change.noise import LEAST, RegionNoise, heavy_deviation

SHAPE = (40, 40, 40)
EVERYWHERE = np.ones(SHAPE, bool)


def noise(seed, sigma=1.0):
    return np.random.default_rng(seed).normal(0, sigma, SHAPE).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 30.0])
def test_of_normal_numbers_it_is_the_standard_deviation(sigma):
    assert heavy_deviation(noise(0, sigma).ravel()) == pytest.approx(sigma, rel=0.1)


def test_heavy_tails_count():
    values = noise(0).ravel()
    values[::100] *= 10
    assert heavy_deviation(values) > 2


def test_equal_images_have_the_least_noise():
    assert heavy_deviation(np.zeros(9)) == LEAST
    assert np.isnan(heavy_deviation(np.zeros(0)))


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("side", [1, 3, 6])
def test_means_over_cubes_differ_by_as_much(smooth, side):
    """Measured in one image, it holds in others."""
    found = RegionNoise(ndimage.gaussian_filter(noise(0), smooth), EVERYWHERE, EVERYWHERE, shell=3)(
        side**3
    )
    means = []
    for seed in range(1, 5):
        image = ndimage.gaussian_filter(noise(seed), smooth)
        for start in np.random.default_rng(seed).integers(4, 30, (60, 3)):
            inner = tuple(slice(a, a + side) for a in start)
            outer = tuple(slice(a - 3, a + side + 3) for a in start)
            around = image[outer].sum() - image[inner].sum()
            shell = (side + 6) ** 3 - side**3
            means.append(image[inner].mean() - around / shell)
    assert np.std(means) == pytest.approx(found, rel=0.3)


def test_what_does_not_look_normal_does_not_count():
    lesion = np.zeros(SHAPE, bool)
    lesion[10:20, 10:20, 10:20] = True
    image = np.where(lesion, 50, noise(0))
    found = RegionNoise(image, ~lesion, ~lesion, shell=3)
    assert found(27) == pytest.approx(
        RegionNoise(noise(0), EVERYWHERE, EVERYWHERE, shell=3)(27), rel=0.15
    )


def test_in_a_small_head_large_regions_are_as_noisy_as_the_largest_cube_that_fits():
    small = np.zeros(SHAPE, bool)
    small[10:16, 10:16, 10:16] = True
    found = RegionNoise(noise(0), EVERYWHERE, small, shell=3)
    assert 0 < found(3000) <= found(1)
    nowhere = RegionNoise(noise(0), small, small, shell=9)
    assert nowhere(1) == nowhere(3000) > 0
