"""A raw file is read to its end, or refused by name."""

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.conform import conform
from cascade_bids.preprocess.load import load_image, load_mask
from cascade_bids.units import is_unit_wrong

from .small_images import noise


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sub-01_FLAIR.nii.gz"
    data = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def test_whole_file_is_opened(path):
    assert load_image(path).shape == (20, 21, 22)


def test_checksum_is_read(path):
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ScanError, match=r"sub-01_FLAIR\.nii\.gz is no whole NIfTI image"):
        load_image(path)


@pytest.mark.parametrize("kept", [10, 500, 20_000])
def test_truncated_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ScanError, match="copy it again"):
        load_image(path)


def test_foreign_file_is_refused(tmp_path):
    path = tmp_path / "notes.nii"
    path.write_text("no image")
    with pytest.raises(ScanError, match=r"notes\.nii"):
        load_image(path)


MASK = np.zeros((6, 7, 5), np.uint8)
MASK[1:4, 2:5, 1:3] = 1


@pytest.mark.parametrize("extra", [(), (1,), (1, 1)])
@pytest.mark.parametrize("inside", [1, 255])
def test_a_mask_is_what_is_not_0(tmp_path, extra, inside):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image((MASK * inside).reshape(MASK.shape + extra), np.eye(4)), path)
    found = load_mask(path)
    np.testing.assert_array_equal(found.dataobj, MASK)
    assert found.get_data_dtype() == np.uint8


def test_what_is_no_number_is_no_brain(tmp_path):
    path = tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(np.where(MASK, np.float32(1), np.float32("nan")), np.eye(4)), path)
    np.testing.assert_array_equal(load_mask(path).dataobj, MASK)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.stack([MASK, MASK], axis=-1), r"mask\.nii has shape \(6, 7, 5, 2\)"),
        (MASK[..., 1], r"mask\.nii has shape \(6, 7\)"),
        (np.where(MASK, 0.4, 0), r"mask\.nii has values other than 0, but none of at least 0\.5"),
        (np.where(MASK, np.nan, 0), r"mask\.nii has values other than 0"),
    ],
    ids=["4D", "2D", "low", "NaN"],
)
def test_what_is_no_mask_is_refused(tmp_path, values, message):
    path = tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    with pytest.raises(ScanError, match=message):
        load_mask(path)


def test_a_mask_that_breaks_off_is_refused(tmp_path):
    path = tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(MASK, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ScanError, match=r"(?s)mask\.nii is damaged .*give a whole mask"):
        load_mask(path)


def _with_unit(image, unit, factor):
    affine = image.affine.copy()
    affine[:3] /= factor
    scaled = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    scaled.header.set_xyzt_units(unit)
    return scaled


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1)])
def test_units_of_length_are_honoured(tmp_path, reorient, unit, mm):
    image = reorient(noise())
    nib.save(_with_unit(image, unit, mm), tmp_path / "x.nii.gz")
    found = load_image(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(found.affine, image.affine, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.get_qform(), image.affine, atol=1e-3)
    np.testing.assert_allclose(found.header.get_zooms(), nib.affines.voxel_sizes(image.affine))
    assert found.header.get_xyzt_units()[0] == "mm"
    assert not is_unit_wrong(found)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_a_unit_that_makes_no_head_is_taken_as_mm_with_a_warning(tmp_path, unit):
    image = noise()
    nib.save(_with_unit(image, unit, 1), tmp_path / "x.nii")
    found = load_image(tmp_path / "x.nii")
    np.testing.assert_array_equal(found.affine, image.affine)
    assert is_unit_wrong(found)
    assert f"states the unit {unit}" in conform(found, "x").warnings[0]


def test_a_unit_that_nifti_does_not_know_is_mm(tmp_path):
    image = noise()
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "x.nii")
    found = load_image(tmp_path / "x.nii")
    np.testing.assert_array_equal(found.affine, image.affine)
    assert not is_unit_wrong(found)
