"""Scans are found, images chosen and problems told, on small datasets of known content."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from cascade_bids.bids.dataset import read_description
from cascade_bids.bids.inputs import find_scans
from cascade_bids.config import InputConfig
from cascade_bids.errors import StartError, UsageError

from .small_dataset import MakeDataset, names, path_of, write_image


def test_scans_with_and_without_sessions(dataset: MakeDataset) -> None:
    root = dataset(
        "sub-10_FLAIR",
        "sub-2_ses-b_run-01_FLAIR",
        "sub-2_ses-b_T1w",
        "sub-2_ses-b_PDw",
        "sub-2_ses-a_FLAIR",
    )
    scans = find_scans(InputConfig(root))
    assert [scan.label for scan in scans] == ["sub-2_ses-a", "sub-2_ses-b_run-01", "sub-10"]
    assert names(scans[1]) == {
        "FLAIR": "sub-2_ses-b_run-01_FLAIR",
        "T1w": "sub-2_ses-b_T1w",
        "PDw": "sub-2_ses-b_PDw",
    }
    assert scans[1].entities == {"subject": "2", "session": "b", "run": "01"}
    assert all(scan.problem is None and scan.choices == () for scan in scans)
    assert all(path.is_absolute() for path in scans[1].images.values())
    assert pickle.loads(pickle.dumps(scans)) == scans


def test_other_files_are_no_images_of_a_scan(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_UNIT1", "sub-1_flip-1_mt-on_MTS", "sub-1_T1map")
    (path_of(root, "sub-1_T1w.json")).write_text("{not read}")
    for folder in ("derivatives/x", "sourcedata", "code"):
        write_image(path_of(root / folder, "sub-2_FLAIR.nii.gz"))
    (root / "sub-3.html").touch()
    (scan,) = find_scans(InputConfig(root))
    assert names(scan) == {"FLAIR": "sub-1_FLAIR"}


def test_scan_without_flair_has_a_problem(dataset: MakeDataset) -> None:
    root = dataset("sub-1_T1w", "sub-1_ce-gd_FLAIR", "sub-2_FLAIR")
    bad, good = find_scans(InputConfig(root))
    assert bad.label == "sub-1" and good.problem is None
    assert bad.problem is not None
    for part in ("FLAIR is required", "sub-1_ce-gd_FLAIR", "contrast agent", str(root)):
        assert part in bad.problem


def test_labels_with_and_without_prefix(dataset: MakeDataset) -> None:
    root = dataset("sub-1_ses-a_FLAIR", "sub-1_ses-b_FLAIR", "sub-2_ses-b_FLAIR")

    def labels(participants: tuple[str, ...], sessions: tuple[str, ...]) -> list[str]:
        config = InputConfig(root, participant_labels=participants, session_labels=sessions)
        return [scan.label for scan in find_scans(config)]

    assert labels(("sub-1",), ()) == ["sub-1_ses-a", "sub-1_ses-b"]
    assert labels((), ("ses-b",)) == labels((), ("b",)) == ["sub-1_ses-b", "sub-2_ses-b"]
    assert labels(("2", "sub-2"), ("b",)) == ["sub-2_ses-b"]
    with pytest.raises(UsageError, match=r"participant: 7, 8.* has 1, 2\."):
        labels(("sub-7", "1", "8"), ())
    with pytest.raises(UsageError, match=r"session: a.* has b\."):
        labels(("2",), ("a",))


def test_known_participants_are_shortened(dataset: MakeDataset) -> None:
    root = dataset()
    for number in range(1, 31):
        (root / f"sub-{number}").mkdir()
    with pytest.raises(UsageError, match=r"has 1, 2, .*20, … \(30 in all\)"):
        find_scans(InputConfig(root, participant_labels=("99",)))


@pytest.mark.parametrize("labels", [(), ("3", "2", "1")])
def test_participant_without_images_has_a_problem(
    dataset: MakeDataset, labels: tuple[str, ...]
) -> None:
    root = dataset("sub-1_ses-a_FLAIR", "sub-2_bold", "sub-3_FLAIR")
    good, bad, last = find_scans(InputConfig(root, participant_labels=labels))
    assert (good.label, good.problem) == ("sub-1_ses-a", None)
    assert (last.label, last.problem) == ("sub-3", None)
    assert bad.label == "sub-2" and bad.problem is not None and "No image" in bad.problem


def test_participant_without_the_session_asked_for_is_no_problem_unless_named(
    dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    root = dataset("sub-1_ses-a_FLAIR", "sub-2_ses-b_FLAIR")
    (good,) = find_scans(InputConfig(root, session_labels=("a",)))
    assert good.label == "sub-1_ses-a"
    assert "No image is found for participant 2" in caplog.text
    (good,) = find_scans(InputConfig(root, filters={"flair": {"session": "a"}}))
    assert good.label == "sub-1_ses-a"
    config = InputConfig(root, session_labels=("a",), participant_labels=("1", "2"))
    assert [scan.problem is None for scan in find_scans(config)] == [True, False]


def test_names_that_bids_does_not_know(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_mine-x_T1w")
    assert set(find_scans(InputConfig(root))[0].images) == {"FLAIR"}
    assert set(find_scans(InputConfig(root, validate=False))[0].images) == {"FLAIR", "T1w"}


def test_preprocessed_dataset_as_input(dataset: MakeDataset) -> None:
    root = dataset(
        "sub-1_space-MNI_desc-preproc_FLAIR", DatasetType="derivative", GeneratedBy=[{"Name": "x"}]
    )
    assert set(find_scans(InputConfig(root))[0].images) == {"FLAIR"}


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        find_scans(InputConfig(tmp_path / "none"))
    with pytest.raises(UsageError, match="is empty"):
        find_scans(InputConfig(tmp_path))
    (tmp_path / "sub-1").mkdir()
    with pytest.raises(UsageError, match=r"no dataset_description\.json"):
        find_scans(InputConfig(tmp_path))
    (tmp_path / "dataset_description.json").write_text('{"Name": "x"}')
    with pytest.raises(UsageError, match="'BIDSVersion' field missing"):
        find_scans(InputConfig(tmp_path))
    (tmp_path / "dataset_description.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_description(tmp_path)


def test_dataset_without_participants_or_scans(dataset: MakeDataset) -> None:
    root = dataset()
    with pytest.raises(UsageError, match="no participant"):
        find_scans(InputConfig(root))
    write_image(root / "sub-1" / "anat" / "sub-1_UNIT1.nii.gz")
    with pytest.raises(StartError, match="anat/"):
        find_scans(InputConfig(root))


def test_database_is_used_again(dataset: MakeDataset, tmp_path: Path) -> None:
    root = dataset("sub-1_FLAIR", "sub-2_FLAIR")
    before = sorted(root.rglob("*"))
    one = InputConfig(root, participant_labels=("1",), database_dir=tmp_path / "db")
    assert [scan.label for scan in find_scans(one)] == ["sub-1"]
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["layout_index.sqlite"]
    path_of(root, "sub-1_FLAIR.nii.gz").rename(path_of(root, "sub-1_run-1_FLAIR.nii.gz"))
    again = find_scans(InputConfig(root, database_dir=tmp_path / "db"))
    assert [scan.label for scan in again] == ["sub-1", "sub-2"]
    path_of(root, "sub-1_run-1_FLAIR.nii.gz").rename(path_of(root, "sub-1_FLAIR.nii.gz"))
    assert sorted(root.rglob("*")) == before


def test_only_the_folders_of_the_participants_are_listed(
    dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset("sub-1_FLAIR", "sub-2_ses-a_FLAIR", "sub-2_ses-a_bold", "sub-3_FLAIR")
    (root / "sub-2" / "ses-a" / "func").mkdir()
    listed: list[Path] = []
    scandir = os.scandir

    def record(folder: str | Path) -> Any:
        listed.append(Path(folder).relative_to(root))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", record)
    find_scans(InputConfig(root, participant_labels=("2",)))
    assert list(dict.fromkeys(map(str, listed))) == [
        ".",
        "sub-2",
        "sub-2/ses-a",
        "sub-2/ses-a/anat",
    ]


def test_label_that_bids_does_not_know(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR", "sub-é_FLAIR")
    for subjects in ((), ("1", "é")):
        config = InputConfig(root, participant_labels=subjects, validate=False)
        good, bad = find_scans(config)
        assert good.problem is None
        assert bad.problem is not None and "letters and digits only" in bad.problem


def test_unusable_databases(dataset: MakeDataset, tmp_path: Path) -> None:
    root = dataset("sub-1_FLAIR")
    with pytest.raises(UsageError, match="inside the input dataset"):
        find_scans(InputConfig(root, database_dir=root / "code"))
    find_scans(InputConfig(root, database_dir=tmp_path / "db"))
    other = tmp_path / "other"
    root.rename(other)
    with pytest.raises(UsageError, match="Delete it"):
        find_scans(InputConfig(other, database_dir=tmp_path / "db"))
    dataset("sub-1_FLAIR")
    with pytest.raises(UsageError, match="of another dataset"):
        find_scans(InputConfig(other, database_dir=tmp_path / "db"))
    (tmp_path / "db" / "layout_index.sqlite").write_text("not a database, though long enough" * 9)
    with pytest.raises(UsageError, match="cannot be used"):
        find_scans(InputConfig(other, database_dir=tmp_path / "db"))


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        (["sub-1_ses-a_desc-brain_mask"], ("sub-1_ses-a_desc-brain_mask", "T1w")),
        (
            ["sub-1_ses-a_desc-brain_mask", "sub-1_ses-a_space-FLAIR_desc-brain_mask"],
            ("sub-1_ses-a_space-FLAIR_desc-brain_mask", "FLAIR"),
        ),
        (["sub-1_ses-a_run-1_space-FLAIR_desc-brain_mask"], None),
        (["sub-1_ses-a_space-MNI152NLin2009cAsym_res-1_desc-brain_mask"], None),
        (["sub-1_desc-brain_mask"], None),
        (["sub-1_ses-b_desc-brain_mask", "sub-1_ses-a_desc-lesion_mask"], None),
    ],
)
def test_brain_mask_of_derivatives(
    dataset: MakeDataset, tmp_path: Path, masks: list[str], expected: tuple[str, str] | None
) -> None:
    root = dataset("sub-1_ses-a_run-2_FLAIR", "sub-1_ses-a_T1w")
    other = tmp_path / "run-3" / "prep"
    other.mkdir(parents=True)
    for mask in masks:
        write_image(path_of(other, f"{mask}.nii.gz"))
    (scan,) = find_scans(InputConfig(root, derivatives={"prep": other}))
    if expected is None:
        assert (scan.brain_mask, scan.brain_mask_space) == (None, None)
        assert scan.choices[-1] == "Brain mask: none for this scan in prep."
    else:
        assert scan.brain_mask == path_of(other, f"{expected[0]}.nii.gz")
        assert scan.brain_mask_space == expected[1]
        assert expected[0] in scan.choices[-1]


def test_mask_on_a_contrast_that_the_scan_lacks(dataset: MakeDataset, tmp_path: Path) -> None:
    root = dataset("sub-1_FLAIR")
    write_image(path_of(tmp_path / "prep", "sub-1_desc-brain_mask.nii.gz"))
    (scan,) = find_scans(InputConfig(root, derivatives={"prep": tmp_path / "prep"}))
    assert scan.brain_mask is None


def test_bad_derivatives(dataset: MakeDataset, tmp_path: Path) -> None:
    root = dataset("sub-1_FLAIR")
    with pytest.raises(UsageError, match="is missing"):
        find_scans(InputConfig(root, derivatives={"prep": tmp_path / "none"}))
    with pytest.raises(UsageError, match='"raw" cannot name'):
        find_scans(InputConfig(root, derivatives={"raw": tmp_path}))
