import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bids.quality.noise import measure_ghost, measure_snr

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


def test_there_is_no_ratio_without_noise_or_brain():
    assert measure_snr(np.where(RADIUS < 1, 100.0, 0.0), BRAIN, 2) is None
    assert measure_snr(head(4), np.zeros(SHAPE, bool), 2) is None


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ghost_is_found_along_both_axes_of_the_slices(axis):
    clean = head(1)
    ghosted = clean + 0.2 * np.roll(clean, SHAPE[axis] // 2, axis=axis)
    assert measure_ghost(clean, BRAIN, 2) == pytest.approx(0, abs=0.01)
    assert measure_ghost(ghosted, BRAIN, 2) == pytest.approx(0.2, abs=0.04)
