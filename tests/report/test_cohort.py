"""The cohort's page: self-contained, complete, honest about what is missing."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from cascade_bids.report.cohort import data_dictionary, write_cohort_report


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.words, self.links, self.resources, self.styles, self.scripts = [], [], [], [], []
        self.inside = ""
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        for key, value in attrs:
            if key in ("src", "href"):
                (self.links if tag == "a" else self.resources).append(value)

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        where = {"style": self.styles, "script": self.scripts}
        where.get(self.inside, self.words).append(data)


def _table(rows):
    """Rows of participant, session, load; other columns made up."""
    table = pd.DataFrame(rows, columns=["participant_id", "session_id", "load_ml"])
    table["lesion_count"] = pd.array(range(1, len(rows) + 1), dtype="Int64")
    table["icv_ml"] = 1400.0
    table["load_percent_icv"] = table["load_ml"] / 14
    table["method"], table["version"] = "valverde2017", "0.1.0"
    return table


def _write(folder, table, problems=()):
    out = folder / "group.html"
    write_cohort_report(out, table, problems=problems, version="0.1.0")
    return _Page(out.read_text(encoding="utf-8"))


def _plots(page):
    return [script for script in page.scripts if "Plotly.newPlot(" in script[:400]]


SEVERAL = [("sub-1", "ses-1", 1.5), ("sub-1", "ses-2", 3.0), ("sub-2", "ses-1", 10.0)]


def test_summary_and_table(tmp_path):
    (tmp_path / "sub-1.html").touch()
    page = _write(tmp_path, _table(SEVERAL), ["sub-9 failed <b>."])
    for words in (
        "participants 2",
        "scans 3",
        "median lesion load 1.50 to 10.00 3.00 ml",
        "sub-9 failed <b>.",
        "sub-1 ses-2 3.00 2 1400 0.214 valverde2017 0.1.0",
        "For research use only",
    ):
        assert words in page.text
    # Only pages that exist are linked.
    assert page.links == ["lesions.tsv", "lesions.json", "sub-1.html", "sub-1.html"]


def test_page_needs_nothing_from_outside(tmp_path):
    page = _write(tmp_path, _table(SEVERAL))
    assert page.resources == ["data:,"]
    assert not re.search(r"@import|url\(", "".join(page.styles))
    assert all('"displaylogo": false' in plot for plot in _plots(page))
    assert any(len(script) > 1_000_000 for script in page.scripts)  # plotly itself


def test_every_scan_is_in_the_distribution_by_name(tmp_path):
    distribution = _plots(_write(tmp_path, _table(SEVERAL)))[0]
    for name in ("sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1"):
        assert distribution.count(f'"{name}"') == 2  # in ml and in percent


def test_trajectories_only_of_participants_with_several_sessions(tmp_path):
    rows = [("sub-1", f"ses-{k}", float(k)) for k in (2, 10)] + [("sub-2", "ses-1", 4.0)]
    page = _write(tmp_path, _table(rows))
    course = _plots(page)[1]
    assert "Over sessions" in page.text
    assert "sub-1, %{x}" in course
    assert "sub-2" not in course
    assert re.search(r'"categoryarray":\["ses-2","ses-10"\]', course)


@pytest.mark.parametrize(
    "rows", [SEVERAL[1:], [("sub-1", "ses-1", 1.0), ("sub-1", "ses-2", np.nan)]]
)
def test_no_trajectories_without_a_second_value(tmp_path, rows):
    page = _write(tmp_path, _table(rows))
    assert "Over sessions" not in page.text
    assert len(_plots(page)) == 1


def test_dataset_without_sessions_and_a_missing_icv(tmp_path):
    table = _table(SEVERAL[1:]).drop(columns="session_id")
    table.loc[:, ["icv_ml", "load_percent_icv"]] = np.nan
    page = _write(tmp_path, table)
    assert "sub-2 10.00 2 n/a n/a valverde2017" in page.text
    assert "median load in percent" not in page.text


def test_same_table_gives_the_same_bytes(tmp_path):
    _write(tmp_path, _table(SEVERAL))
    first = (tmp_path / "group.html").read_bytes()
    _write(tmp_path, _table(SEVERAL))
    assert (tmp_path / "group.html").read_bytes() == first


def test_data_dictionary_explains_every_column():
    for about in data_dictionary().values():
        assert (
            {"LongName", "Description"}
            <= set(about)
            <= {"LongName", "Description", "Levels", "Units"}
        )
    with_units = {name for name, about in data_dictionary().items() if "Units" in about}
    assert with_units == {name for name in data_dictionary() if name.endswith(("_ml", "_icv"))}
