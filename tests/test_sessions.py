"""The sessions of a participant are compared: from the command line to the change table."""

import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from .tiny_heads import contents, image_path, make_dataset, run

SECOND = (slice(9, 12), slice(10, 13), slice(10, 12))
"""A lesion that only some sessions have."""

SESSIONS = ("sub-01_ses-1", "sub-01_ses-2")


def paint(path: Path) -> None:
    """Add the second lesion to a FLAIR."""
    image = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    data[SECOND] = 600
    nib.Nifti1Image(data, image.affine).to_filename(path)


def add_session(bids: Path, tmp_path: Path, label: str) -> Path:
    """Add a session to a dataset; give its FLAIR."""
    other = make_dataset(tmp_path / f"of-{label}", label)
    for contrast in ("FLAIR", "T1w"):
        target = image_path(bids, label, contrast)
        target.parent.mkdir(parents=True, exist_ok=True)
        image_path(other, label, contrast).rename(target)
    return image_path(bids, label, "FLAIR")


def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "sub-01/anat/sub-01_desc-lesions_change.tsv", sep="\t")


def change(out: Path) -> dict:
    return json.loads((out / "sub-01/anat/sub-01_desc-change_stats.json").read_text())


def classes(out: Path, session: str) -> list[str]:
    rows = table(out)
    return sorted(rows.loc[rows["session_id"] == session, "class"])


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """A participant who has another lesion in the second session."""
    root = make_dataset(tmp_path / "bids", *SESSIONS)
    paint(image_path(root, "sub-01_ses-2", "FLAIR"))
    return root


def test_a_lesion_that_only_the_second_session_has_is_new(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    assert classes(out, "ses-2") == ["new", "stable"]
    (interval,) = change(out)["intervals"]
    assert (interval["new"]["count"], interval["gone"]["count"]) == (1, 0)
    # What is drawn on the grid of the raw FLAIR is where the lesion was painted.
    raw = nib.load(image_path(bids, "sub-01_ses-2", "FLAIR"))
    drawn = nib.load(out / "sub-01/ses-2/anat/sub-01_ses-2_space-FLAIR_desc-change_dseg.nii.gz")
    assert np.allclose(drawn.affine, raw.affine)
    new = np.asarray(drawn.dataobj) == 1
    assert new[SECOND].mean() > 0.9 and new.sum() <= 2 * new[SECOND].sum()


def test_the_sessions_in_the_other_order_swap_new_and_gone(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    (forward,) = change(out)["intervals"]
    times = "session_id\tacq_time\nses-1\t2020-03-01T10:00:00\nses-2\t2019-03-01T10:00:00\n"
    (bids / "sub-01" / "sub-01_sessions.tsv").write_text(times)
    assert run(bids, out).code == 0
    (backward,) = change(out)["intervals"]
    assert (backward["from"], backward["to"]) == ("ses-2", "ses-1")
    assert backward["years"] == pytest.approx(1, abs=0.01)
    assert backward["gone"]["count"] == forward["new"]["count"] == 1
    assert backward["gone"]["change_ml"] == pytest.approx(-forward["new"]["change_ml"], rel=0.02)


def test_files_of_a_session_are_the_same_with_and_without_the_comparison(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    assert run(bids, tmp_path / "on").code == 0
    assert run(bids, tmp_path / "off", "--longitudinal", "off").code == 0
    off, on = contents(tmp_path / "off"), contents(tmp_path / "on")
    assert off.keys() < on.keys()
    assert {name for name in off if off[name] != on[name]} <= {"sub-01.html"}
    extra = {Path(name).name for name in on.keys() - off.keys()}
    assert all("common" in name or "change" in name or "tracked" in name for name in extra)


def test_numbers_stay_when_a_session_arrives_later(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    before = table(out)
    paint(add_session(bids, tmp_path, "sub-01_ses-0"))
    assert run(bids, out, "--session-label", "0").code == 0
    after = table(out)
    assert change(out)["sessions"] == ["ses-0", "ses-1", "ses-2"]
    places = ["lesion", "location"]
    second = [rows.loc[rows["session_id"] == "ses-2", places] for rows in (before, after)]
    assert second[0].to_numpy().tolist() == second[1].to_numpy().tolist()
    assert classes(out, "ses-1").count("gone") == 1


def test_a_session_that_failed_is_told_and_the_others_are_compared(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    add_session(bids, tmp_path, "sub-01_ses-3").write_text("no image")
    out = tmp_path / "out"
    assert run(bids, out).code == 1
    assert change(out)["sessions"] == ["ses-1", "ses-2"]
    (warning,) = [text for text in change(out)["warnings"] if "ses-3" in text]
    assert "failed" in warning


def test_three_sessions_of_which_one_lacks_its_t1w_and_is_stored_in_another_way(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    paint(add_session(bids, tmp_path, "sub-01_ses-3"))
    image_path(bids, "sub-01_ses-2", "T1w").unlink()
    flair = image_path(bids, "sub-01_ses-2", "FLAIR")
    image = nib.load(flair)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("P", "R", "I")))
    finer = nib.processing.resample_to_output(turned, (4, 8, 8), order=0)
    finer.to_filename(flair)
    out = tmp_path / "out"
    assert run(bids, out, "--method", "ensemble").code == 0
    assert classes(out, "ses-2").count("new") == 1
    assert len(classes(out, "ses-3")) == 2
    assert not {"new", "gone"} & set(classes(out, "ses-3"))
    assert any("same contrasts" in text for text in change(out)["warnings"])
    common = {
        path.name: nib.load(path)
        for path in out.glob("sub-01/ses-*/anat/*_space-common_desc-preproc_FLAIR.nii.gz")
    }
    shapes = {image.shape for image in common.values()}
    assert len(common) == 3 and len(shapes) == 1


def test_a_new_result_of_a_session_takes_the_comparison_away_until_it_is_made_anew(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    assert run(bids, out, "--session-label", "1", "--longitudinal", "off").code == 0
    assert not (out / "sub-01/anat/sub-01_desc-change_stats.json").exists()
    assert run(bids, out, "--session-label", "1").code == 0
    assert classes(out, "ses-2") == ["new", "stable"]


def test_sessions_of_different_settings_are_not_compared_but_told(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(bids, out, "--session-label", "1").code == 0
    done = run(bids, out, "--session-label", "2", "--threshold", "0.3")
    assert done.code == 1
    assert "sub-01: the sessions were not compared" in done.text
    assert "threshold" in done.text
    assert not (out / "sub-01/anat/sub-01_desc-change_stats.json").exists()


def test_damaged_statistics_of_a_session_leave_it_out(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    add_session(bids, tmp_path, "sub-01_ses-3")
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    damaged = out / "sub-01/ses-3/anat/sub-01_ses-3_desc-lesions_stats.json"
    damaged.write_text("{")
    assert run(bids, out, "--session-label", "1").code == 0
    assert change(out)["sessions"] == ["ses-1", "ses-2"]
    assert any("ses-3 is not compared" in text for text in change(out)["warnings"])
