"""Sessions come to one scale, whatever the scanner did, and lesions keep their contrast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cascade_bids.change.intensity import match_intensities, robust_deviation

from .volumes import ball

few = settings(max_examples=15, derandomize=True, deadline=None)
SHAPE = (96, 20, 20)


@pytest.fixture(scope="module")
def head():
    """White matter at 100 with grey matter at 120 in it, and noise of 4: values, brain, white."""
    rng = np.random.default_rng(0)
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    white = brain & (np.sin(np.arange(96) / 3) < 0.4)[:, None, None]
    values = np.where(white, 100.0, 120.0) + rng.normal(0, 4, SHAPE)
    return np.where(brain, values, 0), brain, white


def rescan(values, brain, seed):
    """Return the same head with other noise."""
    rng = np.random.default_rng(seed)
    return np.where(brain, values + rng.normal(0, 4, SHAPE), 0)


def match(flairs, brain, white, lesion=False):
    normal = brain & ~ndimage.binary_dilation(np.broadcast_to(lesion, SHAPE), iterations=2)
    return match_intensities(np.stack(flairs), normal, normal & white, brain)


@few
@given(gain=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
def test_gain_and_offset_are_removed(head, gain, offset):
    values, brain, white = head
    scaled = np.where(brain, gain * (values + offset), 0)
    one, other = match([values, scaled], brain, white)
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_white_matter_is_0_and_tissues_differ_by_a_few(head):
    values, brain, white = head
    matched = match([values, rescan(values, brain, 1)], brain, white)
    assert not matched[:, ~brain].any()
    for one in matched:
        assert np.median(one[white]) == pytest.approx(0, abs=0.05)
        # The spread between two tissues of equal volume is half of what they differ by.
        assert 1.5 < np.median(one[brain & ~white]) < 3


def test_noise_does_not_set_the_scale(head):
    values, brain, white = head
    rng = np.random.default_rng(1)
    noisy = np.where(brain, values + rng.normal(0, 12, SHAPE), 0)
    one, other = match([values, noisy], brain, white)
    contrasts = [np.median(image[brain & ~white]) for image in (one, other)]
    assert contrasts[1] == pytest.approx(contrasts[0], rel=0.15)


def test_slow_shading_between_sessions_is_removed(head):
    values, brain, white = head
    shading = np.where(brain, 5 * np.cos(np.arange(96) * np.pi / 96)[:, None, None], 0)
    again = rescan(values, brain, 1)
    plain, shaded = (match([values, one], brain, white) for one in (again, again + shading))
    unit = np.median(plain[0][brain & ~white]) / 20

    def vary(difference):
        """Measure how much white matter varies from slice to slice, away from the ends."""
        slices = zip(difference[10:-10], white[10:-10], strict=True)
        return np.std([values[inside].mean() for values, inside in slices if inside.any()])

    assert vary(unit * shading) > 10 * vary(plain[1] - plain[0])
    assert vary(shaded[1] - shaded[0]) < vary(unit * shading) / 3


@pytest.mark.parametrize("count", [2, 3])
def test_a_new_lesion_keeps_its_contrast(head, count):
    values, brain, white = head
    lesion = ball(SHAPE, (40, 10, 10), 4)
    sessions = [rescan(values, brain, seed) for seed in range(count)]
    plain = match(sessions, brain, white, lesion)
    sessions[-1] = sessions[-1] + 40 * lesion
    matched = match(sessions, brain, white, lesion)
    unit = np.median(plain[0][brain & ~white]) / 20
    added = (matched[-1] - plain[-1])[lesion].mean()
    assert added == pytest.approx(40 * unit, rel=0.1)
    # Nothing of it is seen in the other sessions, or around it.
    np.testing.assert_allclose(matched[0], plain[0], atol=0.1 * added)
    np.testing.assert_allclose(matched[-1][~lesion], plain[-1][~lesion], atol=0.1 * added)


def test_lesions_that_are_taken_for_tissue_are_no_shading(head):
    """No map told of them. One is in the first session and one in the second: scales are alike."""
    values, brain, white = head
    one, other = (ball(SHAPE, (x, 10, 10), 6) for x in (22, 72))
    again = rescan(values, brain, 1)
    unit = np.median(match([values, again], brain, white)[0][brain & ~white]) / 20
    first, second = match([values + 60 * one, again + 60 * other], brain, white)
    difference = (first - second) / unit
    assert difference[one].mean() > 30
    assert difference[other].mean() < -30

    def beside(x):
        ring = ball(SHAPE, (x, 10, 10), 14) & ~ball(SHAPE, (x, 10, 10), 9)
        return difference[ring & brain & white].mean()

    # White matter beside a lesion is as bright as before.
    assert beside(72) - beside(22) < 3


@few
@given(st.permutations(range(3)))
def test_the_order_of_the_sessions_does_not_matter(head, order):
    values, brain, white = head
    sessions = [rescan(values, brain, seed) * (1 + seed) for seed in range(3)]
    matched = match(sessions, brain, white)
    again = match([sessions[i] for i in order], brain, white)
    np.testing.assert_allclose(again, matched[list(order)], atol=1e-5)


def test_images_that_can_not_be_matched_are_refused(head):
    values, brain, white = head
    with pytest.raises(ValueError, match="no white matter looks normal in all sessions"):
        match([values, values], brain, np.zeros_like(white))
    with pytest.raises(ValueError, match="constant in normal-appearing tissue"):
        match([values, np.zeros_like(values)], brain, white)


def test_the_robust_deviation_is_that_of_normal_numbers():
    values = np.random.default_rng(0).normal(0, 3, 20_000)
    assert robust_deviation(values) == pytest.approx(3, rel=0.03)
    values[:500] = 1e6
    assert robust_deviation(values) == pytest.approx(3, rel=0.06)
    assert robust_deviation(np.array([])) == 0
