"""Brains of any size come to lie on the template, also where images end below."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask

from cascade_bids.network import place
from cascade_bids.network.place import template_affine, template_places


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
    np.testing.assert_allclose(np.diag(found)[:3], place.LARGEST_FACTOR, rtol=1e-5)
    np.testing.assert_array_equal(template_affine(np.zeros_like(brain), np.eye(4)), np.eye(4))


def test_places_are_those_of_the_affine():
    affine = nib.affines.from_matvec(np.diag([2.0, 3.0, 4.0]), (-1, -2, -3))
    places = template_places((4, 5, 6), affine.astype(np.float32))
    assert places.shape == (4, 5, 6, 3)
    np.testing.assert_allclose(places[1, 2, 3], (1, 4, 9))
