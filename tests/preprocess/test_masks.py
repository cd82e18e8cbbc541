"""Masks of thick slices lose what is no brain, and nothing else."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from cascade_bids.preprocess.masks import are_slices_thick, bounding_box, centre_of, trim_slices

SPACING_MM = np.array([1.0, 1.0, 7.0])


@pytest.fixture
def brain():
    """A brain of ten slices, with an orbit beside it and a speck below it."""
    mask = np.zeros((60, 70, 14), bool)
    mask[10:50, 10:50, 3:13] = True
    mask[22:34, 52:66, 6] = True
    mask[30:38, 20:30, 1] = True
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_small_pieces_in_a_slice_are_left_out_and_holes_filled(brain, axis):
    brain[20, 20, 8] = False
    stored = np.moveaxis(brain, 2, axis)
    spacing = np.insert(SPACING_MM[:2], axis, SPACING_MM[2])
    found = np.moveaxis(trim_slices(stored, spacing), axis, 2)
    expected = np.zeros_like(brain)
    expected[10:50, 10:50, 3:13] = True
    np.testing.assert_array_equal(found, expected)
    assert stored[tuple(np.argwhere(stored)[0])], "the mask that was given is changed"


def test_what_the_other_image_does_not_show_is_left_out_beyond_a_margin(brain):
    brain[18:42, 45:66, 6] = True  # an orbit of 5 cm² that hangs on the brain
    other = np.zeros_like(brain)
    other[10:50, 10:50, 4:12] = True
    found = trim_slices(brain, SPACING_MM, other)
    assert not found[:, 53:, 6].any()
    assert found[18:42, 50:53, 6].all(), "3 mm beyond the other stay"
    # Where the other image shows no brain at all, it says nothing.
    np.testing.assert_array_equal(found[:, :, [3, 12]], brain[:, :, [3, 12]])


@pytest.mark.parametrize(
    ("spacing_mm", "thick"),
    [((0.9, 0.9, 6.4), True), ((0.7, 0.7, 3.0), False), ((8, 8, 8), False), ((5.5, 1, 1), True)],
)
def test_slices_are_thick_beside_their_pixels(spacing_mm, thick):
    assert are_slices_thick(np.array(spacing_mm)) == thick


def test_a_bounding_box_grows_as_far_as_the_array_goes():
    mask = np.zeros((10, 11, 12), bool)
    mask[0, 4:6, 9] = True
    assert bounding_box(mask) == (slice(0, 1), slice(4, 6), slice(9, 10))
    assert bounding_box(mask, margin=3) == (slice(0, 4), slice(1, 9), slice(6, 12))
    assert bounding_box(np.zeros_like(mask)) == (slice(0, 10), slice(0, 11), slice(0, 12))


def test_a_wrong_mask_on_the_other_image_is_not_used(brain):
    other = np.roll(brain, 25, axis=0)
    found = trim_slices(brain, SPACING_MM, other)
    np.testing.assert_array_equal(found, trim_slices(brain, SPACING_MM))


def test_the_centre_of_a_mask_is_a_place_in_the_world(reorient, turned):
    mask = np.zeros((9, 12, 7), np.uint8)
    mask[2:5, 3:11, 4] = 1
    stored = nib.Nifti1Image(mask, from_matvec(np.diag([1.0, 2.0, 5.0]), [-10, 20, 3]))
    expected = apply_affine(turned, [-10 + 3, 20 + 13, 3 + 20])
    np.testing.assert_allclose(centre_of(reorient(stored)), expected, atol=1e-9)
