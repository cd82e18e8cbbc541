"""Moves of known size are found again."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cascade_bids.phantom.anatomy import build_anatomy, render
from cascade_bids.phantom.scanner import acquire, centred_grid
from cascade_bids.preprocess.conform import conform
from cascade_bids.preprocess.registration import (
    align_to_template,
    measure_rotation,
    register_both_ways,
    register_rigid,
    rigid_part,
)
from cascade_bids.preprocess.template import network_grid

from .small_images import moved, rigid


def brain_points(mask):
    return apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)[::50])


def mean_error_mm(found, truth, points):
    return np.linalg.norm(apply_affine(found, points) - apply_affine(truth, points), axis=1).mean()


def register(flair, image, brain, seed=0):
    return register_rigid(
        conform(flair.image, "FLAIR").image,
        conform(image, "T1w").image,
        fixed_brain=flair.brain_mask,
        moving_brain=conform(brain, "brain").image,
        seed=seed,
    )


def test_a_known_move_is_found_again(flair, t1w, reorient, turned):
    move = rigid((3, -2, 4), (4, -3, 5))
    image, brain = (reorient(moved(one, move)) for one in (t1w.image, t1w.brain_mask))
    found = register(flair, image, brain)
    assert mean_error_mm(found, turned @ move, brain_points(flair.brain_mask)) < 0.5
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-5)
    assert np.linalg.det(found) == pytest.approx(1, abs=1e-5)


def test_heads_far_apart_by_their_headers_are_brought_together(flair, t1w):
    move = rigid((2, 3, -2), (-60, 40, 120))
    found = register(flair, moved(t1w.image, move), moved(t1w.brain_mask, move))
    assert mean_error_mm(found, move, brain_points(flair.brain_mask)) < 0.5


def test_the_same_seed_gives_the_same_transform(flair, t1w):
    one, again = (register(flair, t1w.image, t1w.brain_mask, seed=7) for _ in range(2))
    assert one.tobytes() == again.tobytes()


SCALE = 0.92


@pytest.fixture(scope="module")
def individual():
    """The phantom's T1w, 8 % smaller than the template, tilted and elsewhere; and where it is."""
    anatomy = build_anatomy()
    pose = rigid((6, -5, 7), (8, 30, -20)) @ np.diag([SCALE, SCALE, SCALE, 1])
    grid = centred_grid((210.0, 270.0, 210.0), (3.0, 3.0, 3.0))
    signal, brain = (
        nib.Nifti1Image(acquire(values, anatomy.affine, pose, grid), grid.affine)
        for values in (render(anatomy, "T1w"), anatomy.brain.astype(np.float32))
    )
    return (
        signal,
        nib.Nifti1Image((np.asarray(brain.dataobj) > 0.5).astype(np.uint8), grid.affine),
        pose,
    )


def test_a_brain_is_brought_to_the_template(individual, reorient, turned):
    image, brain, pose = individual
    affinely = align_to_template(
        conform(reorient(image), "T1w").image, conform(reorient(brain), "brain").image, seed=0
    )
    rigidly = rigid_part(affinely)
    np.testing.assert_allclose(rigidly[:3, :3] @ rigidly[:3, :3].T, np.eye(3), atol=1e-5)
    assert np.linalg.det(rigidly) == pytest.approx(1, abs=1e-5)
    template_points = brain_points(load_mni152_brain_mask(4))
    assert mean_error_mm(affinely, turned @ pose, template_points) < 1
    assert np.cbrt(np.linalg.det(affinely)) == pytest.approx(SCALE, abs=0.02)

    # A rigid transform can't shrink, but it turns the head back, and its middle lies right.
    apart = Rotation.from_matrix(rigidly[:3, :3].T @ (turned @ pose)[:3, :3] / SCALE)
    assert np.rad2deg(apart.magnitude()) < 1.5
    middle = template_points.mean(axis=0)
    assert mean_error_mm(rigidly, turned @ pose, middle[np.newaxis]) < 1


