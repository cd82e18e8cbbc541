"""The group level: one row for each scan, nothing lost in silence."""

import json
import logging

import pandas as pd
import pytest

from cascade_bids.app.group import run_group
from cascade_bids.bids.results import note_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.lesions.location import LOCATIONS


def _stats(load_ml, **changes):
    stats = {
        "load_ml": load_ml,
        "count": 4,
        "by_location": {
            place: {"load_ml": round(load_ml * part, 3), "count": 1}
            for place, part in zip(LOCATIONS, (0.4, 0.3, 0.2, 0.1), strict=True)
        },
        "icv_ml": 1400.0,
        "load_percent_icv": round(load_ml / 14, 4),
        "method": "valverde2017",
        "contrasts": "FLAIR+T1w",
        "version": "0.1.0",
        "weights_sha256": "ab" * 32,
        "threshold": 0.5,
        "min_lesion_mm3": 10.0,
        "separate_lesions": False,
        "skull_strip": "auto",
        "quality": {"verdict": "pass", "reasons": [], "measures": {}},
    }
    return {**stats, **changes}


def _put(root, label, content):
    """Write statistics as the participant level does; text goes in as it is."""
    folder = root.joinpath(*[part for part in label.split("_") if not part.startswith("run-")])
    folder = folder / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path = folder / f"{label}_desc-lesions_stats.json"
    path.write_text(text, encoding="utf-8")
    return path


def _rows(root):
    return pd.read_csv(root / "lesions.tsv", sep="\t", dtype=str, keep_default_na=False)


def test_table_holds_every_scan_in_natural_order(tmp_path):
    for label, load in (("sub-10", 1.0), ("sub-2_ses-10", 2.0), ("sub-2_ses-9", 3.5)):
        _put(tmp_path, label, _stats(load))
    assert run_group(tmp_path) == tmp_path / "group.html"
    table = _rows(tmp_path)
    assert table["participant_id"].tolist() == ["sub-2", "sub-2", "sub-10"]
    assert table["session_id"].tolist() == ["ses-9", "ses-10", "n/a"]
    assert table["load_ml"].tolist() == ["3.5", "2.0", "1.0"]
    assert table["lesion_count"].tolist() == ["4", "4", "4"]
    assert table["juxtacortical_load_ml"].tolist() == ["1.05", "0.6", "0.3"]
    assert "run_id" not in table


def test_dictionary_explains_the_columns_that_there_are(tmp_path):
    _put(tmp_path, "sub-1_run-2", _stats(1.0))
    run_group(tmp_path)
    columns = _rows(tmp_path).columns.tolist()
    assert list(json.loads((tmp_path / "lesions.json").read_text("utf-8"))) == columns
    assert columns[:2] == ["participant_id", "run_id"]
    assert [f"{place}_load_ml" for place in LOCATIONS] == columns[6:10]


def test_missing_values_are_na(tmp_path):
    _put(tmp_path, "sub-1", _stats(1.0, icv_ml=None, load_percent_icv=None))
    run_group(tmp_path)
    assert _rows(tmp_path).loc[0, ["icv_ml", "load_percent_icv"]].tolist() == ["n/a", "n/a"]


def test_a_scan_without_locations_has_the_rest(tmp_path):
    _put(tmp_path, "sub-1", _stats(1.0, by_location=None))
    _put(tmp_path, "sub-2", _stats(2.0))
    run_group(tmp_path)
    table = _rows(tmp_path)
    assert table["load_ml"].tolist() == ["1.0", "2.0"]
    for place in LOCATIONS:
        assert table[f"{place}_load_ml"][0] == "n/a"
        assert float(table[f"{place}_load_ml"][1]) > 0


def test_clean_tree_has_no_warnings(tmp_path, caplog):
    _put(tmp_path, "sub-1_ses-1", _stats(1.0))
    (tmp_path / "sub-1" / "figures").mkdir()
    (tmp_path / "sub-1.html").touch()
    (tmp_path / "logs").mkdir()
    with caplog.at_level(logging.WARNING):
        report = run_group(tmp_path)
    assert caplog.messages == []
    assert "Look at this before" not in report.read_text(encoding="utf-8")


def _without(key):
    stats = _stats(9.0)
    del stats[key]
    return stats


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"load_ml": 3',
        "[]",
        "null",
        _without("load_ml"),
        _without("by_location"),
        _stats(9.0, by_location={}),
        _stats(9.0, count="four"),
        _stats(9.0, count=1.5),
        _stats(9.0, icv_ml=True),
        _stats(9.0, icv_ml=10**400),
    ],
)
def test_damaged_statistics_are_named_and_the_others_go_on(tmp_path, content):
    _put(tmp_path, "sub-1", content)
    _put(tmp_path, "sub-2", _stats(2.0))
    name = "sub-1/anat/sub-1_desc-lesions_stats.json is damaged and left out"
    with pytest.raises(ScanError, match=name):
        run_group(tmp_path)
    assert _rows(tmp_path)["participant_id"].tolist() == ["sub-2"]
    assert name in (tmp_path / "group.html").read_text(encoding="utf-8")


