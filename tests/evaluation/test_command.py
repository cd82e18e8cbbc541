"""What the command writes and tells."""

import gzip
import io
import json

import nibabel as nib
import pytest

from cascade_bids.cli.main import main
from cascade_bids.evaluation import evaluate

from .masks import make_mask, put, read_rows


def test_table_of_one_method_and_its_dictionary(tmp_path, reference, prediction, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(prediction), str(reference), "--out", str(out)]) == 0
    assert "3 scored, 0 failed" in capsys.readouterr().out
    rows = read_rows(out)
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
        put(other, f"sub-{k}_ses-1_label-lesion_mask", make_mask(k))
        put(other, f"sub-{k}_label-lesion_mask", make_mask(k))
    out = tmp_path / "out"
    flags = ["--out", str(out), "--compare", str(other)]
    assert main(["evaluate", str(prediction), str(reference), *flags]) == 1
    rows = read_rows(out)
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
    put(other, "sub-1_label-lesion_mask", make_mask(1))
    result = evaluate(prediction, reference, tmp_path / "out", other=other)
    assert list(result.cohort["predictions"]) == [str(prediction), str(other)]


def test_a_mask_that_claims_too_much_is_named_and_the_others_are_scored(
    tmp_path, reference, prediction, capsys
):
    path = put(prediction, "sub-10_label-lesion_mask", make_mask(10))
    content = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(content), check=False)
    header["dim"][1:4] = 30_000
    path.write_bytes(gzip.compress(header.binaryblock + content[348:]))
    assert main(["evaluate", str(prediction), str(reference), "--out", str(tmp_path / "out")]) == 1
    assert "2 scored, 1 failed" in capsys.readouterr().out
    [failure] = json.loads((tmp_path / "out" / "cohort.json").read_text())["failures"]
    assert f"{path} is no whole NIfTI image (its header claims 30000 × 30000 × 30000" in failure


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
