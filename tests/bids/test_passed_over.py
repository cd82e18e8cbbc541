"""Files that are none of the images are named with the reason, and never stand for another's."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_bids.bids.index import why_misplaced
from cascade_bids.bids.inputs import find_scans
from cascade_bids.config import InputConfig
from cascade_bids.errors import StartError, UsageError

from .small_dataset import MakeDataset, names, path_of, write_image


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sub-1_space-T1w_FLAIR", "a raw image has no space-"),
        ("sub-1_flair", "must end in FLAIR, not flair"),
        ("sub-1_acq-FLAIR_T2w", "says both FLAIR and T2w"),
        ("sub-1_acq-flair_T2w", "says both FLAIR and T2w"),
        ("sub-1_mine-x_FLAIR", "BIDS does not know such a name (--skip-bids-validation"),
        ("sub-1_T2FLAIR", "BIDS does not know such a name"),
        ("sub-1_acq-FLAIR_T2starw", "its name ends in T2starw"),
        ("sub-1_acq-a.b_FLAIR", "BIDS does not know such a name"),
    ],
)
@pytest.mark.parametrize("with_t1w", [True, False])
@pytest.mark.parametrize("with_database", [True, False])
def test_scan_without_flair_names_what_looks_like_one(
    dataset: MakeDataset,
    tmp_path: Path,
    name: str,
    reason: str,
    with_t1w: bool,
    with_database: bool,
) -> None:
    root = dataset(name, *["sub-1_T1w"] * with_t1w, "sub-2_FLAIR")
    database = tmp_path / "db" if with_database else None
    bad, good = find_scans(InputConfig(root, database_dir=database))
    assert good.problem is None and bad.label == "sub-1"
    assert bad.problem is not None and "There is none" not in bad.problem
    assert f"assed over {name}.nii.gz, " in bad.problem and reason in bad.problem
    assert str(path_of(root, name).parent) in bad.problem


def test_a_folder_with_the_name_of_an_image_is_named(dataset: MakeDataset) -> None:
    root = dataset("sub-1_T1w", "sub-2_FLAIR")
    path_of(root, "sub-1_FLAIR.nii.gz").mkdir()
    bad, good = find_scans(InputConfig(root))
    assert good.problem is None
    assert bad.problem is not None
    assert "sub-1_FLAIR.nii.gz is a folder with the name of an image" in bad.problem


@pytest.mark.parametrize(
    ("name", "filters", "advice"),
    [
        ("sub-1_acq-x_FLAIR", {"acquisition": "y"}, "Change the filter file, add one to "),
        ("sub-1_space-T1w_FLAIR", {}, "Rename what is meant as the FLAIR, add one to "),
        ("sub-1_acq-FLAIR_T2w", {}, "Rename what is meant as the FLAIR, add one to "),
        ("sub-1_acq-bad_FLAIR", {}, "Change .bidsignore, add one to "),
        ("sub-1_ce-gd_FLAIR", {}, ". Add one to "),
        ("sub-1_T1w", {}, "There is none. Add one to "),
    ],
)
def test_the_advice_fits_the_reason(
    dataset: MakeDataset, name: str, filters: dict[str, str], advice: str
) -> None:
    root = dataset(name, "sub-1_T2w", "sub-2_acq-y_FLAIR")
    (root / ".bidsignore").write_text("*acq-bad*\n")
    bad, good = find_scans(InputConfig(root, filters={"flair": filters}))
    assert good.problem is None
    assert bad.problem is not None and advice in bad.problem
    assert bad.problem.endswith("or leave this scan out.")


def test_a_dataset_without_any_image_names_what_seems_to_be_one(dataset: MakeDataset) -> None:
    root = dataset()
    write_image(root / "sub-1" / "sub-1_FLAIR.nii.gz")
    with pytest.raises(StartError, match=r"sub-1_FLAIR\.nii\.gz is passed over: .* move it there"):
        find_scans(InputConfig(root))


def test_what_is_known_or_no_image_is_not_named_again(dataset: MakeDataset) -> None:
    root = dataset("sub-1_ses-1_FLAIR", "sub-1_T1w", "sub-1_ses-2_T1w", "sub-1_ses-2_flair")
    for path in (root / "sub-1/anat/sub-1_FLAIR.json", root / "sub-1/anat/._sub-1_FLAIR.NII"):
        path.touch()
    scans = {scan.label: str(scan.problem) for scan in find_scans(InputConfig(root))}
    assert scans["sub-1_ses-1"] == "None"
    assert "There is none. Add one to" in scans["sub-1"]
    assert scans["sub-1_ses-2"].count("flair.nii.gz") == 1


def test_many_files_that_seem_to_be_a_flair_are_counted(dataset: MakeDataset) -> None:
    root = dataset("sub-1_T1w", "sub-2_FLAIR")
    for number in range(9):
        (root / "sub-1" / "anat" / f"FLAIR_{number}.dcm").touch()
    bad, _ = find_scans(InputConfig(root))
    assert bad.problem is not None
    assert bad.problem.count("is passed over") == 5 and "So are 4 more." in bad.problem


def test_t1_flair_is_a_t1w_and_a_mask_on_a_flair_is_no_matter(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_acq-FLAIR_T1w", "sub-1_space-FLAIR_label-lesion_mask")
    (scan,) = find_scans(InputConfig(root))
    assert names(scan) == {"FLAIR": "sub-1_FLAIR", "T1w": "sub-1_acq-FLAIR_T1w"}
    assert scan.choices == ()


def test_session_with_nothing_but_a_wrong_name_is_told(dataset: MakeDataset) -> None:
    root = dataset("sub-1_ses-2_FLAIR", "sub-1_ses-1_flair", "sub-1_ses-3_T2starw")
    bad, good = find_scans(InputConfig(root))
    assert (bad.label, good.label) == ("sub-1_ses-1", "sub-1_ses-2")
    assert bad.problem is not None and good.problem is None


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("with_database", [True, False])
def test_files_that_bidsignore_lists_are_passed_over(
    dataset: MakeDataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    validate: bool,
    with_database: bool,
) -> None:
    root = dataset(
        *("sub-1_FLAIR", "sub-1_acq-bad_FLAIR", "sub-1_T1w", "sub-2_FLAIR", "sub-3_FLAIR"),
        *("sub-4_FLAIR", "sub-4_T1w", "sub-5_run-1_FLAIR", "sub-5_run-2_FLAIR"),
    )
    lines = ("# by hand", "", "*_acq-bad_*", "/sub-2/", "sub-3/**", "sub-4/anat/sub-4_FLAIR.nii.gz")
    lines += ("sub-5/anat/*", "!sub-5/anat/*_run-2_*")
    (root / ".bidsignore").write_text("\r\n".join(lines), encoding="utf-8-sig")
    database = tmp_path / "db" if with_database else None
    config = InputConfig(root, validate=validate, database_dir=database)
    first, fourth, fifth = find_scans(config)
    assert names(first) == {"FLAIR": "sub-1_FLAIR", "T1w": "sub-1_T1w"}
    assert first.choices == (
        "FLAIR: passed over sub-1_acq-bad_FLAIR.nii.gz, .bidsignore lists it.",
    )
    assert fourth.problem is not None and ".bidsignore lists it" in fourth.problem
    assert names(fifth) == {"FLAIR": "sub-5_run-2_FLAIR"}
    assert "Left out, as .bidsignore lists the images: 2, 3." in caplog.text
    (asked,) = find_scans(InputConfig(root, participant_labels=("2",)))
    assert asked.problem is not None


def test_bidsignore_that_cannot_be_understood_is_named(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR")
    (root / ".bidsignore").write_text("*.html\n!\n")
    with pytest.raises(UsageError, match=r"\.bidsignore cannot be understood"):
        find_scans(InputConfig(root))


@pytest.mark.parametrize("with_database", [True, False])
def test_participant_is_the_whole_name_of_the_folder(
    dataset: MakeDataset, tmp_path: Path, with_database: bool
) -> None:
    root = dataset("sub-x_FLAIR")
    other = root / "sub-x_y" / "anat" / "sub-x_y_FLAIR.nii.gz"
    write_image(other, (0.5, 0.5, 0.5))
    database = tmp_path / "db" if with_database else None
    config = InputConfig(root, validate=False, database_dir=database)
    good, bad = find_scans(config)
    assert names(good) == {"FLAIR": "sub-x_FLAIR"} and good.choices == ()
    assert (bad.subject, bad.images) == ("x_y", {})
    assert bad.problem is not None and "letters and digits only" in bad.problem


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("sub-1/ses-1", "sub-2_ses-1_FLAIR"),
        ("sub-1/ses-1", "sub-1_ses-2_FLAIR"),
        ("sub-1/ses-1", "sub-01_ses-1_FLAIR"),
        ("sub-1/ses-1", "SUB-2_FLAIR"),
        ("sub-1/ses-1", "sub-1_ses-1_ses-2_FLAIR"),
        ("sub-1/ses-1", "sub-1-b_ses-1_FLAIR"),
        ("sub-1/ses-é", "sub-1_ses-é_FLAIR"),
        ("sub-1/ses-1_b", "sub-1_ses-1_b_FLAIR"),
    ],
)
def test_file_that_disagrees_with_its_folder_is_refused_and_named(
    dataset: MakeDataset,
    caplog: pytest.LogCaptureFixture,
    validate: bool,
    place: str,
    name: str,
) -> None:
    root = dataset("sub-1_ses-1_FLAIR")
    path = root / place / "anat" / f"{name}.nii.gz"
    write_image(path, (0.5, 0.5, 0.5))
    scans = find_scans(InputConfig(root, validate=validate))
    assert names(scans[0]) == {"FLAIR": "sub-1_ses-1_FLAIR"}
    told = [*scans[0].choices, *[scan.problem for scan in scans[1:]]]
    assert len(told) == 1 and f"passed over {name}.nii.gz, " in str(told[0])
    assert f"{path} is passed over" in caplog.text


labels = st.from_regex(r"[0-9A-Za-z]{1,4}", fullmatch=True)


@given(labels, labels, labels, labels)
def test_only_the_labels_of_the_folders_may_stand_in_a_name(
    subject: str, session: str, other: str, another: str
) -> None:
    fits = (subject, session) == (other, another)
    name = f"sub-{other}_ses-{another}_acq-sub_FLAIR.nii.gz"
    assert (why_misplaced(subject, session, name) is None) == fits
    assert why_misplaced(subject, session, f"sub-{subject}_ses-{session}_FLAIR.nii.gz") is None


def test_labels_of_several_lines_tear_no_list_apart(
    dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    root = dataset("sub-1_ses-1_FLAIR", "sub-a\nb_FLAIR")
    write_image(root / "sub-1" / "ses-2\n" / "anat" / "sub-1_ses-2\n_FLAIR.nii.gz")
    good, bad = find_scans(InputConfig(root, validate=False))
    assert good.problem is None
    assert bad.label == "sub-1_ses-2\\n"
    assert bad.problem is not None and "\n" not in bad.problem
    assert "sub-a\\nb is passed over" in caplog.text


@pytest.mark.parametrize("label", ["é1", "<i>", "a b", "x_y", "1.2"])
def test_label_that_bids_does_not_know_is_named_and_the_others_go_on(
    dataset: MakeDataset, label: str
) -> None:
    root = dataset("sub-1_FLAIR", "sub-2_ses-1_FLAIR")
    write_image(root / f"sub-{label}" / "ses-1" / "anat" / f"sub-{label}_ses-1_FLAIR.nii.gz")
    scans = {scan.subject: scan for scan in find_scans(InputConfig(root, validate=False))}
    assert scans.keys() == {"1", "2", label}
    assert [s.subject for s in scans.values() if s.problem is not None] == [label]
    assert f"rename the folder sub-{label}" in str(scans[label].problem)
