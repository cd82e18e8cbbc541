"""Each step on images whose truth is known: where voxels lie, what moved, what was shaded."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cascade_bids.errors import ScanError
from cascade_bids.phantom import make_head
from cascade_bids.phantom.anatomy import build_anatomy, render
from cascade_bids.phantom.scanner import acquire, centred_grid
from cascade_bids.preprocess import steps
from cascade_bids.preprocess.steps import (
    align_to_template,
    apply_mask,
    conform,
    correct_bias,
    network_grid,
    nonzero_mask,
    prepare,
    register_rigid,
    resample,
    resample_mask,
)

few = settings(max_examples=15, deadline=None, derandomize=True)
SHAPE = (12, 14, 10)


def noise(shape=SHAPE, dtype=np.int16, affine=None):
    values = np.random.default_rng(0).integers(1, 1000, shape).astype(dtype)
    if affine is None:
        affine = nib.affines.from_matvec(np.diag([1.0, 1.5, 3.0]), [-7, 20, 5])
    return nib.Nifti1Image(values, affine)


def rigid(degrees=(0, 0, 0), shift_mm=(0, 0, 0)):
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return nib.affines.from_matvec(turn, shift_mm)


def moved(image, motion):
    """Carry an image's anatomy elsewhere in the world, without resampling it."""
    return nib.Nifti1Image(np.asarray(image.dataobj), motion @ image.affine)


def brain_points(mask):
    return apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)[::50])


def mean_error_mm(found, truth, points):
    return np.linalg.norm(apply_affine(found, points) - apply_affine(truth, points), axis=1).mean()


# --- conform


def test_conform_keeps_every_voxel_in_its_place(reorient):
    image = reorient(noise())
    found = conform(image, "x.nii.gz")
    assert found.get_data_dtype() == np.float32
    assert nib.aff2axcodes(found.affine) == ("R", "A", "S")
    np.testing.assert_allclose(found.get_qform(), found.get_sform(), atol=1e-4)
    assert found.header["sform_code"] == found.header["qform_code"] == 1
    assert found.header.get_xyzt_units()[0] == "mm"

    voxels = np.argwhere(np.ones(image.shape))
    world = apply_affine(image.affine, voxels)
    there = np.rint(apply_affine(np.linalg.inv(found.affine), world)).astype(int)
    np.testing.assert_allclose(apply_affine(found.affine, there), world, atol=1e-3)
    np.testing.assert_array_equal(
        np.asarray(found.dataobj)[tuple(there.T)], np.asarray(image.dataobj)[tuple(voxels.T)]
    )


def test_conform_twice_is_conform_once(reorient):
    once = conform(reorient(noise()), "x")
    twice = conform(once, "x")
    np.testing.assert_array_equal(twice.dataobj, once.dataobj)
    np.testing.assert_array_equal(twice.affine, once.affine)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_axes_of_length_one_are_dropped(extra):
    image = noise()
    longer = nib.Nifti1Image(np.asarray(image.dataobj).reshape(SHAPE + extra), image.affine)
    np.testing.assert_array_equal(conform(longer, "x").dataobj, conform(image, "x").dataobj)


@pytest.mark.parametrize("shape", [(12, 14), (12, 14, 1), (12, 14, 10, 2), (12, 14, 7)])
def test_what_is_no_volume_is_refused(shape):
    with pytest.raises(ScanError, match=r"bold\.nii has shape \(12, 14.* 3D image of at least 8"):
        conform(noise(shape), "bold.nii")


def test_what_is_no_number_becomes_0():
    values = np.asarray(noise(dtype=np.float32).dataobj).copy()
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = np.nan, np.inf, -np.inf
    found = np.asarray(conform(nib.Nifti1Image(values, np.eye(4)), "x").dataobj)
    assert found[0, 0, 0] == found[1, 1, 1] == found[2, 2, 2] == 0
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[3:], values[3:])


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_a_constant_image_is_refused(value):
    image = nib.Nifti1Image(np.full(SHAPE, value, np.float32), np.eye(4))
    with pytest.raises(ScanError, match=r"x\.nii is constant"):
        conform(image, "x.nii")


