"""The report of a cohort: summary, distributions, trajectories and the table of all scans."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from cascade_bids.files import write_text
from cascade_bids.report.change import cohort_section
from cascade_bids.report.page import read_dictionary, render
from cascade_bids.report.plots import (
    COLOURS,
    FEWEST_FOR_BOX,
    distributions,
    embed,
    plain,
    plotly_script,
)
from cascade_bids.report.tables import column_headers, median_and_range, scan_names, table_rows

LOADS = {"load_ml": "Lesion load (ml)", "load_percent_icv": "Lesion load (% of ICV)"}
"""Columns that are plotted, with their axis titles."""

DIGITS = {"lesion_count": 0, "icv_ml": 0, "load_percent_icv": 3}
"""Decimals of the columns that are not shown with two."""


def data_dictionary() -> dict[str, dict[str, str]]:
    """Return the BIDS data dictionary of ``lesions.tsv``, in the order of its columns."""
    return read_dictionary("lesions.json")


def write_cohort_report(
    out: Path,
    table: pd.DataFrame,
    *,
    problems: Sequence[str],
    version: str,
    changes: pd.DataFrame | None = None,
) -> None:
    """Write ``group.html``, a single file that works offline.

    Parameters
    ----------
    out
        Path of the page, in the folder of the participants' pages ``sub-X.html`` that it links to.
    table
        One row per scan, in the order shown, with columns of `data_dictionary`; NaN where a value
        is missing.
    problems
        Sentences for the top of the page: scans that are left out, mixed methods.
    version
        Version of cascade_bids.
    changes
        One row per participant and interval between sessions, see `report.change.cohort_section`;
        None if no sessions were compared.

    Raises
    ------
    CascadeBidsError
        If the page cannot be written.
    """
    described = {name: about for name, about in data_dictionary().items() if name in table}
    page = render(
        "group.html.j2",
        version=version,
        problems=problems,
        numbers=_numbers(table),
        boxes=len(table) >= FEWEST_FOR_BOX,
        plotly_js=plotly_script(),
        distribution=embed(distributions(table, LOADS, scan_names(table)), "distribution"),
        trajectories=_trajectories(table),
        change=None if changes is None else cohort_section(out.parent, changes),
        columns=column_headers(table, described),
        rows=table_rows(out.parent, table, list(described), DIGITS),
    )
    write_text(out, page)


def _numbers(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Summarise the cohort: label, value, unit and range of each number."""
    numbers = [
        ("participants", str(table["participant_id"].nunique()), "", ""),
        ("scans", str(len(table)), "", ""),
    ]
    for name, label, unit in (
        ("load_ml", "median lesion load", "ml"),
        ("load_percent_icv", "median load in percent of ICV", "%"),
        ("lesion_count", "median number of lesions", ""),
    ):
        values, digits = table[name].dropna(), DIGITS.get(name, 2)
        if len(values):
            median, spread = median_and_range(values, digits)
            numbers.append((label, median, unit, spread))
    return numbers


def _trajectories(table: pd.DataFrame) -> Markup | None:
    """Draw the load over sessions of participants with several; None without such participants."""
    if "session_id" not in table:
        return None
    loads = table.groupby(["participant_id", "session_id"], sort=False)["load_ml"].mean().dropna()
    several = loads.groupby("participant_id", sort=False).filter(lambda part: len(part) > 1)
    if several.empty:
        return None
    sessions = sorted(several.index.unique("session_id"), key=_natural)
    figure = go.Figure()
    for participant, part in several.groupby("participant_id", sort=False):
        course = part.droplevel("participant_id")
        course = course.reindex([session for session in sessions if session in course.index])
        figure.add_trace(
            go.Scatter(
                x=course.index.tolist(),
                y=course.tolist(),
                mode="lines+markers",
                line={"color": COLOURS[0], "width": 1.5},
                marker={"size": 7},
                opacity=0.7,
                hovertemplate=f"{participant}, %{{x}}: %{{y:.2f}} ml<extra></extra>",
            )
        )
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=sessions)
    figure.update_yaxes(title_text=LOADS["load_ml"], rangemode="tozero")
    return embed(plain(figure, height=400), "trajectories")


def _natural(label: str) -> list[tuple[int, str]]:
    """Return a sort key by which ``ses-10`` follows ``ses-2``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label)]
