"""Headers that tell two places, or none: what a run writes, and what it says."""

from collections.abc import Callable
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from .tiny_heads import (
    LESION_ML,
    Run,
    image_path,
    make_dataset,
    run,
    stand_ins,
    stats,
)

FORMS = ("qform_code", "sform_code", "qoffset_x", "quatern_d", "srow_x", "srow_y", "srow_z")
APART_MM = (20, 15, 8)
ON_RAW_GRIDS = 7
"""Mask, probabilities, lesions, brain, two prepared images; and the mask in T1w space."""


def rewrite(path: Path, reorient: Callable, qform_code: int, sform_code: int) -> None:
    """Store an image in another way, with a qform elsewhere than its sform."""
    image = reorient(nib.Nifti1Image.from_filename(path))
    shift = nib.affines.from_matvec(np.eye(3), APART_MM)
    image.set_qform(shift @ image.affine, code=qform_code)
    image.set_sform(image.affine, code=sform_code)
    image.header["qform_code"], image.header["sform_code"] = qform_code, sform_code
    image.to_filename(path)


@pytest.fixture
def rewritten(tmp_path: Path, reorient: Callable, turned: np.ndarray) -> Callable[[int, int], Run]:
    """Run on a head whose forms have these codes."""

    def process(qform_code: int, sform_code: int) -> Run:
        bids = make_dataset(tmp_path / "bids", "sub-01")
        for contrast in ("FLAIR", "T1w"):
            rewrite(image_path(bids, "sub-01", contrast), reorient, qform_code, sform_code)
        with stand_ins(turned):
            return run(bids, tmp_path / "out", "--output-spaces", "T1w")

    return process


def outputs(done: Run) -> list[tuple[Path, Path]]:
    """Give each image of a run, with the raw image on whose grid it lies."""
    bids = done.out.with_name("bids")
    found = sorted((done.out / "sub-01/anat").glob("*.nii.gz"))
    assert len(found) == ON_RAW_GRIDS
    return [
        (path, image_path(bids, "sub-01", "T1w" if "space-T1w" in path.name else "FLAIR"))
        for path in found
    ]


def test_outputs_carry_the_two_forms_of_the_raw_image(rewritten: Callable) -> None:
    done = rewritten(1, 2)
    assert done.code == 0, done.text
    for path, raw in outputs(done):
        ours, theirs = (nib.load(one) for one in (path, raw))
        for name in FORMS:
            np.testing.assert_array_equal(ours.header[name], theirs.header[name], err_msg=name)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        # ITK takes the qform here.
        one, other = (ants.image_read(str(name)) for name in (path, raw))
        np.testing.assert_allclose(one.origin, other.origin, atol=1e-3)
        np.testing.assert_allclose(one.direction, other.direction, atol=1e-5)
        far = np.array(one.origin) * (-1, -1, 1) - ours.affine[:3, 3]
        np.testing.assert_allclose(far, APART_MM, atol=1e-2)
    measured = stats(done.out, "sub-01")
    assert measured is not None
    assert measured["load_ml"] == pytest.approx(LESION_ML, rel=0.1)
    said = [text for text in measured["warnings"] if "up to 26.2 mm apart" in text]
    assert [text.split(":")[0] for text in said] == ["sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz"]
    assert "26.2 mm apart" in (done.out / "sub-01.html").read_text()


def test_a_header_without_orientation_gives_no_side_and_no_location(rewritten: Callable) -> None:
    done = rewritten(0, 0)
    measured = stats(done.out, "sub-01")
    assert measured is not None, done.text
    said = [text for text in measured["warnings"] if "does not tell the orientation" in text]
    assert [text.split(":")[0] for text in said] == ["sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz"]
    assert measured["by_location"] is None
    tables = list((done.out / "sub-01/anat").glob("*_dseg.tsv"))
    table = pd.read_csv(tables[0], sep="\t", keep_default_na=False)
    for column in ("location", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm"):
        assert set(table[column]) <= {"n/a"}
    for path, raw in outputs(done):
        ours, theirs = (nib.load(one) for one in (path, raw))
        assert ours.header["qform_code"] == ours.header["sform_code"] == 0
        np.testing.assert_array_equal(ours.affine, theirs.affine)
    page = (done.out / "sub-01.html").read_text()
    assert "does not tell the orientation" in page
    assert "By location" not in page
    for figure in (done.out / "sub-01/figures").glob("*.svg"):
        assert "the header does not tell the orientation" in figure.read_text()
    done = run(done.out.with_name("bids"), done.out, level="group")
    assert done.code == 0, done.text
    cohort = pd.read_csv(done.out / "lesions.tsv", sep="\t", keep_default_na=False)
    assert list(cohort["periventricular_load_ml"]) == ["n/a"]
    assert float(cohort["load_ml"][0]) == pytest.approx(measured["load_ml"])


def test_only_the_flair_decides_on_locations(tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    rewrite(image_path(bids, "sub-01", "T1w"), lambda image: image, 0, 0)
    with stand_ins():
        done = run(bids, tmp_path / "out")
    measured = stats(done.out, "sub-01")
    assert measured is not None, done.text
    assert measured["by_location"] is not None
    assert [text.split(":")[0] for text in measured["warnings"]] == ["sub-01_T1w.nii.gz"]


def test_a_head_that_lies_as_none_can_is_warned_of(tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    with stand_ins():
        assert run(bids, tmp_path / "out").code == 0
    assert stats(tmp_path / "out", "sub-01")["warnings"] == []  # type: ignore[index]
    turned = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(x=np.deg2rad(45)),  # the nose points to the floor
        [0, 0, 0],
    )
    for contrast in ("FLAIR", "T1w"):
        path = image_path(bids, "sub-01", contrast)
        image = nib.Nifti1Image.from_filename(path)
        nib.Nifti1Image(np.asarray(image.dataobj), turned @ image.affine).to_filename(path)
    with stand_ins(turned):
        done = run(bids, tmp_path / "again")
    reasons = stats(done.out, "sub-01")["quality"]["reasons"]  # type: ignore[index]
    assert any("turned by 45° against the template" in text for text in reasons)
    assert "turned by 45°" in (done.out / "sub-01.html").read_text()