def test_numbers_are_scaled_as_the_header_says(tmp_path):
    image = nib.Nifti1Image(np.asarray(noise().dataobj) / 7, np.eye(4))
    image.set_data_dtype(np.int16)  # written with a slope and an intercept
    nib.save(image, tmp_path / "x.nii")
    found = conform(nib.Nifti1Image.from_filename(tmp_path / "x.nii"), "x")
    np.testing.assert_allclose(found.dataobj, image.dataobj, atol=0.01)


def _cut(content):
    return content[: len(content) // 2]


def _scratched(content):
    """Bytes that no deflate stream may begin with."""
    return content[:40] + b"\xff" * 400 + content[440:]


def _unpacked_and_cut(content):
    return _cut(gzip.decompress(content))


@pytest.mark.parametrize(
    ("damage", "name"),
    [(_cut, "x.nii.gz"), (_scratched, "x.nii.gz"), (_unpacked_and_cut, "x.nii")],
    ids=["cut", "scratched", "cut, not packed"],
)
def test_a_damaged_file_is_named(tmp_path, damage, name):
    whole = tmp_path / "whole.nii.gz"
    nib.save(noise((40, 40, 40)), whole)
    # The header is read before; the damage shows when the voxels are.
    image = nib.Nifti1Image.from_filename(whole)
    path = tmp_path / name
    path.write_bytes(damage(whole.read_bytes()))
    opened = nib.Nifti1Image(
        nib.arrayproxy.ArrayProxy(path, image.header), image.affine, image.header
    )
    with pytest.raises(ScanError, match=r"(?s)sub-1_FLAIR is damaged .*; copy or convert it again"):
        conform(opened, "sub-1_FLAIR")


@pytest.mark.parametrize("dtype", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64])
def test_colours_and_complex_numbers_are_refused(dtype):
    values = np.zeros(SHAPE, dtype)
    with pytest.raises(ScanError, match=r"x\.nii holds .* no plain numbers"):
        conform(nib.Nifti1Image(values, np.eye(4)), "x.nii")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], "a sheared affine"),
        ([[0, 0, 0], [0, 1, 0], [0, 0, 1]], "no usable affine"),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 1]], "no usable affine"),
        ([[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]], "no usable affine"),
    ],
    ids=["sheared", "no spacing", "flat", "not a number"],
)
def test_an_affine_that_is_no_grid_is_refused(rows, message):
    image = noise()
    header = image.header.copy()
    header["sform_code"] = 1
    for name, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
        header[name] = [*row, 0]
    content = header.binaryblock + image.to_bytes()[len(header.binaryblock) :]
    with pytest.raises(ScanError, match=rf"x\.nii has {message}"):
        conform(nib.Nifti1Image.from_bytes(content), "x.nii")


# --- bias correction


@pytest.fixture(scope="module")
def clean():
    """A noiseless T1w at 3 mm, and where it is all white matter."""
    anatomy = build_anatomy()
    grid = centred_grid((192.0, 240.0, 186.0), (3.0, 3.0, 3.0))
    place = nib.affines.from_matvec(np.eye(3), [0, 18, -5])
    signal = acquire(render(anatomy, "T1w"), anatomy.affine, place, grid)
    white = acquire(anatomy.fractions["white"] / np.float32(255), anatomy.affine, place, grid)
    return nib.Nifti1Image(500 * signal, grid.affine), white > 0.97


def test_shading_is_removed(clean, reorient):
    image, white = clean
    x, y, z = (
        np.linspace(-1, 1, n).reshape(np.roll([-1, 1, 1], a)) for a, n in enumerate(white.shape)
    )
    field = np.exp(0.4 * x - 0.4 * y**2 + 0.3 * z).astype(np.float32)
    shaded = nib.Nifti1Image(np.asarray(image.dataobj) * field, image.affine)
    stored, inside = (
        conform(reorient(one), "x")
        for one in (shaded, nib.Nifti1Image(white.astype(np.uint8), image.affine))
    )
    found = correct_bias(stored)
    np.testing.assert_array_equal(found.affine, stored.affine)
    inside = np.asarray(inside.dataobj) > 0

    def variation(one):
        values = np.asarray(one.dataobj)[inside]
        return values.std() / values.mean()

    assert variation(stored) > 0.12
    assert variation(found) < 0.35 * variation(stored)
    assert np.asarray(found.dataobj).min() >= 0


def test_an_even_image_stays_even(clean):
    image, white = clean
    found = np.asarray(correct_bias(conform(image, "x")).dataobj)[white]
    assert found.std() / found.mean() < 0.05


