"""Images of a dataset are those that pybids finds, with the entities that their names tell."""

import json
from pathlib import Path

import pytest

from cascade_bids.bids.dataset import bids_uri, parse_entities
from cascade_bids.bids.index import index_images
from cascade_bids.bids.inputs import find_scans
from cascade_bids.config import InputConfig


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("kind", "validate"), [("raw", True), ("raw", False), ("derivative", False)]
)
def test_images_are_those_of_the_index_of_pybids(tmp_path: Path, kind: str, validate: bool) -> None:
    root = tmp_path / "sub-x" / "run-7"
    touch(root / "dataset_description.json")
    description = {"Name": "test", "BIDSVersion": "1.10.0", "DatasetType": kind}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / ".bidsignore").write_text("*_FLAIR.nii.gz\nsub-10/\n")
    for name in (
        *("sub-10_ses-a_FLAIR", "sub-10_ses-B_FLAIR", "sub-10_ses-b_FLAIR", "sub-10_FLAIR"),
        *("sub-1_run-2_FLAIR", "sub-1_run-1_FLAIR", "sub-1_run-01_FLAIR", "sub-01_FLAIR"),
        *("sub-1_mine-x_T1w", "sub-1_desc-preproc_T2w", "sub-1_acq-a.b_T1w", "sub-1_flair"),
        *("sub-xfm_acq-sub-xfm_FLAIR", "sub-a+b_T1w", "sub-a-b_FLAIR", "sub-é_FLAIR"),
    ):
        folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        touch(root.joinpath(*folders, "anat", f"{name}.nii.gz"))
    anat = root / "sub-1" / "anat"
    for name in (".sub-1_T2w.nii.gz", "sub-2_FLAIR.nii.gz", "sub-1_PDw.nii", "sub-1_PDw.nii.gz.x"):
        touch(anat / name)
    for folder in ("func", "anat/deeper", "ses-a", "ses-a/anat", "ses-a/ses-b/anat", ".ses-a/anat"):
        touch(root / "sub-2" / folder / "sub-2_T1w.nii.gz")
    touch(root / "sub-2" / "ses-a_FLAIR.nii.gz")
    touch(root / "sub-9_FLAIR.nii.gz")
    touch(anat / "sub-1_ce-x_T2w.nii.gz" / "sub-1_T2w.nii.gz")
    (root / "sub-3").mkdir()
    (root / "sub-3" / "anat").symlink_to(root / "sub-10" / "anat")
    (root / "sub-4").symlink_to("sub-10")
    (root / "sub-loop").symlink_to("sub-loop")
    (anat / "sub-1_acq-gone_T1w.nii.gz").symlink_to("gone.nii.gz")
    (anat / "sub-1_acq-loop_T1w.nii.gz").symlink_to("sub-1_acq-loop_T1w.nii.gz")

    walked, indexed = (
        index_images(root, subjects=None, validate=validate, database_dir=database)
        for database in (None, tmp_path / "db")
    )
    assert walked == indexed and len(walked[0]) > 10

    scans = find_scans(InputConfig(root, validate=validate))
    for subject in {scan.subject for scan in scans}:
        config = InputConfig(root, participant_labels=(subject,), validate=validate)
        assert find_scans(config) == [scan for scan in scans if scan.subject == subject]


def test_uri_of_a_file_outside_its_dataset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subpath"):
        bids_uri("raw", tmp_path / "raw", tmp_path / "other" / "x.nii.gz")


def test_entities_keep_what_the_name_says() -> None:
    path = Path("sub-01/ses-pre/anat/sub-01_ses-pre_acq-x_run-007_part-mag_T2w.nii.gz")
    entities = parse_entities(path)
    assert entities["run"] == "007"
    assert entities["acquisition"] == "x" and entities["part"] == "mag"
