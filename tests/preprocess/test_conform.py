"""Whatever the scanner stored becomes one form, or an error that names the file."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.conform import conform, orient, shift_negative, undo_wrap

from .small_images import SHAPE, noise


def test_conform_keeps_every_voxel_in_its_place(reorient):
    image = reorient(noise())
    found, warnings, known = conform(image, "x.nii.gz")
    assert known
    assert warnings == []
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
    once = conform(reorient(noise()), "x").image
    twice = conform(once, "x").image
    np.testing.assert_array_equal(twice.dataobj, once.dataobj)
    np.testing.assert_array_equal(twice.affine, once.affine)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_axes_of_length_one_are_dropped(extra):
    image = noise()
    longer = nib.Nifti1Image(np.asarray(image.dataobj).reshape(SHAPE + extra), image.affine)
    found, expected = (conform(one, "x").image for one in (longer, image))
    np.testing.assert_array_equal(found.dataobj, expected.dataobj)


@pytest.mark.parametrize("shape", [(12, 14), (12, 14, 1), (12, 14, 10, 2), (12, 14, 7)])
def test_what_is_no_volume_is_refused(shape):
    with pytest.raises(ScanError, match=r"bold\.nii has shape \(12, 14.* 3D image of at least 8"):
        conform(noise(shape), "bold.nii")


def test_what_is_no_number_becomes_0():
    values = np.asarray(noise(dtype=np.float32).dataobj).copy()
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = np.nan, np.inf, -np.inf
    found = np.asarray(conform(nib.Nifti1Image(values, np.eye(4)), "x").image.dataobj)
    assert found[0, 0, 0] == found[1, 1, 1] == found[2, 2, 2] == 0
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[3:], values[3:])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0, "is constant"),
        (7, "is constant"),
        (np.nan, "holds no finite"),
        (np.inf, "holds no finite"),
    ],
)
def test_an_image_of_one_value_is_refused(value, problem):
    image = nib.Nifti1Image(np.full(SHAPE, value, np.float32), np.eye(4))
    with pytest.raises(ScanError, match=rf"x\.nii {problem}"):
        conform(image, "x.nii")


def test_an_image_without_signal_is_refused():
    values = -np.asarray(noise().dataobj)
    with pytest.raises(ScanError, match=r"x\.nii has no positive voxel; check the conversion"):
        conform(nib.Nifti1Image(values, np.eye(4)), "x.nii")


def test_numbers_are_scaled_as_the_header_says(tmp_path):
    image = nib.Nifti1Image(np.asarray(noise().dataobj) / 7, np.eye(4))
    image.set_data_dtype(np.int16)  # written with a slope and an intercept
    nib.save(image, tmp_path / "x.nii")
    found = conform(nib.Nifti1Image.from_filename(tmp_path / "x.nii"), "x").image
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


@pytest.fixture
def head():
    """A smooth head of up to 400 in air of noise, as float32."""
    x, y, z = (np.linspace(-1.4, 1.4, n) for n in (40, 44, 36))
    radius = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    noise_level = np.random.default_rng(0).rayleigh(4, radius.shape)
    return (400 * np.clip(5 - 5 * radius, 0, 1) + noise_level).astype(np.float32)


@pytest.mark.parametrize("offset", [-400, -1000])
def test_a_head_with_an_offset_is_shifted_and_nothing_is_cut(head, offset):
    found, warning = shift_negative(head + np.float32(offset))
    assert np.ptp(found - head) < 1e-3
    assert abs((found - head).mean()) < 5
    assert "was added" in warning


@pytest.mark.parametrize("level", [-300, -8])
def test_ringing_and_noise_in_the_air_are_left_as_they_are(head, level):
    dark = head < 20
    dark[10:] &= level > -10  # noise is everywhere, ringing is rare
    dark[:10, 1:] &= level > -10
    head[dark] = level
    found, warning = shift_negative(head)
    np.testing.assert_array_equal(found, head)
    assert warning is None


def test_a_brain_in_z_scores_lies_above_its_background(head):
    brain = head > 100
    scores = np.where(brain, (head - head[brain].mean()) / head[brain].std(), 0).astype(np.float32)
    found, warning = shift_negative(scores)
    np.testing.assert_array_equal(found > 0, brain)
    assert np.corrcoef(found[brain], head[brain])[0, 1] > 0.999
    assert "a part of the brain" in warning


def test_a_background_that_interpolation_changed_is_one(head):
    brain = head > 100
    scores = np.where(brain, (head - head[brain].mean()) / head[brain].std(), 0)
    scores += np.random.default_rng(0).uniform(-0.001, 0.001, scores.shape)
    found, warning = shift_negative(scores.astype(np.float32))
    assert not found[~brain].any()
    assert (found[brain] > 0).mean() > 0.98
    assert "a part of the brain" in warning


def test_splines_that_ring_around_a_brain_lift_no_air(head):
    brain = head > 100
    scores = np.where(brain, (head - head[brain].mean()) / head[brain].std(), 0)
    moved = np.where(abs(scores) > 0, ndimage.shift(scores, 0.5, order=3), 0)
    # Most air stays exactly 0, and the air near the brain rings.
    ringing = ndimage.binary_dilation(brain, iterations=3) & ~brain
    moved[ringing] = np.random.default_rng(0).normal(0, 0.001, ringing.sum())
    found, _ = shift_negative(moved.astype(np.float32))
    assert not found[~brain].any()
    assert (found[brain] > 0).mean() > 0.98


def test_a_whole_image_in_z_scores_is_a_head_with_an_offset(head):
    found, _ = shift_negative((head - head.mean()) / head.std())
    np.testing.assert_allclose(found * head.std(), head - np.percentile(head, 1), atol=1e-2)


@pytest.mark.parametrize("brightest", [40_000, 65_535])
def test_unsigned_numbers_stored_as_signed_are_read_as_unsigned(head, brightest):
    unsigned = (head * (brightest / head.max())).astype(np.uint16)
    found, warning = undo_wrap(unsigned.view(np.int16))
    np.testing.assert_array_equal(found, unsigned)
    assert "unsigned but stored as signed; that was undone" in warning


@pytest.mark.parametrize("offset", [0, -400, -32_000])
def test_signed_numbers_stay_signed(head, offset):
    signed = (head * 75 + offset).astype(np.int16)
    found, warning = undo_wrap(signed)
    np.testing.assert_array_equal(found, signed)
    assert warning is None


def test_numbers_that_jump_both_ways_are_warned_of():
    noise_level = np.random.default_rng(0).integers(-(2**15), 2**15, (20, 20, 20), np.int16)
    found, warning = undo_wrap(noise_level)
    np.testing.assert_array_equal(found, noise_level)
    assert "could not be decided" in warning


def test_a_file_of_wrapped_numbers_is_read_with_a_warning(tmp_path, head):
    unsigned = (head * (65_535 / head.max())).astype(np.uint16)
    for order in "<>":
        header = nib.Nifti1Header(endianness=order)
        header.set_data_dtype(np.int16)
        image = nib.Nifti1Image(unsigned.view(np.int16), np.eye(4), header)
        nib.save(image, tmp_path / "x.nii.gz")
        found, warnings, _ = conform(nib.Nifti1Image.from_filename(tmp_path / "x.nii.gz"), "x")
        np.testing.assert_array_equal(found.dataobj, unsigned)
        assert len(warnings) == 1


def test_the_lowest_number_in_many_voxels_stands_for_no_signal(tmp_path, head):
    signed = np.rint(head).astype(np.int16)
    signed[:6] = -(2**15)
    nib.save(nib.Nifti1Image(signed, np.eye(4)), tmp_path / "x.nii.gz")
    found, warnings, _ = conform(nib.Nifti1Image.from_filename(tmp_path / "x.nii.gz"), "x")
    np.testing.assert_array_equal(np.asarray(found.dataobj)[6:], signed[6:])
    assert not np.asarray(found.dataobj)[:6].any()
    assert warnings == []


def test_label_maps_keep_their_values(reorient):
    labels = noise()
    labels.dataobj[...] = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 5 - 2
    found = orient(reorient(labels), "x")
    assert nib.aff2axcodes(found.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(np.unique(found.dataobj), [-2, -1, 0, 1, 2])