def test_negative_noise_is_no_signal(clean):
    image, _ = clean
    ringing = np.where(np.asarray(image.dataobj) < 1, -5, np.asarray(image.dataobj))
    found = correct_bias(conform(nib.Nifti1Image(ringing, image.affine), "x"))
    assert np.asarray(found.dataobj).min() == 0


# --- registration


@pytest.fixture(scope="module")
def flair():
    return make_head(4, spacing_mm=(2, 2, 4), contrast="FLAIR")


@pytest.fixture(scope="module")
def t1w():
    """Of the same head in the same pose as the FLAIR."""
    return make_head(4, spacing_mm=(3, 3, 3), contrast="T1w")


def register(flair, image, brain, seed=0):
    return register_rigid(
        conform(flair.image, "FLAIR"),
        conform(image, "T1w"),
        fixed_brain=flair.brain_mask,
        moving_brain=conform(brain, "brain"),
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


@pytest.fixture
def coarse_template(monkeypatch):
    """The template at 2 mm, for speed."""
    monkeypatch.setattr(
        steps, "load_mni152_template", lambda resolution: load_mni152_template(2 * resolution)
    )
    monkeypatch.setattr(
        steps, "load_mni152_brain_mask", lambda resolution: load_mni152_brain_mask(2 * resolution)
    )


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


def test_a_brain_is_brought_to_the_template(coarse_template, individual, reorient, turned):
    image, brain, pose = individual
    rigidly, affinely = align_to_template(
        conform(reorient(image), "T1w"), conform(reorient(brain), "brain"), seed=0
    )
    np.testing.assert_allclose(rigidly[:3, :3] @ rigidly[:3, :3].T, np.eye(3), atol=1e-5)
    assert np.linalg.det(rigidly) == pytest.approx(1, abs=1e-5)
    template_points = brain_points(load_mni152_brain_mask(4))
    assert mean_error_mm(affinely, turned @ pose, template_points) < 1
    assert np.cbrt(np.linalg.det(affinely)) == pytest.approx(SCALE, abs=0.02)

    # A rigid transform can't shrink, but it turns the head back, and its middle lies right.
    apart = Rotation.from_matrix(rigidly[:3, :3].T @ (turned @ pose)[:3, :3] / SCALE)
    assert np.rad2deg(apart.magnitude()) < 1.5
    middle = template_points.mean(axis=0)
    assert mean_error_mm(rigidly, turned @ pose, middle[np.newaxis]) < 3


def test_the_network_grid_is_that_of_the_template():
    shape, affine = network_grid()
    template = load_mni152_template(1)
    assert shape == template.shape
    np.testing.assert_array_equal(affine, template.affine)
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), 1)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")


# --- resampling


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resampling_onto_itself_changes_nothing(reorient, order):
    image = conform(reorient(noise()), "x")
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
        [flair.image, elsewhere],
        [np.eye(4), turned @ move],
        flair.brain_mask,
        np.eye(4),
        shape,
        grid,
    )
    inside = np.asarray(mask.dataobj) > 0
    assert mask.get_data_dtype() == np.uint8
    for image in (*images, mask):
        assert image.shape == shape
        np.testing.assert_array_equal(image.affine, grid)
    flair_z, t1w_z = (np.asarray(image.dataobj) for image in images)
    for values in (flair_z, t1w_z):
        assert values.dtype == np.float32
        assert not values[~inside].any()
        assert -0.5 < np.median(values[inside]) < 0.5
    straight = prepare(
        [flair.image, t1w.image], [np.eye(4)] * 2, flair.brain_mask, np.eye(4), shape, grid
    )
    expected = np.asarray(straight[0][1].dataobj)
    assert np.corrcoef(t1w_z[inside], expected[inside])[0, 1] > 0.97


def test_an_image_without_contrast_in_the_brain_is_refused(flair):
    even = nib.Nifti1Image(np.full(flair.image.shape, 9, np.float32), flair.image.affine)
    with pytest.raises(ScanError, match="constant inside the brain"):
        prepare(
            [flair.image, even],
            [np.eye(4)] * 2,
            flair.brain_mask,
            np.eye(4),
            flair.image.shape,
            flair.image.affine,
        )


# --- masks


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
