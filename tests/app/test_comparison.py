"""What the page of a participant is told of the comparison of its sessions."""

import json
from itertools import pairwise

import pytest

from cascade_bids.app.comparison import report_change
from cascade_bids.bids.results import note_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.change.table import CLASSES
from cascade_bids.report.change import ChangeReport

SCAN = Scan("1", "a", None)
SUBJECT = Scan("1", None, None)


def _put(root, content):
    path = root / "sub-1" / "anat" / "sub-1_desc-change_stats.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _stats(*sessions, years=0.5):
    unchanged = {name: {"count": 0, "change_ml": 0.0} for name in CLASSES}
    return {
        "sessions": sessions,
        "order": "scans.tsv",
        "method": "ensemble",
        "version": "0.1.0",
        "min_change_mm3": 3.0,
        "min_change_percent": 25.0,
        "warnings": ["Look."],
        "intervals": [
            {"from": a, "to": b, "years": years, **unchanged, "per_year": years and unchanged}
            for a, b in pairwise(sessions)
        ],
    }


def test_a_comparison_is_told(tmp_path):
    _put(tmp_path, _stats("ses-a", "ses-b"))
    change = report_change(tmp_path, SCAN)
    assert (change.order, change.warnings, change.problems) == ("scans.tsv", ("Look.",), [])
    assert change.lesions == tmp_path / "sub-1" / "anat" / "sub-1_desc-lesions_change.tsv"
    (interval,) = change.intervals
    assert interval["session_to"] == "ses-b"
    assert interval["new_per_year"] == interval["new_count"] == 0


def test_nothing_is_told_where_nothing_was_to_be_compared(tmp_path):
    assert report_change(tmp_path, SCAN) is None
    note_failure(tmp_path, SUBJECT, "failed: cut off")
    # It is the failure of the scan itself.
    assert report_change(tmp_path, SUBJECT) is None


def test_a_failure_is_told_and_an_earlier_comparison_kept(tmp_path):
    note_failure(tmp_path, SUBJECT, "failed: no brain.")
    problems = ["The last comparison failed: no brain."]
    assert report_change(tmp_path, SCAN) == ChangeReport(problems=problems)
    _put(tmp_path, _stats("ses-a", "ses-b"))
    change = report_change(tmp_path, SCAN)
    assert (len(change.intervals), change.problems) == (1, problems)


@pytest.mark.parametrize("content", ["", "[]", _stats("ses-a")])
def test_a_damaged_comparison_is_told(tmp_path, content):
    path = _put(tmp_path, content)
    (problem,) = report_change(tmp_path, SCAN).problems
    assert f"{path.name} is damaged" in problem
    path.unlink()
    path.symlink_to("nothing")
    (problem,) = report_change(tmp_path, SCAN).problems
    assert "fetch it" in problem
