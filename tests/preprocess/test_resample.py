"""Voxels and masks come to lie where the transform says."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.conform import conform
from cascade_bids.preprocess.masks import apply_mask, nonzero_mask
from cascade_bids.preprocess.normalise import bring_normalised, prepare
from cascade_bids.preprocess.resample import (
    average_blocks,
    resample,
    resample_mask,
    resample_share,
)

from .small_images import SHAPE, moved, noise, rigid

few = settings(max_examples=15, deadline=None, derandomize=True)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resampling_onto_itself_changes_nothing(reorient, order):
    image = conform(reorient(noise()), "x").image
    found = resample(image, image.shape, image.affine, np.eye(4), order=order)
    np.testing.assert_allclose(found.dataobj, image.dataobj, rtol=0, atol=2e-3 if order else 0)
    np.testing.assert_array_equal(found.affine, image.affine)
    assert found.get_data_dtype() == np.float32


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_shift_by_whole_voxels_moves_voxels(order):
    image = noise()
    shift = rigid(
        shift_mm=(2 * 1.0, -1 * 1.5, 0)
    )  # the grid's voxel i lies at the image's i + 2, j - 1
    found = np.asarray(resample(image, SHAPE, image.affine, shift, order=order).dataobj)
    values = np.asarray(image.dataobj)
    np.testing.assert_allclose(found[:-2, 1:], values[2:, :-1], rtol=0, atol=2e-3)
    assert not found[-2:].any()  # beyond the border
    assert not found[:, 0].any()


def test_a_ball_is_where_the_transform_says(reorient, turned):
    """A smooth ball, seen on a finer grid through a rigid transform."""
    centre = np.array([6.0, -4, 9])
    affine = nib.affines.from_matvec(np.diag([2.0, 2, 3]), [-30, -36, -30])
    world = apply_affine(affine, np.indices((30, 34, 22)).reshape(3, -1).T)
    values = np.exp(-((world - centre) ** 2).sum(axis=1) / 2 / 6**2).reshape(30, 34, 22)
    image = reorient(nib.Nifti1Image(values.astype(np.float32), affine))
    move = rigid((10, 5, -8), (3, 2, -4))
    grid = nib.affines.from_matvec(np.eye(3) * 1.5, [-30, -36, -30])
    found = resample(image, (45, 45, 45), grid, turned @ move, order=3)
    expected = apply_affine(np.linalg.inv(move), centre)
    place = apply_affine(grid, ndimage.center_of_mass(np.asarray(found.dataobj)))
    np.testing.assert_allclose(place, expected, atol=0.1)
    assert np.asarray(found.dataobj).max() == pytest.approx(1, abs=0.02)


@few
@given(
    low=st.floats(-50, 50),
    height=st.floats(1, 1000),
    degrees=st.tuples(*[st.floats(-20, 20)] * 3),
    order=st.sampled_from([0, 1, 3]),
)
def test_values_stay_in_the_range_of_the_image(low, height, degrees, order):
    """A cubic spline overshoots at an edge; an image must not."""
    values = np.full(SHAPE, low, np.float32)
    values[4:8, 4:9, 3:7] += height
    image = nib.Nifti1Image(values, np.eye(4))
    found = np.asarray(resample(image, SHAPE, np.eye(4), rigid(degrees), order=order).dataobj)
    assert found.min() >= min(0, values.min())
    assert found.max() <= max(0, values.max())


def test_half_a_voxel_is_enough_for_a_mask():
    values = np.zeros((10, 4, 4), np.uint8)
    values[3:7] = 1
    mask = nib.Nifti1Image(values, np.eye(4))

    def rows(shift_mm):
        found = resample_mask(mask, values.shape, np.eye(4), rigid(shift_mm=(shift_mm, 0, 0)))
        assert found.get_data_dtype() == np.uint8
        return np.flatnonzero(np.asarray(found.dataobj)[:, 1, 1]).tolist()

    assert rows(0) == [3, 4, 5, 6]
    assert rows(0.4) == [3, 4, 5, 6]
    assert rows(0.6) == [2, 3, 4, 5]
    assert rows(-1) == [4, 5, 6, 7]


def test_a_share_is_the_part_of_a_voxel_that_is_inside():
    values = np.zeros((10, 4, 4), np.uint8)
    values[3:7] = 1
    mask = nib.Nifti1Image(values, np.eye(4))

    def row(shift_mm):
        found = resample_share(mask, values.shape, np.eye(4), rigid(shift_mm=(shift_mm, 0, 0)))
        assert found.get_data_dtype() == np.float32
        return np.asarray(found.dataobj)[:, 1, 1]

    np.testing.assert_array_equal(row(0), values[:, 1, 1])
    np.testing.assert_allclose(row(0.25), [0, 0, 0.25, 1, 1, 1, 0.75, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(row(-1), np.roll(values[:, 1, 1], 1))


def test_a_share_changes_linearly_between_thick_slices():
    values = np.zeros((4, 4, 5), np.uint8)
    values[1:3, 1:3, 2] = 1
    mask = nib.Nifti1Image(values, np.diag([1.0, 1, 4, 1]))
    found = np.asarray(resample_share(mask, (4, 4, 17), np.eye(4), np.eye(4)).dataobj)
    rising = [0.25, 0.5, 0.75]
    np.testing.assert_allclose(found[1, 1, 5:12], [*rising, 1, *rising[::-1]], atol=1e-6)
    assert not found[0].any()


def test_a_lesion_between_the_centres_is_no_mistake_but_one_outside_is():
    values = np.zeros((40, 40, 40), np.uint8)
    values[22, 22, 22] = 1
    coarse = (5, 5, 5), np.diag([2.0, 2, 2, 1])
    fine = nib.affines.from_matvec(0.25 * np.eye(3), [-0.5] * 3)
    found = resample_share(nib.Nifti1Image(values, fine), *coarse, np.eye(4))
    assert not np.asarray(found.dataobj).any()
    with pytest.raises(ValueError, match="lies outside of the image"):
        resample_share(nib.Nifti1Image(values, fine), *coarse, rigid(shift_mm=(50, 0, 0)))
    empty = nib.Nifti1Image(np.zeros_like(values), fine)
    nothing = resample_share(empty, *coarse, rigid(shift_mm=(50, 0, 0)))
    assert not np.asarray(nothing.dataobj).any()


def test_a_mask_keeps_its_volume(reorient, turned, flair):
    brain = reorient(flair.brain_mask)
    grid = nib.affines.from_matvec(np.eye(3) * 2.5, [-100, -125, -100])
    found = resample_mask(brain, (80, 100, 80), grid, turned)
    volume_ml = np.asarray(found.dataobj).sum() * 2.5**3 / 1000
    assert volume_ml == pytest.approx(np.asarray(brain.dataobj).sum() * 16 / 1000, rel=0.01)


def test_images_of_a_scan_come_onto_one_grid_and_scale(flair, t1w, reorient, turned):
    """The T1w lies elsewhere, and is stored otherwise; after `prepare` both show one head."""
    move = rigid((5, 3, -6), (7, -4, 3))
    elsewhere = reorient(moved(t1w.image, move))
    grid = nib.affines.from_matvec(np.eye(3) * 3, [-84, -99, -90])
    shape = (57, 67, 61)
    images, mask = prepare(
        {"FLAIR": flair.image, "T1w": elsewhere},
        {"FLAIR": np.eye(4), "T1w": turned @ move},
        flair.brain_mask,
        np.eye(4),
        shape,
        grid,
    )
    inside = np.asarray(mask.dataobj) > 0
    assert mask.get_data_dtype() == np.uint8
    for image in (*images.values(), mask):
        assert image.shape == shape
        np.testing.assert_array_equal(image.affine, grid)
    flair_z, t1w_z = (np.asarray(image.dataobj) for image in images.values())
    for values in (flair_z, t1w_z):
        assert values.dtype == np.float32
        assert not values[~inside].any()
        assert -0.5 < np.median(values[inside]) < 0.5
    straight, _ = prepare(
        {"FLAIR": flair.image, "T1w": t1w.image},
        dict.fromkeys(("FLAIR", "T1w"), np.eye(4)),
        flair.brain_mask,
        np.eye(4),
        shape,
        grid,
    )
    expected = np.asarray(straight["T1w"].dataobj)
    assert np.corrcoef(t1w_z[inside], expected[inside])[0, 1] > 0.97


def test_an_image_without_contrast_in_the_brain_is_refused(flair):
    even = nib.Nifti1Image(np.full(flair.image.shape, 9, np.float32), flair.image.affine)
    with pytest.raises(ScanError, match=r"the T1w: .*constant inside the brain"):
        prepare(
            {"FLAIR": flair.image, "T1w": even},
            dict.fromkeys(("FLAIR", "T1w"), np.eye(4)),
            flair.brain_mask,
            np.eye(4),
            flair.image.shape,
            flair.image.affine,
        )


def test_masking_keeps_the_inside():
    image = noise()
    inside = np.zeros(SHAPE, np.uint8)
    inside[2:9, 3:7, 1:8] = 1
    found = apply_mask(image, nib.Nifti1Image(inside, image.affine))
    np.testing.assert_array_equal(found.dataobj, np.asarray(image.dataobj) * inside)
    np.testing.assert_array_equal(found.affine, image.affine)


def test_an_extracted_brain_is_what_is_bright():
    truth = np.zeros((30, 30, 30), bool)
    truth[5:25, 5:25, 5:25] = True
    values = np.where(truth, 400.0, 0)
    values[10:12, 10:12, 10:12] = -3  # ventricles after resampling
    values[14:16, 14:16, 14:16] = 0
    ringing = np.random.default_rng(0).uniform(-2, 2, values.shape)
    values = np.where(truth, values, ringing)
    values[0, 0, 0] = 300  # a speck
    found = nonzero_mask(nib.Nifti1Image(values.astype(np.float32), np.eye(4)))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(found.dataobj) > 0, truth)


@pytest.mark.parametrize("value", [0, -1])
def test_an_image_without_signal_has_no_brain(value):
    with pytest.raises(ScanError, match="no positive voxel, so no brain"):
        nonzero_mask(nib.Nifti1Image(np.full(SHAPE, value, np.float32), np.eye(4)))


def test_the_zeros_around_z_scores_do_not_leak_into_the_brain():
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    inside = np.zeros((24, 24, 10), np.uint8)
    inside[6:18, 6:18, 2:8] = 1
    brain = nib.Nifti1Image(inside, affine)
    scores = nib.Nifti1Image(np.where(inside, -4, 0).astype(np.float32), affine)
    turned = rigid((4, 3, -5), (1, -2, 0.5))
    images, mask = bring_normalised({"FLAIR": scores}, brain, turned, (28, 28, 32), np.eye(4))
    found, kept = (np.asarray(image.dataobj) for image in (images["FLAIR"], mask))
    assert kept.sum() == pytest.approx(3 * inside.sum(), rel=0.1)
    np.testing.assert_allclose(found[kept > 0], -4, atol=1e-4)
    assert not found[kept == 0].any()


@few
@given(
    degrees=st.tuples(*[st.floats(-90, 90)] * 3),
    shift=st.tuples(*[st.floats(-8, 8)] * 3),
    order=st.sampled_from([0, 1, 3]),
)
def test_what_is_needed_is_the_same_alone(degrees, shift, order):
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(30, 28, 26)), np.eye(4))
    shape, move = (24, 30, 20), rigid(degrees, shift)
    needed = np.zeros(shape, bool)
    needed[8:13, 9:20, 5:9] = np.random.default_rng(1).random((5, 11, 4)) < 0.5
    whole = np.asarray(resample(image, shape, np.eye(4), move, order=order).dataobj)
    found = resample(image, shape, np.eye(4), move, order=order, where=needed)
    np.testing.assert_allclose(found.dataobj, np.where(needed, whole, 0), atol=1e-4)


def test_nothing_needed_gives_zeros():
    nowhere = np.zeros(SHAPE, bool)
    found = resample(noise(), SHAPE, np.eye(4), np.eye(4), order=3, where=nowhere)
    assert not np.asarray(found.dataobj).any()


def test_an_image_on_its_own_grid_stays_as_it_is(reorient):
    image = reorient(noise())
    stored = conform(image, "x").image
    found = resample(stored, image.shape, image.affine, np.eye(4), order=3)
    np.testing.assert_array_equal(found.dataobj, image.dataobj)


def test_nearly_equal_grids_are_interpolated():
    ramp = np.arange(300, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32)
    image = nib.Nifti1Image(ramp, np.eye(4))
    grid = np.diag([1.0009, 1, 1, 1])
    found = np.asarray(resample(image, (290, 8, 8), grid, np.eye(4), order=3).dataobj)
    np.testing.assert_allclose(found[:, 4, 4], 1.0009 * np.arange(290), atol=0.01)


@pytest.mark.parametrize("size_mm", [0.5, 2.0, 3.1])
def test_averaged_blocks_keep_a_ramp_in_its_place(size_mm, reorient):
    grid = nib.affines.from_matvec(np.diag([1.0, 0.7, 3.0]), [5, -9, 2])
    image = nib.Nifti1Image(np.zeros((13, 22, 9), np.float32), grid)
    world = apply_affine(grid, np.moveaxis(np.indices(image.shape), 0, -1))
    ramp = reorient(nib.Nifti1Image(world @ [1.0, -2.0, 0.5], grid))
    found = average_blocks(ramp, size_mm)
    np.testing.assert_allclose(
        nib.affines.voxel_sizes(found.affine) / nib.affines.voxel_sizes(ramp.affine),
        np.maximum(1, np.rint(size_mm / nib.affines.voxel_sizes(ramp.affine))),
    )
    # The ramp is linear in world coordinates, as the mean of a block is at its centre.
    voxels = np.argwhere(np.ones(ramp.shape))
    known = np.column_stack([apply_affine(ramp.affine, voxels), np.ones(len(voxels))])
    slope, *_ = np.linalg.lstsq(known, np.asarray(ramp.dataobj)[tuple(voxels.T)], rcond=None)
    voxels = np.argwhere(np.ones(found.shape))
    expected = apply_affine(found.affine, voxels) @ slope[:3] + slope[3]
    np.testing.assert_allclose(np.asarray(found.dataobj)[tuple(voxels.T)], expected, atol=1e-3)


def test_a_file_that_lies_elsewhere_gives_zeros(tmp_path):
    """nibabel 5.4.2 raises OSError for some empty parts of a file, as for this one."""
    path = tmp_path / "mask.nii"
    nib.Nifti1Image(np.ones((24, 28, 22), np.uint8), np.eye(4)).to_filename(path)
    far = rigid(shift_mm=(0, 50, 0))
    found = resample(nib.load(path), (24, 28, 22), np.eye(4), far, order=1)
    assert not np.asarray(found.dataobj).any()
