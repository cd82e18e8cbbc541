"""The command evaluate: which masks belong together, what is measured, what is told."""

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cascade_bids.cli import main
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.evaluation import evaluate
from cascade_bids.evaluation.cohort import MEASURES, TESTED, compare, volume_agreement
from cascade_bids.evaluation.pairs import find_masks, list_scans, pair_scan, unused_scans
from cascade_bids.lesions.challenges import isbi2015_score

AFFINE = np.array([[1.0, 0, 0, -5], [0, 1, 0, -6], [0, 0, 3, -7], [0, 0, 0, 1]])


def _lesions(seed, shift=0):
    """A mask (12, 14, 8) with three boxes, in the world at voxels of 1 × 1 × 3 mm."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((12, 14, 8), np.uint8)
    for x, y in ((1, 1), (1, 9), (7, 5)):
        z, size = rng.integers(0, 5), 2 + rng.integers(0, 3)
        mask[x + shift : x + shift + size, y : y + 3, z : z + 2] = 1
    return nib.Nifti1Image(mask, AFFINE)


def _put(root, name, image):
    """Save an image under its BIDS name, in the folder that the name tells."""
    parts = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    path = root.joinpath(*parts, "anat", name + ".nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def _probability(image):
    values = np.asarray(image.dataobj) * np.float32(0.9)
    return nib.Nifti1Image(values.astype(np.float32), image.affine)


@pytest.fixture
def reference(tmp_path):
    root = tmp_path / "manual"
    for k in (1, 2, 10):
        _put(root, f"sub-{k}_label-lesion_mask", _lesions(k))
    return root


@pytest.fixture
def prediction(tmp_path):
    root = tmp_path / "method"
    for k in (1, 2, 10):
        image = _lesions(k, shift=1)
        _put(root, f"sub-{k}_space-FLAIR_label-lesion_mask", image)
        _put(root, f"sub-{k}_space-FLAIR_label-lesion_probseg", _probability(image))
    return root


def _rows(out):
    with (out / "evaluation.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


# --- Which masks belong together ---


def _pair(tmp_path, references, predictions):
    for folder, names in (("ref", references), ("pred", predictions)):
        for name in names:
            _put(tmp_path / folder, name, _lesions(0))
    ref, pred = find_masks(tmp_path / "ref"), find_masks(tmp_path / "pred")
    pair = pair_scan(list_scans(ref)[0], ref, pred)
    maps = pair.probability and pair.probability.name.removesuffix(".nii.gz")
    names = [path.name.removesuffix(".nii.gz") for path in (pair.reference, pair.prediction)]
    return *names, maps


@pytest.mark.parametrize(
    ("reference", "others", "chosen"),
    [
        # the same session
        ("sub-1_ses-1", ["sub-1_ses-2"], "sub-1_ses-1"),
        # the same run, however it is written; an image without a run fits any
        ("sub-1_run-2", ["sub-1_run-01"], "sub-1_run-02"),
        ("sub-1_run-2", ["sub-1_run-1"], "sub-1"),
        ("sub-1", ["sub-1_run-1"], "sub-1"),
        ("sub-1", [], "sub-1_run-1"),
        # the space of the reference, then FLAIR
        ("sub-1_space-T1w", ["sub-1_space-FLAIR"], "sub-1_space-T1w"),
        ("sub-1", ["sub-1_space-T1w"], "sub-1_space-FLAIR"),
        ("sub-1_space-orig", ["sub-1_space-T1w"], "sub-1_space-FLAIR"),
        ("sub-1", [], "sub-1_space-T1w"),
        # no desc
        ("sub-1", ["sub-1_desc-change"], "sub-1"),
        ("sub-1", [], "sub-1_desc-auto"),
    ],
)
def test_prediction_is_chosen_among_others(tmp_path, reference, others, chosen):
    predictions = [f"{name}_label-lesion_mask" for name in (*others, chosen)]
    found = _pair(tmp_path, [f"{reference}_label-lesion_mask"], predictions)
    assert found == (f"{reference}_label-lesion_mask", f"{chosen}_label-lesion_mask", None)


def test_probability_map_is_that_of_the_mask(tmp_path):
    maps = [f"sub-1_space-{space}_label-lesion_probseg" for space in ("T1w", "FLAIR")]
    predictions = ["sub-1_space-FLAIR_label-lesion_mask", *maps]
    assert _pair(tmp_path, ["sub-1_label-lesion_mask"], predictions)[2] == maps[1]


@pytest.mark.parametrize(
    ("references", "predictions"),
    [
        (["sub-1_desc-a", "sub-1_desc-b"], ["sub-1"]),
        (["sub-1"], ["sub-1_desc-a", "sub-1_desc-b"]),
        (["sub-1"], ["sub-1_run-1", "sub-1_run-2"]),
    ],
)
def test_several_masks_are_not_guessed_between(tmp_path, references, predictions):
    names = [[f"{name}_label-lesion_mask" for name in part] for part in (references, predictions)]
    with pytest.raises(ScanError, match=r"several lesion masks of sub-1 \(sub-1_.*, sub-1_"):
        _pair(tmp_path, *names)


def test_other_masks_are_no_lesion_masks(tmp_path):
    _put(tmp_path, "sub-1_desc-brain_mask", _lesions(0))
    with pytest.raises(UsageError, match=r"holds no .*label-lesion_mask"):
        find_masks(tmp_path)


def test_scans_come_in_natural_order_and_unused_ones_are_named(reference, prediction):
    _put(prediction, "sub-3_ses-1_label-lesion_mask", _lesions(3))
    ref, pred = find_masks(reference), find_masks(prediction)
    assert [scan.label for scan in list_scans(ref)] == ["sub-1", "sub-2", "sub-10"]
    assert unused_scans(list_scans(ref), pred) == ["sub-3_ses-1"]


# --- One scan ---


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
    for before, after in zip(_rows(tmp_path / "before"), _rows(tmp_path / "after"), strict=True):
        for name, value in before.items():
            if name in MEASURES:
                assert float(after[name]) == pytest.approx(float(value)), name


def test_loads_and_distances_are_in_ml_and_mm(tmp_path):
    ref, pred = np.zeros((2, 9, 9, 9), np.uint8)
    ref[4, 4, 4] = pred[4, 4, 6] = 1
    _put(tmp_path / "ref", "sub-1_label-lesion_mask", nib.Nifti1Image(ref, AFFINE))
    _put(tmp_path / "pred", "sub-1_label-lesion_mask", nib.Nifti1Image(pred, AFFINE))
    evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out")
    [row] = _rows(tmp_path / "out")
    assert float(row["reference_load_ml"]) == 0.003
    assert float(row["hd95_mm"]) == float(row["assd_mm"]) == 6
    assert row["isbi2015_score"] == "n/a"  # no correlation of one scan
    assert row["average_precision"] == "n/a"  # no map
    assert (row["prediction_file"], row["reference_file"]) == (
        "sub-1/anat/sub-1_label-lesion_mask.nii.gz",
    ) * 2


def test_empty_masks_have_defined_values(tmp_path, reference, prediction):
    empty = nib.Nifti1Image(np.zeros((12, 14, 8), np.uint8), AFFINE)
    _put(reference, "sub-1_label-lesion_mask", empty)
    _put(prediction, "sub-2_space-FLAIR_label-lesion_mask", empty)
    _put(reference, "sub-10_label-lesion_mask", empty)
    _put(prediction, "sub-10_space-FLAIR_label-lesion_mask", empty)
    evaluate(prediction, reference, tmp_path / "out")
    no_reference, no_prediction, neither = (
        {name: float(row[name].replace("n/a", "nan")) for name in MEASURES}
        for row in _rows(tmp_path / "out")
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
    assert [row["participant_id"] for row in _rows(out)] == ["sub-1", "sub-10"]
    assert "Not scored" in (out / "evaluation.html").read_text(encoding="utf-8")


def test_header_that_differs_by_rounding_is_the_same_grid(tmp_path, reference, prediction):
    path = next(prediction.glob("sub-2/anat/*_mask.nii.gz"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine + 1e-4 * np.eye(4)), path)
    assert not evaluate(prediction, reference, tmp_path / "out").failures


def test_nothing_is_written_if_no_scan_can_be_scored(tmp_path, reference):
    _put(tmp_path / "pred", "sub-7_label-lesion_mask", _lesions(7))
    with pytest.raises(ScanError, match=r"No scan of .* could be scored\. sub-1 failed"):
        evaluate(tmp_path / "pred", reference, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- The cohort ---


def _table(pred, ref, **columns):
    return pd.DataFrame({"predicted_load_ml": pred, "reference_load_ml": ref, **columns})


def test_agreement_of_loads_is_pearson_and_bland_altman():
    found = volume_agreement(_table([2.0, 4.0, 9.0], [1.0, 4.0, 7.0]))
    assert found["correlation"] == pytest.approx(stats.pearsonr([2, 4, 9], [1, 4, 7])[0])
    assert (found["bias_ml"], found["sd_ml"]) == pytest.approx((1, 1))
    assert (found["lower_limit_ml"], found["upper_limit_ml"]) == pytest.approx((-0.96, 2.96))


def test_agreement_that_is_not_defined_is_missing():
    one = volume_agreement(_table([2.0], [1.0]))
    assert one["bias_ml"] == 1
    assert np.isnan([one["correlation"], one["sd_ml"], one["upper_limit_ml"]]).all()
    constant = volume_agreement(_table([2.0, 2.0], [1.0, 3.0]))
    assert np.isnan(constant["correlation"])
    assert constant["sd_ml"] == pytest.approx(np.sqrt(2))


def _measured(values, index="abcdef"):
    return pd.DataFrame(dict.fromkeys(TESTED, values), index=list(index)[: len(values)])


def test_comparison_is_that_of_scipy_over_common_scans():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 6))
    tested = compare(_measured(first), _measured(second[:5], "bcdef"))["dsc"]
    assert tested["n"] == 5
    assert tested["mean_difference"] == pytest.approx(second[:5].mean() - first[1:].mean())
    assert tested["t_test_p"] == pytest.approx(stats.ttest_rel(first[1:], second[:5]).pvalue)
    assert tested["wilcoxon_p"] == pytest.approx(stats.wilcoxon(first[1:], second[:5]).pvalue)


def test_comparison_leaves_missing_values_out():
    tested = compare(_measured([0.1, np.nan, 0.5, 0.3]), _measured([0.2, 0.4, np.nan, 0.6]))["dsc"]
    assert tested["n"] == 2
    assert tested["mean_first"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([0.1, 0.2, 0.3], (1, 1)),
        ([0.2, 0.3, 0.4], (np.nan, 0.25)),
        ([0.2], (np.nan, np.nan)),
    ],
)
def test_comparison_without_spread(second, expected):
    tested = compare(_measured([0.1, 0.2, 0.3]), _measured(second))["dsc"]
    found = (tested["t_test_p"], tested["wilcoxon_p"])
    assert found == pytest.approx(expected, nan_ok=True)


def test_cohort_sums_up_what_the_table_holds(tmp_path, reference, prediction):
    result = evaluate(prediction, reference, tmp_path / "out")
    cohort = json.loads((tmp_path / "out" / "cohort.json").read_text())
    assert cohort == result.cohort
    assert list(cohort["predictions"]) == ["method"]
    part = cohort["predictions"]["method"]
    assert set(part["measures"]) == set(MEASURES)
    table = result.table
    assert part["measures"]["dsc"]["mean"] == pytest.approx(table["dsc"].mean())
    assert part["measures"]["hd95_mm"]["q3"] == pytest.approx(table["hd95_mm"].quantile(0.75))
    means = table[["dsc", "ppv", "ltpr", "lfpr"]].mean()
    score = isbi2015_score(**means, volume_correlation=part["loads"]["correlation"])
    assert part["measures"]["isbi2015_score"]["mean"] == pytest.approx(score)
    # The maps are the masks times 0.9, so the curve has one point.
    curves = part["curves"]
    assert curves["scans"] == 3
    inside = (table["dsc"] * (table["predicted_load_ml"] + table["reference_load_ml"]) / 2).sum()
    recall = inside / table["reference_load_ml"].sum()
    precision = inside / table["predicted_load_ml"].sum()
    assert curves["average_precision"] == pytest.approx(recall * precision)
    assert cohort["comparison"] is None


# --- The command ---


def test_table_of_one_method_and_its_dictionary(tmp_path, reference, prediction, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(prediction), str(reference), "--out", str(out)]) == 0
    assert "3 scored, 0 failed" in capsys.readouterr().out
    rows = _rows(out)
    assert [row["participant_id"] for row in rows] == ["sub-1", "sub-2", "sub-10"]
    assert list(json.loads((out / "evaluation.json").read_text())) == list(rows[0])
    assert not {"session_id", "run_id", "prediction"} & set(rows[0])
    assert {path.name for path in out.iterdir()} == {
        "cohort.json",
        "evaluation.html",
        "evaluation.json",
        "evaluation.tsv",
    }


def test_two_methods_are_compared(tmp_path, reference, prediction):
    other = tmp_path / "other"
    for k in (1, 2):
        _put(other, f"sub-{k}_ses-1_label-lesion_mask", _lesions(k))
        _put(other, f"sub-{k}_label-lesion_mask", _lesions(k))
    out = tmp_path / "out"
    flags = ["--out", str(out), "--compare", str(other)]
    assert main(["evaluate", str(prediction), str(reference), *flags]) == 1
    rows = _rows(out)
    assert [row["prediction"] for row in rows] == ["method"] * 3 + ["other"] * 2
    assert {row["dsc"] for row in rows[3:]} == {"1.0"}
    cohort = json.loads((out / "cohort.json").read_text())
    assert cohort["comparison"]["dsc"]["n"] == 2
    assert cohort["comparison"]["dsc"]["mean_second"] == 1
    assert [failure.split(":")[0] for failure in cohort["failures"]] == ["sub-10 of other failed"]
    assert cohort["notes"][0].startswith("sub-1_ses-1 of ")
    assert cohort["predictions"]["other"]["curves"] is None


def test_methods_in_folders_of_one_name_are_called_by_their_paths(tmp_path, reference, prediction):
    other = tmp_path / "elsewhere" / "method"
    _put(other, "sub-1_label-lesion_mask", _lesions(1))
    result = evaluate(prediction, reference, tmp_path / "out", other=other)
    assert list(result.cohort["predictions"]) == [str(prediction), str(other)]


def test_rerun_gives_the_same_bytes(tmp_path, reference, prediction):
    for out in ("a", "b"):
        evaluate(prediction, reference, tmp_path / out)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{tmp}/nowhere {ref} --out {tmp}/out", "nowhere is not a folder"),
        ("{pred} {tmp}/nowhere --out {tmp}/out", "nowhere is not a folder"),
        ("{pred} {ref} --out {pred}/scores", "--out {pred}/scores lies inside the input"),
        ("{pred} {ref} --out {ref}", "--out {ref} lies inside the input"),
        ("{pred} {ref} --out {tmp}/out --compare {pred}", "can't be compared with itself"),
        ("{tmp}/out {ref} --out {tmp}/x", "holds no sub-X"),
    ],
)
def test_wrong_use_exits_with_2(tmp_path, reference, prediction, capsys, arguments, message):
    places = {"tmp": tmp_path, "ref": reference, "pred": prediction}
    (tmp_path / "out").mkdir()
    assert main(["evaluate", *arguments.format(**places).split()]) == 2
    assert message.format(**places) in capsys.readouterr().err
    assert not any((tmp_path / "out").iterdir())
