"""A raw file is read to its end, or refused by name."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.conform import conform
from cascade_bids.preprocess.load import check_file, load_image, load_mask, read_header
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


NIFTI = gzip.compress(noise().to_bytes())


def _header(**fields):
    """The bytes of an image with other values in its header, which nibabel would not write."""
    content = noise().to_bytes()
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(content), check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + content[348:]


def _row(**fields):
    return _header(qform_code=0, sform_code=1, **fields)


DAMAGED = {
    "text": ("x.nii", b"no image at all " * 50, "is no NIfTI image, by its first bytes"),
    "packed text": ("x.nii.gz", gzip.compress(b"no image"), "is no NIfTI image, by its first"),
    "web page": ("x.nii.gz", b"<html>not found</html>", "is no NIfTI image, nor compressed"),
    "empty": ("x.nii", b"", "is empty; copy or convert it again"),
    "packed nothing": ("x.nii.gz", gzip.compress(b""), "is no NIfTI image"),
    "packed, but not by name": ("x.nii", NIFTI, r"rename it to x\.nii\.gz$"),
    "packed by name only": ("x.nii.gz", gzip.decompress(NIFTI), r"rename it to x\.nii$"),
    "magic": ("x.nii", _header(magic=b"xxx"), "is no NIfTI image"),
    "cut off": ("x.nii", noise().to_bytes()[:-9], "claims 12 × 14 × 10 voxels, .* copy it again"),
    "header alone": ("x.nii", noise().to_bytes()[:348], "but it holds 348"),
    "offset": ("x.nii", _header(vox_offset=1e7), "but it holds"),
    "offset in the header": ("x.nii", _header(vox_offset=0), "invalid header .* convert it again"),
    "type": ("x.nii", _header(datatype=9999), "invalid header .*9999.* convert it again"),
    "intercept": ("x.nii", _header(scl_slope=1, scl_inter=np.nan), "invalid header"),
    "quaternion": ("x.nii", _header(qform_code=1, sform_code=0, quatern_b=5), "invalid header"),
    "NaN": ("x.nii", _row(srow_x=[np.nan, 0, 0, 0]), "no usable affine in its header; convert"),
    "infinite": ("x.nii", _row(srow_x=[1, 0, 0, np.inf]), "no usable affine"),
    "flat": ("x.nii", _row(srow_x=[0, 0, 0, 0]), "no usable affine"),
}


@pytest.mark.parametrize("read", [load_image, load_mask])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_that_is_no_image_is_named_with_what_to_do(tmp_path, kind, read):
    name, content, message = DAMAGED[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ScanError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path} ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0)])
@pytest.mark.parametrize("size", [0, np.nan, np.inf])
def test_a_voxel_size_that_is_missing_is_refused_where_it_counts(tmp_path, codes, size):
    path = tmp_path / "x.nii"
    sizes = [1, 1, 1.5, size, 1, 1, 1, 1]
    path.write_bytes(_header(qform_code=codes[0], sform_code=codes[1], pixdim=sizes))
    for read in (load_image, read_header):
        with pytest.raises(ScanError, match=r"x\.nii has no usable affine in its header; convert"):
            read(path)
    if size == 0:  # nibabel mends it, and the sform holds the size too
        path.write_bytes(_header(qform_code=0, sform_code=1, pixdim=sizes))
        np.testing.assert_allclose(load_image(path).affine, noise().affine)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_header_that_claims_too_much_is_refused_before_there_is_room_made(tmp_path, name, kind):
    content = kind.from_image(noise()).to_bytes()
    header = kind.header_class.from_fileobj(io.BytesIO(content), check=False)
    header["dim"][1:4] = 30_000
    content = header.binaryblock + content[header.sizeof_hdr :]
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ScanError, match=r"claims 30000 × 30000 × 30000 voxels, which take 54000"):
        load_image(path)


def test_an_unknown_data_type_is_told_once_and_by_this_program(tmp_path, caplog):
    header = nib.Nifti1Header()
    header["datatype"], header["bitpix"] = 1, 1
    path = tmp_path / "x.nii"
    path.write_bytes(header.binaryblock + bytes(999))
    with pytest.raises(ScanError, match=r"x\.nii has an invalid header \(data code 1"):
        load_image(path)
    assert caplog.text == ""


def test_a_folder_and_a_link_to_nothing_are_named(tmp_path):
    (tmp_path / "x.nii.gz").mkdir()
    with pytest.raises(ScanError, match=r"x\.nii\.gz is a folder with the name of an image; put"):
        check_file(tmp_path / "x.nii.gz")
    (tmp_path / "y.nii.gz").symlink_to("gone")
    with pytest.raises(ScanError, match=r"y\.nii\.gz is a link to .* does not exist; fetch it"):
        check_file(tmp_path / "y.nii.gz")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "may not be read by this user"),
        (OSError(5, "Input/output error"), r"can't be read \(Input/output error\); check the disk"),
    ],
)
def test_a_file_that_may_or_can_not_be_read_is_named(path, monkeypatch, error, message):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    for read in (check_file, load_image, load_mask, read_header):
        with pytest.raises(ScanError, match=rf"sub-01_FLAIR\.nii\.gz {message}"):
            read(path)


CONTENT = noise().to_bytes()


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 347), st.integers(0, 255)), min_size=1, max_size=12))
@example([(40, 200)])
@example([(42, 255), (43, 127), (44, 255), (45, 127), (46, 255), (47, 127)])
def test_whatever_a_header_holds_an_image_is_read_or_refused_by_name(tmp_path_factory, bytes_):
    path = tmp_path_factory.mktemp("fuzz") / "x.nii"
    content = bytearray(CONTENT)
    for place, value in bytes_:
        content[place] = value
    path.write_bytes(bytes(content))
    try:
        found = conform(load_image(path), "x.nii").image
    except ScanError as error:
        assert "x.nii" in str(error)
    else:
        assert np.isfinite(np.asarray(found.dataobj)).all()
        assert np.isfinite(found.affine).all()


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
    with pytest.raises(ScanError, match=r"mask\.nii is no whole NIfTI image .*; copy it"):
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


def test_extensions_of_the_header_do_not_matter(tmp_path):
    """One whose size is no multiple of 16 bytes is against the standard; none is read."""
    raw = noise().to_bytes()
    extension = np.array([24, 6], "<i4").tobytes() + b"odd".ljust(24)
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(raw), check=False)
    header["vox_offset"] = 352 + len(extension)
    path = tmp_path / "sub-01_FLAIR.nii"
    path.write_bytes(header.binaryblock + b"\1\0\0\0" + extension + raw[352:])
    np.testing.assert_array_equal(load_image(path).get_fdata(), noise().get_fdata())
