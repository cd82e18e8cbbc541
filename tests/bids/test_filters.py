"""Filter files narrow the choice, and are refused where they would be misunderstood."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from cascade_bids.bids.filters import load_filters
from cascade_bids.bids.inputs import find_scans
from cascade_bids.config import InputConfig
from cascade_bids.errors import UsageError

from .small_dataset import MakeDataset, names, path_of, write_image


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"flair": {"acquisition": "low"}}, "sub-1_acq-low_run-01_FLAIR"),
        ({"flair": {"acquisition": None}}, "sub-1_FLAIR"),
        ({"flair": {"acquisition": ["x", None]}}, "sub-1_FLAIR"),
        ({"flair": {"run": "*"}}, "sub-1_acq-low_run-01_FLAIR"),
        ({"flair": {"run": 1, "suffix": "FLAIR"}}, "sub-1_acq-low_run-01_FLAIR"),
        ({"flair": {"extension": "nii.gz", "session": None}}, "sub-1_FLAIR"),
    ],
)
def test_filters(
    dataset: MakeDataset, tmp_path: Path, filters: dict[str, Any], expected: str
) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_T1w")
    write_image(path_of(root, "sub-1_acq-low_run-01_FLAIR.nii.gz"), (2, 2, 2))
    file = tmp_path / "filters.json"
    file.write_text(json.dumps(filters))
    (scan,) = find_scans(InputConfig(root, filters=load_filters(file)))
    assert names(scan) == {"FLAIR": expected, "T1w": "sub-1_T1w"}


def test_filter_that_nothing_fits_is_told(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR")
    (scan,) = find_scans(InputConfig(root, filters={"flair": {"acquisition": "x"}}))
    assert scan.problem is not None and "sub-1_FLAIR.nii.gz, it does not match" in scan.problem


def test_flair_filter_on_sessions_selects_scans(dataset: MakeDataset) -> None:
    root = dataset("sub-1_ses-a_FLAIR", "sub-1_ses-b_FLAIR", "sub-1_ses-a_T1w")
    scans = find_scans(InputConfig(root, filters={"flair": {"session": "b"}}))
    assert [scan.label for scan in scans] == ["sub-1_ses-b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "one JSON object"),
        ('{"flaire": {}}', "flaire.*flair, t1w, t2w, pdw"),
        ('{"flair":' * 10**5, "nested too deeply"),
        ('{"t1w": {"acq": "x"}}', '"acq".*acquisition'),
        ('{"t1w": []}', "must be an object"),
        ('{"t1w": {"run": {}}}', "must be text"),
    ],
)
def test_bad_filter_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "filters.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_filters(path)
    assert str(path) in str(caught.value)


def test_missing_filter_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_filters(tmp_path / "none.json")


def test_queries_of_other_apps_are_left_out_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = {"datatype": "anat", "session": "1"}
    content = dict.fromkeys(("fmap", "bold", "sbref", "flair", "t2w", "t1w", "roi"), wanted)
    path = tmp_path / "filters.json"
    path.write_text(json.dumps(content | {"bold": ["not", "looked", "at"]}))
    assert load_filters(path) == dict.fromkeys(("flair", "t2w", "t1w"), wanted)
    (notice,) = caplog.messages
    assert notice.startswith("fmap, bold, sbref, roi in the filter file") and str(path) in notice


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "filters.json"
    path.write_text('{"t1w": {"acquisition": "é"}}', encoding=encoding)
    assert path.read_bytes().startswith(codecs.BOM_UTF8) == (encoding == "utf-8-sig")
    assert load_filters(path) == {"t1w": {"acquisition": "é"}}
