"""The common space is halfway between the sessions, and its grid holds every brain."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cascade_bids.change.common_space import MARGIN_MM, common_grid, find_common_space
from cascade_bids.preprocess.masks import centre_of

from .volumes import box

few = settings(max_examples=25, derandomize=True, deadline=None)
vectors = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)
spacings = st.tuples(*[st.floats(0.5, 6)] * 3)


@st.composite
def sessions(draw, most=4):
    """Draw sessions of one head: world of the head to world of each, and masks that differ."""
    poses, brains = [], []
    for _ in range(draw(st.integers(2, most))):
        pose = from_matvec(
            Rotation.from_rotvec(0.6 * draw(vectors)).as_matrix(), 80 * draw(vectors)
        )
        corner = draw(st.tuples(*[st.integers(0, 4)] * 3))
        affine = from_matvec(np.diag(draw(spacings)), 40 * draw(vectors))
        poses.append(pose)
        brains.append(nib.Nifti1Image(box((9, 8, 10), corner, 4).astype(np.uint8), pose @ affine))
    return poses, brains


def from_first(poses):
    return [pose @ np.linalg.inv(poses[0]) for pose in poses]


def angle(transform):
    return Rotation.from_matrix(transform[:3, :3]).magnitude()


@few
@given(sessions(most=2))
def test_the_common_space_is_halfway_between_two_sessions(drawn):
    poses, brains = drawn
    one, other = find_common_space(from_first(poses), brains)
    between = from_first(poses)[1]
    np.testing.assert_allclose(other @ np.linalg.inv(one), between, atol=1e-9)
    np.testing.assert_allclose(one[:3, :3] @ other[:3, :3], np.eye(3), atol=1e-9)
    assert angle(one) == pytest.approx(angle(between) / 2, abs=1e-7)


@few
@given(sessions(), st.randoms(use_true_random=False))
def test_the_order_of_the_sessions_does_not_matter(drawn, random):
    poses, brains = drawn
    order = list(range(len(poses)))
    random.shuffle(order)
    found = find_common_space(from_first(poses), brains)
    again = find_common_space(from_first([poses[i] for i in order]), [brains[i] for i in order])
    np.testing.assert_allclose(again, [found[i] for i in order], atol=1e-8)


@few
@given(sessions())
def test_no_session_is_favoured(drawn):
    poses, brains = drawn
    found = find_common_space(from_first(poses), brains)
    turns = Rotation.from_matrix([one[:3, :3] for one in found])
    np.testing.assert_allclose(turns.mean().as_matrix(), np.eye(3), atol=1e-9)
    # In the common space, the middle of the brains is where they put it on average.
    own = [
        apply_affine(np.linalg.inv(one), centre_of(brain))
        for one, brain in zip(found, brains, strict=True)
    ]
    middle = np.mean(own, axis=0)
    np.testing.assert_allclose(
        np.mean([apply_affine(one, middle) for one in found], axis=0), middle, atol=1e-9
    )


@few
@given(sessions())
def test_the_sessions_keep_their_places_to_each_other(drawn):
    poses, brains = drawn
    found = find_common_space(from_first(poses), brains)
    for one, expected in zip(found, from_first(poses), strict=True):
        np.testing.assert_allclose(one @ np.linalg.inv(found[0]), expected, atol=1e-9)


@few
@given(sessions())
def test_the_grid_holds_every_brain_with_a_margin(drawn):
    poses, brains = drawn
    found = find_common_space(from_first(poses), brains)
    shape, affine = common_grid(brains, found)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    np.testing.assert_array_equal(nib.affines.voxel_sizes(affine), 1)
    places = []
    for one, brain in zip(found, brains, strict=True):
        # The corners of voxels, not their centres.
        voxels = np.argwhere(np.asarray(brain.dataobj))
        corners = np.concatenate([voxels + step for step in np.ndindex(2, 2, 2)]) - 0.5
        places.append(
            apply_affine(np.linalg.inv(affine) @ np.linalg.inv(one) @ brain.affine, corners)
        )
    low, high = (getattr(np.concatenate(places), side)(axis=0) for side in ("min", "max"))
    assert (low >= MARGIN_MM - 1e-9).all()
    assert (high <= np.array(shape) - 1 - MARGIN_MM + 1e-9).all()
    # No larger than needed.
    assert (low < MARGIN_MM + 1).all()
    assert (high > np.array(shape) - 3 - MARGIN_MM).all()


def test_how_a_brain_is_stored_does_not_change_the_grid(reorient, turned):
    stored = nib.Nifti1Image(
        box((20, 24, 9), (3, 5, 2), (12, 15, 5)).astype(np.uint8),
        from_matvec(np.diag([1.0, 1.0, 4.0]), [-9, -20, 6.3]),
    )
    expected_shape, expected = common_grid([stored, stored], [np.eye(4)] * 2)
    shape, affine = common_grid([stored, reorient(stored)], [np.eye(4), turned])
    assert shape == expected_shape == (24, 27, 32)
    np.testing.assert_allclose(affine, expected, atol=1e-9)
