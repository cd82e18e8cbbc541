"""What the pages show of change between sessions."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from cascade_bids.change.table import CLASSES, COLUMNS
from cascade_bids.report.change import ChangeReport, changes_dictionary, cohort_section
from cascade_bids.report.cohort import write_cohort_report
from cascade_bids.report.subject import ScanReport, write_subject_report

EVIL = "<script>alert('x')</script>"


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.words, self.links, self.tags = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if tag == "a" and key == "href"]

    def handle_data(self, data):
        if self.tags[-1:] != ["script"]:
            self.words.append(data)


def _row(participant="sub-1", ends=("ses-1", "ses-2"), years=np.nan, **counts):
    row = {"participant_id": participant, "session_from": ends[0], "session_to": ends[1]}
    row |= {"years": years, "method": "ensemble", "version": "0.1.0"}
    for name in CLASSES:
        row[f"{name}_count"] = counts.get(name, 0)
        if name != "stable":
            change_ml = counts.get(name, 0) * (-0.1 if name in ("shrunk", "gone") else 0.1) + 0.0
            row |= {f"{name}_ml": change_ml, f"{name}_ml_per_year": change_ml / years}
            row[f"{name}_per_year"] = counts.get(name, 0) / years
    return row


def _section(folder, *rows):
    return cohort_section(folder, pd.DataFrame(rows, columns=list(changes_dictionary())))


SEVERAL = [
    _row("sub-1", years=0.5, new=3, enlarged=1),
    _row("sub-1", ("ses-2", "ses-10"), years=2.0),
    _row("sub-2", years=1.0, stable=4),
    _row("sub-3", new=2, gone=1),
]


def test_numbers_of_the_cohort(tmp_path):
    assert _section(tmp_path, *SEVERAL)["numbers"] == [
        ("intervals", "4", "", ""),
        ("median of new lesions per interval", "1", "", "0 to 3"),
        ("median of new lesions per year", "0.00", "", "0.00 to 6.00"),
        ("participants without any change", "1", "of 3", ""),
    ]


def test_every_interval_is_in_the_distributions_by_name(tmp_path):
    plot = _section(tmp_path, *SEVERAL)["distribution"]
    assert plot.count('"sub-1, ses-2 to ses-10"') == 2
    assert plot.count('"sub-3, ses-1 to ses-2"') == 1  # nothing is known of the time
    assert "New lesions per interval" in plot
    assert "New lesions per year" in plot


def test_without_times_nothing_is_per_year(tmp_path):
    section = _section(tmp_path, _row(), _row("sub-2", new=1))
    assert section["timed"] == 0
    assert "per year" not in str([section["numbers"], section["distribution"]])
    assert "year" not in str([column["title"] for column in section["columns"]]).lower()


def _cohort(folder, *rows):
    scans = pd.DataFrame(
        {"participant_id": ["sub-1"], "load_ml": [1.0], "load_percent_icv": [0.1]}
    ).assign(lesion_count=pd.array([1], dtype="Int64"))
    changes = pd.DataFrame(rows, columns=list(changes_dictionary())) if rows else None
    out = folder / "group.html"
    write_cohort_report(out, scans, problems=[], version="0.1.0", changes=changes)
    return _Page(out.read_text(encoding="utf-8"))


def test_section_of_the_cohort(tmp_path):
    (tmp_path / "sub-2.html").touch()
    page = _cohort(tmp_path, *SEVERAL)
    for words in (
        "Change between sessions",
        "participants without any change 1 of 3",
        "Numbers per year are of the 3 intervals whose length is known.",
        "sub-1 ses-1 ses-2 0.50 3 0.300 1 0.100 0 0 0.000 0 0.000 6.00",
        "sub-3 ses-1 ses-2 n/a 2 0.200 0 0.000 0 0 0.000 1 -0.100 n/a",
    ):
        assert words in page.text
    assert page.links == [
        "lesions.tsv",
        "lesions.json",
        "changes.tsv",
        "changes.json",
        "sub-2.html",
    ]
    assert "Change between sessions" not in _cohort(tmp_path).text


def test_intervals_of_the_cohort_are_escaped(tmp_path):
    scripts = _cohort(tmp_path, _row()).tags.count("script")
    page = _cohort(tmp_path, _row(EVIL, (EVIL, EVIL), years=1.0, new=1))
    assert page.tags.count("script") == scripts
    assert page.text.count(EVIL) == 3


CHANGE = ChangeReport(
    intervals=(
        _row(years=0.5, new=2, gone=1, stable=3),
        _row(ends=("ses-2", "ses-10"), shrunk=1),
    ),
    order="sub-1_sessions.tsv",
    warnings=["The verdict on ses-2 is fail."],
)


def _participant(folder, change):
    scan = ScanReport("sub-1_ses-1", None, {}, None, None, None)
    path = write_subject_report(
        folder, "sub-1", [scan], version="0.1.0", boilerplate="Text.", change=change
    )
    return _Page(path.read_text(encoding="utf-8"))


def _put_table(folder, *rows):
    table = pd.DataFrame(rows, columns=["lesion", "session_id", "class", "change_mm3", "location"])
    table = table.reindex(columns=list(COLUMNS)).assign(volume_mm3=20.04)
    path = folder / "sub-1_desc-lesions_change.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


def test_intervals_of_a_participant(tmp_path):
    text = _participant(tmp_path, CHANGE).text
    assert "ses-1 to ses-2 0.50 2 (+0.200 ml) 0 3 0 1 (-0.100 ml) 4.00" in text
    assert "ses-2 to ses-10 n/a 0 0 0 1 (-0.100 ml) 0 n/a" in text
    assert "is that of acq_time in sub-1_sessions.tsv." in text
    assert "The verdict on ses-2 is fail." in text
    assert "not compared" not in text
    assert (
        "is that of their labels." in _participant(tmp_path, replace(CHANGE, order="labels")).text
    )


def test_a_change_of_unknown_volume_has_its_count(tmp_path):
    row = {**_row(new=2), "new_ml": np.nan}
    assert "ses-1 to ses-2 n/a 2 0 0 0 0 n/a" in _participant(tmp_path, ChangeReport([row])).text


def test_lesions_that_changed_are_listed_by_interval_largest_first(tmp_path):
    table = _put_table(
        tmp_path,
        (1, "ses-1", None, np.nan, "juxtacortical"),
        (1, "ses-2", "gone", -30.0, "juxtacortical"),
        (2, "ses-2", "stable", 500.0, "juxtacortical"),
        (3, "ses-10", "shrunk", -900.0, "deep_white_matter"),
        (4, "ses-2", "new", 40.0, None),
    )
    text = _participant(tmp_path, replace(CHANGE, lesions=table)).text
    assert (
        "that changed (3) lesion session class volume (mm³) change (mm³) location 4 ses-2" in text
    )
    listed = ("4 ses-2 new 20.0 40.0 n/a", "1 ses-2 gone 20.0 -30.0 juxtacortical")
    assert " ".join([*listed, "3 ses-10 shrunk 20.0 -900.0 deep white matter"]) in text


def test_a_participant_without_change_is_told_so(tmp_path):
    table = _put_table(tmp_path, (1, "ses-2", "stable", 0.0, "juxtacortical"))
    text = _participant(tmp_path, replace(CHANGE, lesions=table)).text
    assert "No lesion is new, enlarged, shrunk or gone." in text


@pytest.mark.parametrize("content", [None, b"", b"lesion\tclass\n1\tnew\n", b"\xff\xfe\x00"])
def test_a_damaged_table_is_named_and_the_page_written(tmp_path, content):
    table = tmp_path / "change.tsv"
    if content is not None:
        table.write_bytes(content)
    text = _participant(tmp_path, replace(CHANGE, lesions=table)).text
    assert "change.tsv, can't be read" in text
    assert "ses-1 to ses-2" in text


def test_a_failure_is_told_with_and_without_an_earlier_comparison(tmp_path):
    problems = ["The last comparison failed: register ses 2: no brain."]
    text = _participant(tmp_path, ChangeReport(problems=problems)).text
    assert "The sessions were not compared The last comparison failed: register ses 2" in text
    assert "earlier run" not in text
    text = _participant(tmp_path, replace(CHANGE, problems=problems)).text
    assert "The changes below are of an earlier run." in text
    assert "Change between sessions" not in _participant(tmp_path, None).text


def test_everything_of_a_participant_is_escaped(tmp_path):
    table = _put_table(tmp_path, (EVIL, EVIL, "new", 1.0, EVIL))
    change = ChangeReport([_row(ends=(EVIL, EVIL))], EVIL, [EVIL], table, [EVIL])
    page = _participant(tmp_path, change)
    assert page.tags.count("script") == 1  # the page's own
    assert page.text.count(EVIL) == 8


def test_dictionary_and_table_name_the_same_classes():
    described = json.dumps(changes_dictionary())
    for name in CLASSES:
        assert f'"{name}_count"' in described
