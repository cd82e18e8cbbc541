"""What is measured of one scan, and what cannot be."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.cli.main import main
from cascade_bids.errors import ScanError
from cascade_bids.evaluation import evaluate
from cascade_bids.evaluation.cohort import MEASURES

from .masks import AFFINE, make_mask, put, read_rows


def test_orientation_of_the_files_does_not_matter(tmp_path, reference, prediction, reorient):
    evaluate(prediction, reference, tmp_path / "before")
    for path in prediction.glob("**/*.nii.gz"):
        nib.save(reorient(nib.load(path)), path)
    if np.allclose(nib.as_closest_canonical(nib.load(path)).affine, AFFINE):
        evaluate(prediction, reference, tmp_path / "after")
    else:  # oblique: another place in the world
        with pytest.raises(ScanError, match="is not on the grid of"):
            evaluate(prediction, reference, tmp_path / "after")
        for path in reference.glob("**/*.nii.gz"):
            nib.save(reorient(nib.load(path)), path)
        evaluate(prediction, reference, tmp_path / "after")
    for before, after in zip(
        read_rows(tmp_path / "before"), read_rows(tmp_path / "after"), strict=True
    ):
        for name, value in before.items():
            if name in MEASURES:
                assert float(after[name]) == pytest.approx(float(value)), name


def test_loads_and_distances_are_in_ml_and_mm(tmp_path):
    ref, pred = np.zeros((2, 9, 9, 9), np.uint8)
    ref[4, 4, 4] = pred[4, 4, 6] = 1
    put(tmp_path / "ref", "sub-1_label-lesion_mask", nib.Nifti1Image(ref, AFFINE))
    put(tmp_path / "pred", "sub-1_label-lesion_mask", nib.Nifti1Image(pred, AFFINE))
    evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out")
    [row] = read_rows(tmp_path / "out")
    assert float(row["reference_load_ml"]) == 0.003
    assert float(row["hd95_mm"]) == float(row["assd_mm"]) == 6
    assert row["isbi2015_score"] == "n/a"  # no correlation of one scan
    assert row["average_precision"] == "n/a"  # no map
    assert (row["prediction_file"], row["reference_file"]) == (
        "sub-1/anat/sub-1_label-lesion_mask.nii.gz",
    ) * 2


def test_empty_masks_have_defined_values(tmp_path, reference, prediction):
    empty = nib.Nifti1Image(np.zeros((12, 14, 8), np.uint8), AFFINE)
    put(reference, "sub-1_label-lesion_mask", empty)
    put(prediction, "sub-2_space-FLAIR_label-lesion_mask", empty)
    put(reference, "sub-10_label-lesion_mask", empty)
    put(prediction, "sub-10_space-FLAIR_label-lesion_mask", empty)
    evaluate(prediction, reference, tmp_path / "out")
    no_reference, no_prediction, neither = (
        {name: float(row[name].replace("n/a", "nan")) for name in MEASURES}
        for row in read_rows(tmp_path / "out")
    )
    far = np.linalg.norm([11, 13, 3 * 7])
    names = ("dsc", "ppv", "sensitivity", "ltpr", "lfpr", "lf1", "msseg2016_f1", "hd95_mm")
    assert [no_reference[name] for name in names] == pytest.approx([0, 0, 1, 1, 1, 0, 0, far])
    assert [no_prediction[name] for name in names] == pytest.approx([0, 1, 0, 0, 0, 0, 0, far])
    assert [neither[name] for name in names] == [1, 1, 1, 1, 0, 1, 1, 0]
    assert np.isnan(no_reference["volume_difference_percent"])
    assert no_prediction["volume_difference_percent"] == 100
    assert neither["volume_difference_percent"] == 0
    assert neither["miccai2008_score"] == 100
    assert np.isnan(neither["average_precision"])


def _damage(path):
    path.write_bytes(path.read_bytes()[:-20])


def _shift(path):
    image = nib.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), path)


def _crop(path):
    nib.save(nib.load(path).slicer[:-1], path)


def _label(path):
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[0, 0, 0] = 2
    nib.save(nib.Nifti1Image(values, image.affine), path)


def _stack(path):
    image = nib.load(path)
    values = np.stack([np.asarray(image.dataobj)] * 2, axis=-1)
    nib.save(nib.Nifti1Image(values, image.affine), path)


def _triple(path):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(3 * np.asarray(image.dataobj), image.affine), path)


GRID = r"sub-2_space-FLAIR_label-lesion_mask.nii.gz is not on the grid of \S*/sub-2_label-lesion"


@pytest.mark.parametrize(
    ("suffix", "spoil", "message"),
    [
        ("mask", Path.unlink, r"method holds no lesion mask for the reference \S*sub-2_label"),
        ("mask", _damage, "sub-2_space-FLAIR_label-lesion_mask.nii.gz is no whole NIfTI image"),
        ("mask", _shift, GRID),
        ("mask", _crop, GRID),
        ("mask", _label, "more than two values"),
        ("mask", _stack, "has 4 axes"),
        ("probseg", _shift, "probseg.nii.gz is not on the grid of"),
        ("probseg", _triple, "is no probability map"),
    ],
)
def test_bad_scan_is_named_and_the_others_are_scored(
    tmp_path, reference, prediction, capsys, suffix, spoil, message
):
    spoil(next(prediction.glob(f"sub-2/anat/*_{suffix}.nii.gz")))
    out = tmp_path / "out"
    assert main(["evaluate", str(prediction), str(reference), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "2 scored, 1 failed; results in" in told
    [failure] = json.loads((out / "cohort.json").read_text())["failures"]
    assert failure.startswith("sub-2 failed: ")
    assert failure in told
    assert re.search(message, failure)
    assert [row["participant_id"] for row in read_rows(out)] == ["sub-1", "sub-10"]
    assert "Not scored" in (out / "evaluation.html").read_text(encoding="utf-8")


def test_header_that_differs_by_rounding_is_the_same_grid(tmp_path, reference, prediction):
    path = next(prediction.glob("sub-2/anat/*_mask.nii.gz"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine + 1e-4 * np.eye(4)), path)
    assert not evaluate(prediction, reference, tmp_path / "out").failures


def test_nothing_is_written_if_no_scan_can_be_scored(tmp_path, reference):
    put(tmp_path / "pred", "sub-7_label-lesion_mask", make_mask(7))
    with pytest.raises(ScanError, match=r"No scan of .* could be scored\. sub-1 failed"):
        evaluate(tmp_path / "pred", reference, tmp_path / "out")
    assert not (tmp_path / "out").exists()
