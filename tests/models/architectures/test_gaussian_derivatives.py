"""Gaussian-derivative features mean what they say."""

import numpy as np
import pytest

from cascade_bids.models.architectures.gaussian_derivatives import (
    COUNT,
    WIDTHS_MM,
    image_features,
    smooth,
)

SHAPE = (30, 32, 28)
MIDDLE = (15, 16, 14)


def describe(image, at=MIDDLE):
    """Compute the features of one voxel, in a head whose midline is that of the grid."""
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    norms = {width: smooth(inside.astype(np.float32), width) for width in WIDTHS_MM}
    values = np.where(inside, image, 0).astype(np.float32)
    across = np.array([[2 * MIDDLE[0] - at[0]], [at[1]], [at[2]]])
    found = image_features(values, norms, tuple(np.array([index]) for index in at), across)
    assert found.shape == (1, COUNT)
    return found[0]


def blob(width, centre=MIDDLE):
    squares = ((np.moveaxis(np.indices(SHAPE), 0, -1) - centre) / width) ** 2
    return np.exp(-squares.sum(-1) / 2)


def test_an_even_image_has_its_value_at_every_width_and_neither_slope_nor_curvature():
    found = describe(np.full(SHAPE, 3.0))
    values = [0, 1, 6, 11, 16, *range(17, COUNT)]
    np.testing.assert_allclose(found[values], 3.0, rtol=1e-4)
    np.testing.assert_allclose(np.delete(found, values), 0, atol=1e-3)


def test_a_blob_is_curved_downwards_along_all_axes_and_a_sheet_along_one():
    # Of width 2: middle curvatures, of which a blob has three that are negative.
    curvature = slice(8, 11)
    of_blob = describe(blob(2.0))[curvature]
    assert (of_blob < -0.1).all()
    of_sheet = describe(blob((2.0, 1e6, 1e6)))[curvature]
    assert of_sheet[0] < -0.1
    np.testing.assert_allclose(of_sheet[1:], 0, atol=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slope_is_the_same_in_every_direction(axis):
    ramp = np.indices(SHAPE)[axis] * 0.5
    # In units of the width: half a unit for each millimetre.
    assert describe(ramp)[2] == pytest.approx(0.5, rel=0.02)
    assert describe(ramp)[7] == pytest.approx(1.0, rel=0.05)
    assert describe(-ramp)[2] == pytest.approx(0.5, rel=0.02)


def test_the_features_of_the_other_side_stand_beside_those_of_this_one():
    here, there = (9, 16, 14), (21, 16, 14)
    alone, both = (
        describe(image, at=here) for image in (blob(2.0, here), blob(2.0, here) + blob(2.0, there))
    )
    across = slice(19, 21)
    assert (both[across] > alone[across] + 0.08).all()
    assert np.abs(both[:4] - alone[:4]).max() < 0.01


def test_a_spot_within_fluid_turns_as_dark_as_fluid_and_one_in_tissue_as_grey_as_tissue():
    # The left half is as dark as fluid.
    image = np.where(np.indices(SHAPE)[0] < 15, -2.0, 0.0)
    opened = slice(17, 19)
    within = describe(image + 4 * blob(1.5, (8, 16, 14)), at=(8, 16, 14))[opened]
    beside = describe(image + 4 * blob(1.5, (19, 16, 14)), at=(19, 16, 14))[opened]
    assert within[1] == pytest.approx(-2, abs=0.1)
    assert beside[1] == pytest.approx(0, abs=0.1)
    # The small cube fits into both, in part.
    assert (within[0] > within[1]) and (beside[0] > beside[1])


def test_a_missing_image_has_no_features():
    assert not describe(np.zeros(SHAPE)).any()
