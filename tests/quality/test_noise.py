import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cascade_bids.quality.noise import MOST_SNR, measure_ghost, measure_slices, measure_snr

few = settings(max_examples=10, derandomize=True, deadline=None)
SHAPE = (48, 48, 12)
PLACE = np.moveaxis(np.indices(SHAPE), 0, -1)
RADIUS = np.linalg.norm((PLACE - [23.5, 23.5, 5.5]) / [10, 11, 20], axis=-1)
BRAIN = RADIUS < 0.8


def head(noise=0.0):
    """Draw a bright head with a sulcus of fluid, without noise in the air."""
    data = np.where(RADIUS < 1, 100.0, 0.0)
    data[20:22] *= 0.5
    return data + noise * np.random.default_rng(0).normal(size=SHAPE)


@few
@given(st.floats(2, 20))
def test_the_noise_is_measured_whatever_the_anatomy(noise):
    assert measure_snr(head(noise), BRAIN, 2) == pytest.approx(100 / noise, rel=0.15)


def test_slices_of_other_brightness_are_no_noise():
    striped = head(4) * np.where(np.arange(SHAPE[2]) % 2, 1, 1.2)
    assert measure_snr(striped, BRAIN, 2) == pytest.approx(25, rel=0.25)


def test_there_is_no_ratio_without_signal_or_brain():
    assert measure_snr(np.zeros(SHAPE), BRAIN, 2) is None
    assert measure_snr(head(4), np.zeros(SHAPE, bool), 2) is None


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ghost_is_found_along_both_axes_of_the_slices(axis):
    clean = head(1)
    ghosted = clean + 0.2 * np.roll(clean, SHAPE[axis] // 2, axis=axis)
    assert measure_ghost(clean, BRAIN, 2) == pytest.approx(0, abs=0.01)
    assert measure_ghost(ghosted, BRAIN, 2) == pytest.approx(0.2, abs=0.04)


def test_an_image_that_is_smooth_or_has_few_grey_levels_has_hardly_any_noise():
    grains = np.random.default_rng(0).normal(size=SHAPE)
    smooth = head() + 4 * ndimage.gaussian_filter(grains, 4)
    assert measure_snr(smooth, BRAIN, 2) > 3000
    assert measure_snr(np.round(head(4) / 50), BRAIN, 2) == MOST_SNR


@few
@given(st.floats(0.3, 0.95), st.floats(0, 10))
def test_every_other_slice_that_is_darker_is_told_by_how_much(part, noise):
    plain = head(noise)
    dimmed = plain * np.where(np.arange(SHAPE[2]) % 2, 1, part)
    expected = 100 * (1 - part) / np.median(dimmed[BRAIN])
    assert measure_slices(plain, BRAIN, 2) == pytest.approx(0, abs=0.02)
    assert measure_slices(dimmed, BRAIN, 2) == pytest.approx(expected, abs=0.03)


def test_slices_without_much_brain_and_those_without_neighbours_do_not_count():
    assert measure_slices(head(), BRAIN & (PLACE[..., 2] < 2), 2) is None
    assert measure_slices(head(), np.zeros(SHAPE, bool), 2) is None
    high = PLACE[..., 2] >= 8
    tip = BRAIN & (~high | (np.linalg.norm(PLACE[..., :2] - 23.5, axis=-1) < 2))
    assert measure_slices(head() * np.where(high, 0.1, 1), tip, 2) == 0
