"""Whatever the scanner stored becomes one form, or an error that names the file."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.conform import conform

from .small_images import SHAPE, noise


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
