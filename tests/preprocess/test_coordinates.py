"""Brains of any size come to lie on the template, also where images end below."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.datasets import load_mni152_brain_mask

from cascade_bids.preprocess.coordinates import (
    LARGEST_FACTOR,
    mirror_voxels,
    template_affine,
    template_coordinates,
)


@pytest.fixture(scope="module")
def template():
    image = load_mni152_brain_mask(resolution=2)
    return np.asarray(image.dataobj) > 0, image.affine


def test_the_template_stays_where_it_is(template):
    brain, affine = template
    np.testing.assert_allclose(template_affine(brain, affine), affine, atol=1.0)


@pytest.mark.parametrize("below", [0, 15])
@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_a_smaller_or_shifted_head_is_brought_to_it(template, factor, below):
    brain, affine = template
    brain = brain.copy()
    brain[:, :, :below] = False
    moved = np.diag([factor, factor, factor, 1.0]) @ affine
    moved[:3, 3] += (2, -3, 1)
    found = template_affine(brain, moved)
    corners = np.argwhere(brain)[::5000]
    off = nib.affines.apply_affine(found, corners) - nib.affines.apply_affine(affine, corners)
    assert np.abs(off).max() < 6
    assert np.abs(off).mean() < 2.5


def test_an_unlikely_mask_does_not_stretch_the_head():
    brain = np.zeros((20, 20, 20), bool)
    brain[9:11, 9:11, 9:11] = True
    found = template_affine(brain, np.eye(4))
    np.testing.assert_allclose(np.diag(found)[:3], LARGEST_FACTOR, rtol=1e-5)
    np.testing.assert_array_equal(template_affine(np.zeros_like(brain), np.eye(4)), np.eye(4))


def test_coordinates_are_those_of_the_affine():
    affine = nib.affines.from_matvec(np.diag([2.0, 3.0, 4.0]), (-1, -2, -3))
    coordinates = template_coordinates((4, 5, 6), affine.astype(np.float32))
    assert coordinates.shape == (4, 5, 6, 3)
    np.testing.assert_allclose(coordinates[1, 2, 3], (1, 4, 9))


@settings(deadline=None, derandomize=True)
@given(st.floats(-15, 15), st.floats(0.85, 1.15), st.sampled_from([(1, 1, 1), (-1, 1, 1)]))
def test_what_lies_on_the_other_side_is_found_however_the_head_lies(degrees, factor, flips):
    turn = np.radians(degrees)
    rotation = [[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine = nib.affines.from_matvec(factor * np.array(rotation) @ np.diag(flips), (-9, 4, 2))
    coordinates = template_coordinates((20, 22, 18), affine.astype(np.float32))
    brain = np.linalg.norm(np.moveaxis(np.indices((20, 22, 18)), 0, -1) - 9.0, axis=-1) < 9
    here = (np.array([4, 9]), np.array([10, 9]), np.array([11, 9]))
    there = nib.affines.apply_affine(affine, mirror_voxels(here, brain, coordinates).T)
    np.testing.assert_allclose(there, coordinates[here] * (-1, 1, 1), atol=1e-3)


def test_the_other_side_of_a_mask_that_fills_its_image_is_found():
    affine = nib.affines.from_matvec(np.eye(3), (-50, -50, -50)).astype(np.float32)
    whole = np.ones((100, 100, 100), bool)
    here = tuple(np.array([index]) for index in (60, 55, 70))
    found = mirror_voxels(here, whole, template_coordinates(whole.shape, affine))
    np.testing.assert_allclose(found, [[40], [55], [70]], atol=1e-3)
