import nibabel as nib
import numpy as np
import pytest

from cascade_bids.quality.brain import SIDES, find_box, measure_asymmetry, measure_missing


def ball(shape=(40, 40, 40), radius=15):
    place = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return np.linalg.norm(place, axis=-1) <= radius


AFFINE = nib.affines.from_matvec(np.diag([2.0, 2.0, 2.0]), [-39, -39, -39])
POINTS = nib.affines.apply_affine(AFFINE, np.argwhere(ball()))


def test_nothing_is_missing_of_a_whole_brain():
    assert set(measure_missing(POINTS, AFFINE, [(0, 39)] * 3).values()) == {0}


@pytest.mark.parametrize("side", [side for axis in SIDES for side in axis])
def test_the_border_beyond_which_the_brain_goes_on_is_named(side):
    axis = next(number for number, sides in enumerate(SIDES) if side in sides)
    box = [(0, 39)] * 3
    box[axis] = (10, 39) if side == SIDES[axis][0] else (0, 29)
    missing = measure_missing(POINTS, AFFINE, box)
    assert {name for name, part in missing.items() if part} == {side}
    # A cap with a height of 5 voxels, of a ball with a radius of 15.
    assert missing[side] == pytest.approx(5**2 * (3 * 15 - 5) / (4 * 15**3), abs=0.003)


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_planes_that_show_no_head_are_beyond_the_box(noise):
    head = np.where(ball(radius=19), 100.0, 0.0)
    head[:, :, 25:] = 0
    image = abs(head + noise * np.random.default_rng(0).normal(size=head.shape))
    assert find_box(image, ball() & (head > 0)) == [(1, 38), (1, 38), (1, 24)]


def test_without_a_brain_or_signal_the_box_is_the_image():
    image, nothing = np.ones((4, 5, 6)), np.zeros((4, 5, 6), bool)
    whole = [(0, 3), (0, 4), (0, 5)]
    assert find_box(image, nothing) == find_box(0 * image, ~nothing) == whole


def test_half_a_brain_is_not_symmetric():
    whole = ball()
    half = whole.copy()
    half[:20] = False
    assert measure_asymmetry(whole) == 0
    assert measure_asymmetry(half) == 1
    assert measure_asymmetry(whole[::-1]) == 0