def test_statistics_that_were_not_fetched_are_to_be_fetched(tmp_path):
    path = _put(tmp_path, "sub-1", "")
    path.unlink()
    path.symlink_to("../.git/annex/objects/none")
    _put(tmp_path, "sub-2", _stats(2.0))
    with pytest.raises(ScanError, match=r"sub-1_desc-lesions_stats\.json.*fetch it") as caught:
        run_group(tmp_path)
    assert "participant level again" not in str(caught.value)
    assert _rows(tmp_path)["participant_id"].tolist() == ["sub-2"]
    path.unlink()
    path.symlink_to(_put(tmp_path / "annex", "sub-1", _stats(1.0)))
    run_group(tmp_path)
    assert len(_rows(tmp_path)) == 2


def test_bytes_that_are_no_text_are_damage(tmp_path):
    _put(tmp_path, "sub-1", "").write_bytes(b"\xff\xfe\x00")
    _put(tmp_path, "sub-2", _stats(2.0))
    with pytest.raises(ScanError, match="left out"):
        run_group(tmp_path)
    assert len(_rows(tmp_path)) == 1


def test_participants_and_sessions_without_statistics_are_named(tmp_path, caplog):
    _put(tmp_path, "sub-1_ses-1", _stats(1.0))
    (tmp_path / "sub-1" / "ses-2" / "anat").mkdir(parents=True)
    (tmp_path / "sub-3" / "ses-1").mkdir(parents=True)
    (tmp_path / "sub-4.html").touch()
    with caplog.at_level(logging.WARNING):
        run_group(tmp_path)
    named = [message.split(" has no lesion statistics")[0] for message in caplog.messages]
    assert named == ["sub-1/ses-2", "sub-3", "sub-4"]


def test_what_a_run_without_result_did_is_told(tmp_path):
    scan = Scan("1", "1", "2")
    _put(tmp_path, scan.label, _stats(1.0))
    (tmp_path / "sub-1" / "ses-2").mkdir()
    note_failure(tmp_path, Scan("1", "2", None), "failed: <b> is no FLAIR.")
    page = run_group(tmp_path).read_text(encoding="utf-8")
    assert "its processing failed: &lt;b&gt; is no FLAIR." in page
    assert "earlier run" not in page
    note_failure(tmp_path, scan, "did not finish")
    page = run_group(tmp_path).read_text(encoding="utf-8")
    assert (
        "The numbers of sub-1_ses-1_run-2 are of an earlier run, since its last one did not finish."
        in page
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("method", "allnet"),
        ("version", "0.2.0"),
        ("threshold", 0.4),
        ("weights_sha256", "cd" * 32),
        ("separate_lesions", True),
        ("skull_strip", "skip"),
        ("contrasts", "FLAIR"),
    ],
)
def test_mixed_settings_are_told(tmp_path, setting, value):
    _put(tmp_path, "sub-1", _stats(1.0))
    _put(tmp_path, "sub-2", _stats(2.0, **{setting: value}))
    page = run_group(tmp_path).read_text(encoding="utf-8")
    assert f"not all processed with the same {setting}" in page


def test_raw_data_is_not_needed_and_a_rerun_gives_the_same_bytes(tmp_path):
    _put(tmp_path, "sub-1", _stats(1.0))
    run_group(tmp_path)
    names = ("lesions.tsv", "lesions.json", "group.html")
    first = [(tmp_path / name).read_bytes() for name in names]
    run_group(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == first
    assert {path.name for path in tmp_path.iterdir()} == {*names, "sub-1"}


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_without_statistics_the_participant_level_is_asked_for(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="run the participant level"):
        run_group(tmp_path / folder)


def test_nothing_is_written_if_all_statistics_are_damaged(tmp_path):
    _put(tmp_path, "sub-1", "{")
    with pytest.raises(ScanError, match=r"sub-1_desc-lesions_stats\.json"):
        run_group(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sub-1"]


@pytest.mark.parametrize(
    "place",
    [
        "sub-é1/anat/sub-é1",
        "sub-<i>/anat/sub-<i>",
        "sub-1/anat/sub-2",
        "sub-3/ses-1/anat/sub-3_ses-2",
        "sub-3/ses-a_b/anat/sub-3_ses-a_b",
    ],
)
def test_statistics_in_a_place_that_is_not_theirs_are_named(tmp_path, place):
    _put(tmp_path, "sub-1", _stats(1.0))
    _put(tmp_path, "sub-3_ses-1", _stats(3.0))
    path = tmp_path / f"{place}_desc-lesions_stats.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_stats(2.0)), encoding="utf-8")
    with pytest.raises(ScanError) as caught:
        run_group(tmp_path)
    assert f"{path.relative_to(tmp_path)} is left out: " in str(caught.value)
    assert _rows(tmp_path)["load_ml"].tolist() == ["1.0", "3.0"]
    page = (tmp_path / "group.html").read_text(encoding="utf-8")
    assert "is left out" in page and "sub-<i>" not in page
    assert "has no lesion statistics" not in page
