"""Transforms mean to ANTs what they mean here, and come back from disk as they were."""

import ants
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cascade_bids.errors import ScanError
from cascade_bids.transforms import from_itk, mean_rigid, read_transform, write_transform

numbers = st.floats(-200, 200)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
angles = st.tuples(*[st.floats(-180, 180)] * 3)
scales = st.tuples(*[st.floats(0.5, 2)] * 3)
few = settings(max_examples=25, deadline=None, derandomize=True)

TO_LPS = np.array([-1.0, -1.0, 1.0])


@st.composite
def transforms(draw):
    transform = np.eye(4)
    turn = Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix()
    transform[:3, :3] = turn * draw(scales)
    transform[:3, 3] = draw(vectors)
    return transform


def through_ants(itk, point):
    """Map a RAS+ point by an ANTs transform, which counts in LPS."""
    return TO_LPS * np.array(itk.apply_to_point(tuple(TO_LPS * point)))


@few
@given(transform=transforms())
def test_what_is_written_is_read_again(tmp_path_factory, transform):
    path = tmp_path_factory.mktemp("transforms") / "t.txt"
    write_transform(transform, path)
    np.testing.assert_allclose(read_transform(path), transform, rtol=0, atol=1e-12)


@few
@given(transform=transforms(), point=vectors)
def test_ants_moves_points_alike(tmp_path_factory, transform, point):
    path = tmp_path_factory.mktemp("transforms") / "t.txt"
    write_transform(transform, path)
    moved = through_ants(ants.read_transform(str(path)), point)
    np.testing.assert_allclose(moved, apply_affine(transform, point), atol=1e-3)


@few
@given(transform=transforms(), centre=vectors, point=vectors)
def test_files_of_ants_are_understood(tmp_path_factory, transform, centre, point):
    """ANTs keeps a centre of rotation; here there is none."""
    path = tmp_path_factory.mktemp("transforms") / "t.txt"
    written = ants.create_ants_transform(
        dimension=3,
        precision="double",
        matrix=transform[:3, :3],
        translation=tuple(transform[:3, 3]),
        center=tuple(centre),
    )
    ants.write_transform(written, str(path))
    moved = apply_affine(read_transform(path), point)
    np.testing.assert_allclose(moved, through_ants(written, point), atol=1e-2)


@few
@given(centre=vectors, angle=st.tuples(*[st.floats(-180, 180)] * 3))
def test_a_rotation_leaves_its_centre_in_place(centre, angle):
    turn = Rotation.from_euler("xyz", angle, degrees=True).as_matrix()
    transform = from_itk(np.array([*turn.ravel(), 0, 0, 0]), centre)
    np.testing.assert_allclose(apply_affine(transform, TO_LPS * centre), TO_LPS * centre, atol=1e-9)


def test_axes_are_those_of_ras():
    """ITK's +1, +2, +3 mm in LPS are left and behind, so -1, -2, +3 mm in RAS."""
    transform = from_itk(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3.0]), np.zeros(3))
    np.testing.assert_array_equal(transform[:3, 3], [-1, -2, 3])


def test_same_transform_gives_the_same_bytes(tmp_path):
    transform = np.diag([1.1, 0.9, 1 / 3, 1])
    for name in ("a.txt", "b.txt"):
        write_transform(transform, tmp_path / name)
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


AFFINE = (
    "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    "Parameters: 1 0 0 0 1 0 0 0 1 0 0 0\nFixedParameters: 0 0 0\n"
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"This is no transform.\n",
        AFFINE.replace("FixedParameters: 0 0 0", "").encode(),
        AFFINE.replace("1 0 0 0 1", "1 0 0 0 one").encode(),
        AFFINE.replace("1 0 0 0 1 0 0 0 1 0 0 0", "0.1 0 0 5 5 5").encode(),
        (AFFINE + AFFINE.replace("1 0 0 0 1", "2 0 0 0 2")).encode(),
        b"\x00\x00\x80?\xff\xfe\x00AffineTransform_double_3_3\x9c",
    ],
    ids=["empty", "prose", "no centre", "a word", "Euler", "two transforms", "binary"],
)
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "from-T1w_to-FLAIR_xfm.txt"
    path.write_bytes(content)
    with pytest.raises(
        ScanError, match=r"from-T1w_to-FLAIR_xfm\.txt holds no linear ITK transform"
    ):
        read_transform(path)


@st.composite
def rigids(draw):
    """Draw a transform that turns by less than a right angle, as sessions of one head do."""
    rotvec = np.array(draw(st.tuples(*[st.floats(-0.85, 0.85)] * 3)))
    return from_matvec(Rotation.from_rotvec(rotvec).as_matrix(), draw(vectors))


several = st.lists(rigids(), min_size=1, max_size=4)


@few
@given(transforms=several, point=vectors)
def test_a_mean_is_rigid_and_takes_a_point_where_it_goes_on_average(transforms, point):
    mean = mean_rigid(transforms, point)
    np.testing.assert_allclose(mean[:3, :3] @ mean[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(mean) == pytest.approx(1)
    np.testing.assert_array_equal(mean[3], [0, 0, 0, 1])
    expected = np.mean([apply_affine(one, point) for one in transforms], axis=0)
    np.testing.assert_allclose(apply_affine(mean, point), expected, atol=1e-9)


@few
@given(transform=rigids(), point=vectors, count=st.integers(1, 3))
def test_the_mean_of_equal_transforms_is_the_transform(transform, point, count):
    np.testing.assert_allclose(mean_rigid([transform] * count, point), transform, atol=1e-9)


@few
@given(transforms=several, point=vectors, random=st.randoms(use_true_random=False))
def test_the_order_of_transforms_does_not_matter_to_their_mean(transforms, point, random):
    shuffled = random.sample(transforms, len(transforms))
    expected = mean_rigid(transforms, point)
    np.testing.assert_allclose(mean_rigid(shuffled, point), expected, atol=1e-9)


@few
@given(transform=rigids(), other=rigids(), point=vectors)
def test_the_mean_of_two_rotations_is_halfway(transform, other, point):
    mean = mean_rigid([transform, other], point)[:3, :3]
    there, back = mean @ transform[:3, :3].T, other[:3, :3] @ mean.T
    np.testing.assert_allclose(there, back, atol=1e-9)


@few
@given(transform=rigids(), point=vectors)
def test_a_transform_and_its_inverse_cancel_out(transform, point):
    mean = mean_rigid([transform, np.linalg.inv(transform)], point)
    np.testing.assert_allclose(mean[:3, :3], np.eye(3), atol=1e-9)


@few
@given(transforms=several, before=rigids(), after=rigids(), point=vectors)
def test_where_the_origins_of_worlds_are_does_not_matter_to_a_mean(
    transforms, before, after, point
):
    mean = mean_rigid(transforms, apply_affine(before, point))
    moved = mean_rigid([after @ one @ before for one in transforms], point)
    np.testing.assert_allclose(moved, after @ mean @ before, atol=1e-8)
