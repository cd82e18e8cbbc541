"""The cohort's table of change: no change is not a comparison that failed."""

import json
import logging
from itertools import pairwise

import pandas as pd
import pytest

from cascade_bids.app.group import run_group
from cascade_bids.bids.results import note_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.change.table import CLASSES
from cascade_bids.errors import ScanError
from cascade_bids.lesions.location import LOCATIONS
from cascade_bids.report.change import changes_dictionary


def _put_results(root, subject, *sessions):
    """Write lesion statistics of sessions as the participant level does."""
    for session in sessions:
        scan = Scan(subject, session, None)
        folder = root / f"sub-{subject}" / f"ses-{session}" / "anat"
        folder.mkdir(parents=True)
        stats = {
            "load_ml": 1.0,
            "count": 4,
            "by_location": {place: {"load_ml": 0.25, "count": 1} for place in LOCATIONS},
            "icv_ml": 1400.0,
            "load_percent_icv": 0.07,
            "method": "ensemble",
            "version": "0.1.0",
            "quality": {"verdict": "pass"},
        }
        (folder / f"{scan.label}_desc-lesions_stats.json").write_text(json.dumps(stats))


def _interval(earlier, later, years=None, **counts):
    changes = {
        name: {"count": counts.get(name, 0), "change_ml": counts.get(name, 0) * sign / 10}
        for name, sign in zip(CLASSES, (1, 1, 0, -1, -1), strict=True)
    }
    per_year = years and {
        name: {key: round(value / years, 4) for key, value in change.items()}
        for name, change in changes.items()
    }
    ends = {"from": f"ses-{earlier}", "to": f"ses-{later}", "years": years}
    return {**ends, **changes, "per_year": per_year}


def _comparison(*sessions, years=None, counts=None, **changes):
    stats = {
        "sessions": [f"ses-{session}" for session in sessions],
        "order": "labels",
        "method": "ensemble",
        "version": "0.1.0",
        "min_change_mm3": 3.0,
        "min_change_percent": 25.0,
        "warnings": [],
        "intervals": [_interval(*ends, years, **(counts or {})) for ends in pairwise(sessions)],
    }
    return {**stats, **changes}


def _put_comparison(root, subject, content):
    """Write the statistics of a comparison; text goes in as it is."""
    path = root / f"sub-{subject}" / "anat" / f"sub-{subject}_desc-change_stats.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _put(root, subject, *sessions, **stats):
    _put_results(root, subject, *sessions)
    return _put_comparison(root, subject, _comparison(*sessions, **stats))


def _rows(root):
    return pd.read_csv(root / "changes.tsv", sep="\t", dtype=str, keep_default_na=False)


def test_table_holds_every_interval_in_natural_order(tmp_path, caplog):
    _put(tmp_path, "10", "1", "2", years=0.5, counts={"new": 3, "gone": 1, "stable": 5})
    _put(tmp_path, "2", "a", "b", "c")
    with caplog.at_level(logging.WARNING):
        run_group(tmp_path)
    assert caplog.messages == []
    table = _rows(tmp_path)
    ends = table[["participant_id", "session_from", "session_to"]].to_numpy().tolist()
    assert ends == [
        ["sub-2", "ses-a", "ses-b"],
        ["sub-2", "ses-b", "ses-c"],
        ["sub-10", "ses-1", "ses-2"],
    ]
    assert table["new_count"].tolist() == ["0", "0", "3"]
    assert table["stable_count"].tolist() == ["0", "0", "5"]
    assert table["gone_ml"].tolist()[2] == "-0.1"
    assert table["years"].tolist() == ["n/a", "n/a", "0.5"]
    assert table["new_per_year"].tolist() == ["n/a", "n/a", "6.0"]
    assert table["gone_ml_per_year"].tolist() == ["n/a", "n/a", "-0.2"]
    assert table["enlarged_per_year"].tolist() == ["n/a", "n/a", "0.0"]


def test_dictionary_explains_every_column(tmp_path):
    _put(tmp_path, "1", "1", "2")
    run_group(tmp_path)
    described = json.loads((tmp_path / "changes.json").read_text("utf-8"))
    assert described == changes_dictionary()
    assert list(described) == _rows(tmp_path).columns.tolist()
    for name, about in described.items():
        assert set(about) - {"Units"} == {"LongName", "Description"}
        assert ("Units" in about) == (name == "years" or name.endswith(("_ml", "_per_year")))


