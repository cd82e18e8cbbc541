import nibabel as nib
import numpy as np
import pytest

from cascade_bids.quality.brain import SIDES, measure_asymmetry, measure_missing


def ball(shape=(40, 40, 40), radius=15):
    place = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return np.linalg.norm(place, axis=-1) <= radius


AFFINE = nib.affines.from_matvec(np.diag([2.0, 2.0, 2.0]), [-39, -39, -39])
POINTS = nib.affines.apply_affine(AFFINE, np.argwhere(ball()))


def test_nothing_is_missing_of_a_whole_brain():
    assert set(measure_missing(POINTS, AFFINE, (40, 40, 40)).values()) == {0}


@pytest.mark.parametrize("side", [side for axis in SIDES for side in axis])
def test_the_border_beyond_which_the_brain_goes_on_is_named(side):
    axis = next(number for number, sides in enumerate(SIDES) if side in sides)
    shape, start = [40, 40, 40], [0, 0, 0]
    shape[axis] = 30
    if side == SIDES[axis][0]:
        start[axis] = 10
    affine = AFFINE @ nib.affines.from_matvec(np.eye(3), start)
    missing = measure_missing(POINTS, affine, tuple(shape))
    assert {name for name, part in missing.items() if part} == {side}
    # A cap with a height of 5 voxels, of a ball with a radius of 15.
    assert missing[side] == pytest.approx(5**2 * (3 * 15 - 5) / (4 * 15**3), abs=0.003)


def test_half_a_brain_is_not_symmetric():
    whole = ball()
    half = whole.copy()
    half[:20] = False
    assert measure_asymmetry(whole) == 0
    assert measure_asymmetry(half) == 1
    assert measure_asymmetry(whole[::-1]) == 0
