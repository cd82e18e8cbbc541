"""Outputs get their names, sidecars and places; the validator and pybids accept the tree."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bids.layout import BIDSLayout

from cascade_bids.bids.inputs import Scan, find_scans
from cascade_bids.bids.outputs import (
    find_misplaced_stats,
    find_stats,
    json_text,
    output_path,
    sidecar,
    with_sidecar,
    write_dataset_description,
    write_json,
)
from cascade_bids.config import InputConfig
from cascade_bids.errors import UsageError
from cascade_bids.files import replace_together

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")
COLUMNS = [
    "index",
    "name",
    "volume_mm3",
    "location",
    "centroid_x_mm",
    "centroid_y_mm",
    "centroid_z_mm",
    "mean_probability",
    "max_probability",
]


@pytest.fixture
def inputs(tmp_path: Path) -> InputConfig:
    """Two participants: one with sessions, one with runs and a brain mask of fMRIPrep."""
    raw, prep = tmp_path / "raw", tmp_path / "prep"
    names = [
        "sub-01/anat/sub-01_run-01_FLAIR",
        "sub-01/anat/sub-01_T1w",
        "sub-02/ses-1/anat/sub-02_ses-1_FLAIR",
        "sub-02/ses-2/anat/sub-02_ses-2_FLAIR",
        "sub-02/ses-2/anat/sub-02_ses-2_T1w",
    ]
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4))
    image.header.set_xyzt_units("mm")
    paths = [raw / f"{name}.nii.gz" for name in names]
    for path in [*paths, prep / "sub-01/anat/sub-01_desc-brain_mask.nii.gz"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
    write_json(raw / "dataset_description.json", {"Name": "raw", "BIDSVersion": "1.10.0"})
    return InputConfig(raw, derivatives={"prep": prep})


def write_outputs(root: Path, scan: Scan, inputs: InputConfig, work: Path) -> None:
    """Write every output that a scan can have, the images all copies of its FLAIR."""
    image = scan.images["FLAIR"]
    contents: dict[Path, Path | str] = {}
    for name in ("lesion_mask", "lesion_probseg", "lesion_dseg", "brain_mask"):
        target = output_path(root, scan, name)
        contents |= with_sidecar(image, target, sidecar(name, scan, inputs))
    for contrast in scan.images:
        metadata = sidecar("preproc", scan, inputs, contrast=contrast)
        target = output_path(root, scan, "preproc", contrast=contrast)
        contents |= with_sidecar(image, target, metadata)
    for space in {"T1w"} & scan.images.keys() | {"MNI152NLin2009aSym"}:
        for name in ("lesion_mask", "lesion_probseg"):
            metadata = sidecar(name, scan, inputs, space=space)
            contents |= with_sidecar(image, output_path(root, scan, name, space=space), metadata)
    row = ["1", "lesion-1", "12.5", "juxtacortical", "1.5", "-2", "n/a", "0.5", "0.75"]
    work.write_text("\t".join(COLUMNS) + "\n" + "\t".join(row) + "\n")
    metadata = sidecar("lesion_table", scan, inputs)
    contents |= with_sidecar(work, output_path(root, scan, "lesion_table"), metadata)
    contents[output_path(root, scan, "stats")] = json_text({"load_ml": 1.25, "count": 1})
    contents[output_path(root, scan, "xfm", from_="FLAIR", to="MNI152NLin2009aSym")] = work
    contents[output_path(root, scan, "figure", desc="lesions")] = work
    contents[output_path(root, scan, "report")] = work
    replace_together(contents, [])


@pytest.fixture
def tree(tmp_path: Path, inputs: InputConfig) -> Path:
    root = tmp_path / "out"
    write_dataset_description(
        root, bids_dir=inputs.bids_dir, derivatives=inputs.derivatives, version="0.1.0"
    )
    for scan in find_scans(inputs):
        write_outputs(root, scan, inputs, tmp_path / "work")
    (root / "logs").mkdir()
    tables = [f"{table}.{kind}" for table in ("lesions", "changes") for kind in ("tsv", "json")]
    for name in ("group.html", *tables, "logs/CITATION.md"):
        (root / name).write_text("{}")
    return root


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("name", "entities", "expected"),
    [
        ("lesion_mask", {}, "anat/{}_space-FLAIR_label-lesion_mask.nii.gz"),
        ("lesion_probseg", {"space": "T1w"}, "anat/{}_space-T1w_label-lesion_probseg.nii.gz"),
        ("lesion_dseg", {}, "anat/{}_space-FLAIR_desc-lesions_dseg.nii.gz"),
        ("lesion_table", {}, "anat/{}_space-FLAIR_desc-lesions_dseg.tsv"),
        ("brain_mask", {}, "anat/{}_space-FLAIR_desc-brain_mask.nii.gz"),
        ("preproc", {"contrast": "PDw"}, "anat/{}_space-FLAIR_desc-preproc_PDw.nii.gz"),
        ("xfm", {"from_": "T1w", "to": "FLAIR"}, "anat/{}_from-T1w_to-FLAIR_mode-image_xfm.txt"),
        ("stats", {}, "anat/{}_desc-lesions_stats.json"),
    ],
)
def test_names_of_outputs(name: str, entities: dict[str, str], expected: str) -> None:
    for scan, folder in (
        (Scan("X", None, None), "sub-X"),
        (Scan("X", "Y", "01"), "sub-X/ses-Y"),
        (Scan("X", None, "1"), "sub-X"),
    ):
        path = output_path(Path("/out"), scan, name, **entities)
        assert path == Path("/out", folder, expected.format(scan.label))


def test_names_of_figures_and_report() -> None:
    scan = Scan("X", "Y", "01")
    assert output_path(Path(), scan, "report") == Path("sub-X.html")
    assert output_path(Path(), scan, "figure", desc="lesions") == Path(
        "sub-X/figures/sub-X_ses-Y_run-01_desc-lesions_mosaic.svg"
    )


@pytest.mark.parametrize(
    ("name", "entities"),
    [
        ("lesion", {}),
        ("preproc", {}),
        ("preproc", {"contrast": "bold"}),
        ("lesion_mask", {"space": "flair"}),
        ("lesion_mask", {"colour": "red"}),
        ("xfm", {"from_": "T1w"}),
    ],
)
def test_names_that_do_not_exist(name: str, entities: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"io_spec\.json"):
        output_path(Path(), Scan("X", None, None), name, **entities)


def test_sidecars(inputs: InputConfig) -> None:
    with_mask, _, last = find_scans(inputs)
    flair = "bids:raw:sub-01/anat/sub-01_run-01_FLAIR.nii.gz"
    t1w = "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    mask = "bids:prep:sub-01/anat/sub-01_desc-brain_mask.nii.gz"

    lesions = sidecar("lesion_mask", with_mask, inputs)
    assert lesions["Type"] == "Lesion"
    assert (lesions["SpatialReference"], lesions["Sources"]) == (flair, [flair, t1w, mask])
    assert sidecar("brain_mask", with_mask, inputs)["Type"] == "Brain"
    assert sidecar("lesion_mask", with_mask, inputs, space="T1w")["SpatialReference"] == t1w

    preproc = sidecar("preproc", with_mask, inputs, contrast="T1w")
    assert preproc["SkullStripped"] is True
    assert preproc["Sources"] == [t1w, mask]

    table = sidecar("lesion_table", last, inputs)
    assert table == sidecar("lesion_dseg", last, inputs)
    assert [column for column in COLUMNS if column not in table] == []


def test_validator_finds_no_error(tree: Path) -> None:
    if not VALIDATOR.exists():
        pytest.skip("bids-validator-deno is not installed; it is in the extra 'test'")
    done = subprocess.run(
        [VALIDATOR, tree, "--format", "json"],
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    # All else would tell of a wrong sidecar; authors and README are the user's.
    assert {i["code"] for i in issues} <= {"README_FILE_MISSING", "TOO_FEW_AUTHORS"}
    assert done.returncode == 0


def test_pybids_reads_the_tree_back(tree: Path) -> None:
    layout = BIDSLayout(tree, validate=False, is_derivative=True)
    assert layout.get_subjects() == ["01", "02"]
    masks = layout.get(space="FLAIR", label="lesion", suffix="mask", extension=".nii.gz")
    assert [mask.entities.get("session") for mask in masks] == [None, "1", "2"]
    assert str(masks[0].entities["run"]) == "01"
    assert masks[0].get_metadata()["Type"] == "Lesion"


def test_group_level_finds_the_scans(tree: Path) -> None:
    expected = [
        {"subject": "01", "run": "01"},
        {"subject": "02", "session": "1"},
        {"subject": "02", "session": "2"},
    ]
    assert [entities for entities, _ in find_stats(tree)] == expected
    assert read(find_stats(tree)[0][1])["load_ml"] == 1.25
    assert find_stats(tree)[2][1].name == "sub-02_ses-2_desc-lesions_stats.json"
    assert find_stats(tree / "logs") == []


def test_statistics_in_a_folder_that_is_not_theirs_are_of_no_scan(tmp_path: Path) -> None:
    places = ("sub-é1/anat/sub-é1", "sub-1/anat/sub-2", "sub-1/ses-1/anat/sub-1_ses-2")
    for place in (*places, "sub-1/ses-1/anat/sub-1_ses-1_run-1"):
        path = tmp_path / f"{place}_desc-lesions_stats.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    ((entities, _),) = find_stats(tmp_path)
    assert entities == {"subject": "1", "session": "1", "run": "1"}
    misplaced = find_misplaced_stats(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in misplaced} == {
        f"{place}_desc-lesions_stats.json" for place in places
    }


def test_dataset_description(tmp_path: Path, inputs: InputConfig) -> None:
    raw = inputs.bids_dir

    def describe(root: Path) -> Any:
        write_dataset_description(
            root, bids_dir=raw, derivatives=inputs.derivatives, version="0.1.0"
        )
        return read(root / "dataset_description.json")

    beside, inside = describe(tmp_path / "out"), describe(raw / "derivatives" / "cascade_bids")
    assert beside["DatasetType"] == "derivative"
    assert beside["GeneratedBy"][0]["Version"] == "0.1.0"
    assert beside["DatasetLinks"] == {
        "raw": raw.as_uri(),
        "prep": inputs.derivatives["prep"].as_uri(),
    }
    assert inside["DatasetLinks"]["raw"] == "../.."
    assert inside["SourceDatasets"][0] == {"URL": "../.."}

    doi = "doi:10.18112/openneuro.ds000001.v1.0.0"
    description = {"Name": "raw", "BIDSVersion": "1.10.0", "DatasetDOI": doi}
    write_json(raw / "dataset_description.json", description)
    assert describe(tmp_path / "out")["SourceDatasets"][0] == {"DOI": doi}


def test_links_of_earlier_runs_stay(tmp_path: Path, inputs: InputConfig) -> None:
    root, raw, prep = tmp_path / "out", inputs.bids_dir, inputs.derivatives["prep"]
    for derivatives in ({"prep": prep}, {}, {"other": tmp_path}):
        write_dataset_description(root, bids_dir=raw, derivatives=derivatives, version="0.1.0")
    description = read(root / "dataset_description.json")
    links = {"raw": raw.as_uri(), "prep": prep.as_uri(), "other": ".."}
    assert description["DatasetLinks"] == links
    assert description["SourceDatasets"] == [{"URL": link} for link in links.values()]


def test_another_dataset_is_not_overwritten(inputs: InputConfig) -> None:
    path = inputs.bids_dir / "dataset_description.json"
    before = path.read_bytes()
    with pytest.raises(UsageError, match="another dataset"):
        write_dataset_description(
            inputs.bids_dir, bids_dir=inputs.bids_dir, derivatives={}, version="0.1.0"
        )
    assert path.read_bytes() == before


def test_tasks_that_race_for_the_description(tmp_path: Path, inputs: InputConfig) -> None:
    root = tmp_path / "out"

    def describe(_: int) -> Any:
        write_dataset_description(root, bids_dir=inputs.bids_dir, derivatives={}, version="0.1.0")
        return read(root / "dataset_description.json")

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(describe, range(40)))
    assert all(content == seen[0] for content in seen)
    assert sorted(p.name for p in root.iterdir()) == [".bidsignore", "dataset_description.json"]


def test_a_sidecar_comes_before_its_image(tmp_path: Path) -> None:
    work, target = tmp_path / "work.nii.gz", tmp_path / "out" / "sub-1_mask.nii.gz"
    contents = with_sidecar(work, target, {"Type": "Lesion"})
    assert list(contents.items()) == [
        (tmp_path / "out" / "sub-1_mask.json", '{\n  "Type": "Lesion"\n}\n'),
        (target, work),
    ]


def test_json_cannot_hold_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"icv_ml": float("nan")})
    assert list(tmp_path.iterdir()) == []