def test_the_network_grid_is_that_of_the_template():
    shape, affine = network_grid()
    template = load_mni152_template(1)
    assert shape == template.shape
    np.testing.assert_array_equal(affine, template.affine)
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), 1)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")


def test_the_rigid_part_of_an_alignment():
    motion = rigid((5, -8, 12), (3, -20, 7))
    np.testing.assert_allclose(rigid_part(motion), motion, atol=1e-12)
    affine = motion @ np.diag([1.1, 0.95, 1.2, 1])
    found = rigid_part(affine)
    np.testing.assert_allclose(found[:3, :3], motion[:3, :3], atol=1e-12)
    # The middle of the template's brain lies where the affine puts it.
    brain = load_mni152_brain_mask(1)
    middle = apply_affine(brain.affine, np.argwhere(np.asarray(brain.dataobj)).mean(axis=0))
    np.testing.assert_allclose(apply_affine(found, middle), apply_affine(affine, middle))


axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1)
sizes = st.tuples(*[st.floats(0.8, 1.25)] * 3)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(axes, st.floats(0, 180), sizes, axes, st.tuples(*[st.floats(-200, 200)] * 3))
def test_the_rotation_of_a_head_is_told_from_its_size_and_place(
    axis, degrees, size, along, shift_mm
):
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis))
    # Other sizes along any three axes, as heads have.
    frame = Rotation.from_rotvec(along).as_matrix()
    stretch = frame @ np.diag(size) @ frame.T
    affine = nib.affines.from_matvec(turn.as_matrix() @ stretch, shift_mm)
    assert measure_rotation(affine) == pytest.approx(degrees, abs=1e-4)


def test_an_alignment_that_mirrors_turns_by_half():
    assert measure_rotation(np.diag([-1.0, 1, 1, 1])) == 180


def small_head(motion, seed, spacing_mm=(3.0, 3.0, 3.0)):
    """Acquire a head of 84 mm with a pattern in it, somewhere in the world, and its brain."""
    size = np.round(110 / np.array(spacing_mm)).astype(int)
    affine = from_matvec(np.diag(spacing_mm), -np.array(spacing_mm) * (size - 1) / 2)
    world = np.moveaxis(apply_affine(affine, np.moveaxis(np.indices(size), 0, -1)), -1, 0)
    own = np.moveaxis(apply_affine(np.linalg.inv(motion), np.moveaxis(world, 0, -1)), -1, 0)
    brain = np.linalg.norm(own / np.reshape((36, 42, 33), (3, 1, 1, 1)), axis=0) <= 1
    pattern = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2)
    values = ndimage.map_coordinates(pattern / pattern.std(), own / 3 + 19.5, order=3)
    values += np.random.default_rng(seed).normal(0, 0.1, brain.shape)
    return (
        nib.Nifti1Image(np.where(brain, values, 0).astype(np.float32), affine),
        nib.Nifti1Image(brain.astype(np.uint8), affine),
    )


MOVE = rigid((7, -5, 9), (6, -9, 4))


def register_small(first, second):
    return register_both_ways(
        first[0], second[0], first_brain=first[1], second_brain=second[1], seed=0
    )


def test_sessions_are_registered_whichever_way_they_are_stored(reorient, turned):
    first = small_head(np.eye(4), 1)
    second = [conform(reorient(one), "x").image for one in small_head(MOVE, 2, (2.5, 2.5, 4.0))]
    found = register_small(first, second)
    assert mean_error_mm(found, turned @ MOVE, brain_points(first[1])) < 0.3
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)


def test_the_way_back_is_that_there():
    first, second = small_head(np.eye(4), 1), small_head(MOVE, 2, (2.5, 2.5, 4.0))
    there, back = register_small(first, second), register_small(second, first)
    points = brain_points(first[1])
    assert mean_error_mm(back @ there, np.eye(4), points) < 1e-3
    # One way alone favours the image whose grid is used.
    one, other = (
        register_rigid(a[0], b[0], fixed_brain=a[1], moving_brain=b[1], seed=0)
        for a, b in ((first, second), (second, first))
    )
    assert mean_error_mm(other @ one, np.eye(4), points) > 1e-2
