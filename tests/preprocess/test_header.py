"""The two forms of a header: which differ, and how outputs get them."""

import ants
import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade_bids.preprocess.header import (
    give_forms,
    is_affine_usable,
    is_orientation_known,
    measure_forms_apart,
)
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.load import load_image, read_header

from .small_images import SHAPE, noise, rigid

FORMS = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z")


def with_forms(image, qform, qform_code, sform, sform_code):
    """An image whose header holds both affines, whatever the codes are."""
    image.set_qform(qform, code=qform_code)
    image.set_sform(sform, code=sform_code)
    image.header["qform_code"], image.header["sform_code"] = qform_code, sform_code
    return image


def test_the_distance_of_the_forms_is_that_of_the_corner_that_is_furthest(reorient):
    image = reorient(noise())
    shifted = rigid(shift_mm=(20, -15, 6)) @ image.affine
    header = with_forms(image, shifted, 1, image.affine, 2).header
    assert measure_forms_apart(header) == pytest.approx(np.linalg.norm([20, -15, 6]), abs=1e-3)
    turned = rigid((0, 0, 5)) @ image.affine
    corner = np.array(SHAPE) - 1
    ends = [
        np.linalg.norm(
            nib.affines.apply_affine(turned, end) - nib.affines.apply_affine(image.affine, end)
        )
        for end in np.array(list(np.ndindex(2, 2, 2))) * corner
    ]
    header = with_forms(image, turned, 1, image.affine, 2).header
    assert measure_forms_apart(header) == pytest.approx(max(ends), abs=1e-2)


@pytest.mark.parametrize(("qform_code", "sform_code"), [(0, 0), (1, 0), (0, 2)])
def test_one_form_alone_does_not_differ(qform_code, sform_code):
    image = noise()
    shifted = rigid(shift_mm=(30, 0, 0)) @ image.affine
    header = with_forms(image, shifted, qform_code, image.affine, sform_code).header
    assert measure_forms_apart(header) == 0
    assert is_orientation_known(header) == (qform_code + sform_code > 0)


def test_a_qform_that_is_none_differs():
    image = with_forms(noise(), noise().affine, 1, noise().affine, 1)
    image.header["quatern_b"] = 5
    assert measure_forms_apart(image.header) == np.inf


@pytest.mark.parametrize("row", [[np.nan, 0, 0, 0], [1, 0, 0, np.inf], [0, 0, 0, 0], [0, 1, 0, 0]])
def test_an_affine_that_places_nothing_is_unusable(row):
    affine = np.eye(4)
    affine[0] = row
    assert not is_affine_usable(affine)
    assert is_affine_usable(np.diag([-1.0, 2, 3, 1]))


angles, shifts = (
    st.tuples(*[st.floats(-most, most, allow_subnormal=False)] * 3) for most in (170, 60)
)
codes = st.integers(0, 4)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(angles, shifts, codes, codes)
@example((0, 0, 0), (20, 15, 8), 1, 2)
@example((0, 0, 180), (0, 0, 0), 1, 1)
@example((12, -7, 30), (26, 0, 0), 2, 4)
@example((0, 0, 0), (0, 0, 0), 0, 0)
def test_every_program_sees_an_output_where_it_sees_the_raw_image(
    tmp_path_factory, degrees, shift_mm, qform_code, sform_code
):
    folder = tmp_path_factory.mktemp("forms")
    image = noise()
    moved = rigid(degrees, shift_mm) @ image.affine
    raw = with_forms(image, moved, qform_code, image.affine, sform_code)
    nib.save(raw, folder / "raw.nii")
    header = read_header(folder / "raw.nii").header
    affine = load_image(folder / "raw.nii").affine
    found = give_forms(make_image(np.ones(SHAPE), affine, np.uint8), header)
    nib.save(found, folder / "mask.nii")

    ours, theirs = (nib.load(folder / name) for name in ("mask.nii", "raw.nii"))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    assert ours.get_data_dtype() == np.uint8
    one, other = (ants.image_read(str(folder / name)) for name in ("mask.nii", "raw.nii"))
    np.testing.assert_allclose(one.origin, other.origin, atol=1e-3)
    np.testing.assert_allclose(one.direction, other.direction, atol=1e-4)
    np.testing.assert_allclose(one.spacing, other.spacing, atol=1e-4)
    if measure_forms_apart(theirs.header) > 0.2 or not is_orientation_known(theirs.header):
        for name in ("qform_code", "sform_code", *FORMS):
            np.testing.assert_array_equal(ours.header[name], theirs.header[name])


def test_forms_that_are_the_same_change_nothing(reorient):
    raw = reorient(noise())
    image = make_image(np.ones(SHAPE), raw.affine)
    assert give_forms(image, raw.header) is image


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001)])
def test_both_forms_come_to_mm(tmp_path, unit, mm):
    image = noise()
    shifted = rigid((0, 0, 9), (20, 15, 8)) @ image.affine
    small = [
        nib.affines.from_matvec(a[:3, :3] / mm, a[:3, 3] / mm) for a in (shifted, image.affine)
    ]
    raw = with_forms(noise(), small[0], 1, small[1], 2)
    raw.header.set_xyzt_units(unit)
    nib.save(raw, tmp_path / "x.nii")
    found = load_image(tmp_path / "x.nii")
    np.testing.assert_allclose(found.get_qform(), shifted, atol=1e-3)
    np.testing.assert_allclose(found.get_sform(), image.affine, atol=1e-3)
    assert (found.header["qform_code"], found.header["sform_code"]) == (1, 2)


def test_the_forms_of_a_nifti_2_image_stay(tmp_path):
    image = noise()
    shifted = rigid(shift_mm=(20, 15, 8)) @ image.affine
    for codes_ in ((1, 2), (0, 0)):
        raw = nib.Nifti2Image(np.asarray(image.dataobj), image.affine)
        nib.save(with_forms(raw, shifted, codes_[0], image.affine, codes_[1]), tmp_path / "x.nii")
        found = load_image(tmp_path / "x.nii").header
        assert (found["qform_code"], found["sform_code"]) == codes_
        np.testing.assert_allclose(found.get_qform(), shifted, atol=1e-3)
