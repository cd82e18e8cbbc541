"""Every lesion becomes a sphere of one size, in mm, at its centre of mass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bids.lesions.spheres import SPHERE_MM, lesion_spheres

VOLUME_MM3 = np.pi / 6 * SPHERE_MM**3
few = settings(max_examples=30, derandomize=True, deadline=None)
spacings = st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.5])] * 3)


def empty(size_mm=30, voxel_mm=(1, 1, 1)):
    return np.zeros([round(size_mm / mm) for mm in voxel_mm], bool)


@few
@given(spacings, st.integers(1, 4), st.integers(1, 3))
def test_any_lesion_becomes_a_sphere_of_10_mm(voxel_mm, length, width):
    lesions = empty(voxel_mm=voxel_mm)
    start = np.array(lesions.shape) // 2
    lesions[tuple(slice(a, a + n) for a, n in zip(start, (length, width, 2), strict=True))] = True
    found = lesion_spheres(lesions, voxel_mm)
    assert found.dtype == bool
    assert found.sum() * np.prod(voxel_mm) == pytest.approx(VOLUME_MM3, rel=0.08)
    centre = np.argwhere(found).mean(0) * voxel_mm
    np.testing.assert_allclose(centre, np.argwhere(lesions).mean(0) * voxel_mm, atol=0.3)


def test_a_fine_grid_shows_the_volume():
    lesions = empty(14, (0.25, 0.25, 0.25))
    lesions[28, 28, 28] = True
    found = lesion_spheres(lesions, (0.25, 0.25, 0.25))
    assert found.sum() * 0.25**3 == pytest.approx(VOLUME_MM3, rel=0.01)


def test_thick_slices_are_cut_from_the_same_sphere():
    lesions = empty(30, (1, 1, 4))
    lesions[15, 15, 4] = True
    x, y, z = np.nonzero(lesion_spheres(lesions, (1, 1, 4)))
    assert (x.min(), x.max(), y.min(), y.max()) == (10, 20, 10, 20)
    assert sorted(set(z)) == [3, 4, 5]
    assert sorted(set(x[z == 3])) == [12, 13, 14, 15, 16, 17, 18]  # 4 mm off, 3 mm remain


def test_corners_join_lesions_and_gaps_part_them():
    joined, parted = empty(), empty()
    joined[10, 10, 10] = joined[11, 11, 11] = True
    parted[8, 15, 15] = parted[22, 15, 15] = True
    one = lesion_spheres(joined, (1, 1, 1))
    np.testing.assert_allclose(np.argwhere(one).mean(0), 10.5)
    two = lesion_spheres(parted, (1, 1, 1))
    assert two.sum() == pytest.approx(2 * VOLUME_MM3, rel=0.05)
    assert two[8, 15, 15] and two[22, 15, 15] and not two[15, 15, 15]


def test_a_large_lesion_shrinks_to_the_same_size():
    lesions = empty()
    lesions[5:25, 5:25, 5:25] = True
    assert lesion_spheres(lesions, (1, 1, 1)).sum() == pytest.approx(VOLUME_MM3, rel=0.08)


def test_the_border_cuts_a_sphere():
    lesions = empty()
    lesions[0, 15, 29] = True
    found = lesion_spheres(lesions, (1, 1, 1))
    assert found[:6, 15, 29].all() and not found[6:, 15, 29].any()
    assert not found[-6:].any()


def test_no_lesion_gives_no_sphere():
    assert not lesion_spheres(empty(), (1, 1, 1)).any()


@pytest.mark.parametrize("voxel_mm", [(1, 1), (1, 1, 0), (1, 1, float("nan"))])
def test_impossible_voxels_are_refused(voxel_mm):
    with pytest.raises(ValueError, match="voxel_mm="):
        lesion_spheres(empty(), voxel_mm)