def test_a_rerun_gives_the_same_bytes(tmp_path):
    _put(tmp_path, "1", "1", "2", counts={"new": 1})
    run_group(tmp_path)
    names = ("changes.tsv", "changes.json", "group.html")
    first = [(tmp_path / name).read_bytes() for name in names]
    run_group(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_tables_of_before_go_with_the_last_comparison(tmp_path):
    path = _put(tmp_path, "1", "1", "2")
    assert "Change between sessions" in run_group(tmp_path).read_text(encoding="utf-8")
    path.unlink()
    assert "Change between sessions" not in run_group(tmp_path).read_text(encoding="utf-8")
    assert not list(tmp_path.glob("changes.*"))


def _without(key):
    stats = _comparison("1", "2")
    del stats[key]
    return stats


def _with_new(**changes):
    stats = _comparison("1", "2")
    stats["intervals"][0]["new"] |= changes
    return stats


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        _without("sessions"),
        _without("min_change_mm3"),
        _without("intervals"),
        _comparison("1", "2", intervals=[]),
        _comparison("1", "2", intervals=[_interval("1", "3")]),
        _comparison("1"),
        _comparison("1", "2", sessions=7),
        _with_new(count=None),
        _with_new(count=-1),
        _with_new(count=1.5),
        _with_new(count=10**400),
        _with_new(change_ml="much"),
        _with_new(change_ml=True),
        _with_new(change_ml=float("-inf")),
        _with_new(change_ml=float("nan")),
        _comparison("1", "2", years=-1.0),
    ],
)
def test_damaged_comparisons_are_named_and_the_others_go_on(tmp_path, content):
    _put(tmp_path, "1", "1", "2")
    _put_comparison(tmp_path, "1", content)
    _put(tmp_path, "2", "1", "2")
    name = "sub-1/anat/sub-1_desc-change_stats.json is damaged and left out"
    with pytest.raises(ScanError, match=name):
        run_group(tmp_path)
    assert _rows(tmp_path)["participant_id"].tolist() == ["sub-2"]
    page = (tmp_path / "group.html").read_text(encoding="utf-8")
    assert name in page
    assert "are not compared, since" not in page


def test_comparisons_that_were_not_fetched_are_to_be_fetched(tmp_path):
    path = _put(tmp_path, "1", "1", "2")
    path.unlink()
    path.symlink_to("../.git/annex/objects/none")
    with pytest.raises(ScanError, match=r"sub-1_desc-change_stats\.json.*fetch it"):
        run_group(tmp_path)
    assert not (tmp_path / "changes.tsv").exists()


@pytest.mark.parametrize("name", ["sub-2_desc-change", "sub-1_ses-1_desc-change"])
def test_comparisons_with_a_name_of_others_are_named(tmp_path, name):
    path = _put(tmp_path, "1", "1", "2")
    path.rename(path.with_name(f"{name}_stats.json"))
    with pytest.raises(ScanError, match=f"sub-1/anat/{name}_stats.json is left out: its name"):
        run_group(tmp_path)
    assert "are not compared" not in (tmp_path / "group.html").read_text(encoding="utf-8")


def test_no_change_is_told_from_a_failure_and_from_no_comparison(tmp_path, caplog):
    _put(tmp_path, "1", "1", "2", counts={"stable": 4})
    for subject in ("2", "3", "4", "5"):
        _put_results(tmp_path, subject, "1", "2")
    _put_results(tmp_path, "6", "1")
    note_failure(tmp_path, Scan("2", None, None), "failed: register ses 2: <b> is empty.")
    note_failure(tmp_path, Scan("5", "2", None), "did not finish")
    with caplog.at_level(logging.WARNING):
        page = run_group(tmp_path).read_text(encoding="utf-8")
    assert _rows(tmp_path)["participant_id"].tolist() == ["sub-1"]
    told = [message for message in caplog.messages if "not compared" in message]
    assert [message.split(" are not compared, since ")[0] for message in told] == [
        "The sessions of sub-2",
        "The sessions of sub-5",
        "The sessions of sub-3, sub-4",
    ]
    failed, few, untried = told
    assert failed.endswith("since the last comparison failed: register ses 2: <b> is empty.")
    assert "fewer than two have a result of their last run" in few
    assert "--longitudinal" in untried
    assert "register ses 2: &lt;b&gt; is empty." in page


def test_a_comparison_of_an_earlier_run_is_told(tmp_path, caplog):
    _put(tmp_path, "1", "1", "2")
    note_failure(tmp_path, Scan("1", None, None), "did not finish")
    with caplog.at_level(logging.WARNING):
        run_group(tmp_path)
    assert caplog.messages == [
        "The comparison of the sessions of sub-1 is of an earlier run, since the last one did not "
        "finish."
    ]
    assert len(_rows(tmp_path)) == 1


def test_a_comparison_of_other_sessions_is_outdated(tmp_path, caplog):
    _put_results(tmp_path, "1", "2", "3", "4")
    _put_comparison(tmp_path, "1", _comparison("1", "2"))
    # It is told that its last run failed, which is why it is not compared.
    note_failure(tmp_path, Scan("1", "4", None), "failed: no brain")
    with caplog.at_level(logging.WARNING):
        run_group(tmp_path)
    (outdated,) = [message for message in caplog.messages if "outdated" in message]
    assert (
        "sub-1 is outdated: there is no result of ses-1 any more, and it lacks ses-3." in outdated
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("min_change_mm3", 5.0), ("min_change_percent", 10.0), ("version", "0.2.0")],
)
def test_mixed_settings_are_told(tmp_path, setting, value):
    _put(tmp_path, "1", "1", "2")
    _put(tmp_path, "2", "1", "2", **{setting: value})
    page = run_group(tmp_path).read_text(encoding="utf-8")
    assert f"not all compared with the same {setting}" in page


def test_labels_in_a_comparison_are_escaped(tmp_path):
    evil = "</script><script>alert('x')</script>"
    _put_results(tmp_path, "1", "1", "2")
    _put_comparison(tmp_path, "1", _comparison(evil, "2", version=evil))
    page = run_group(tmp_path).read_text(encoding="utf-8")
    assert "alert(" in page
    assert "<script>alert" not in page
