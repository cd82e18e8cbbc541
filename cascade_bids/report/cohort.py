"""The report of a cohort: summary, distributions, trajectories and the table of all scans."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from cascade_bids.files import write_text
from cascade_bids.report.page import read_dictionary, render
from cascade_bids.report.plots import COLOURS, embed, plain, plotly_script
from cascade_bids.report.tables import cell, column_headers, scan_names

LOADS = {"load_ml": "Lesion load (ml)", "load_percent_icv": "Lesion load (% of ICV)"}
"""Columns that are plotted, with their axis titles."""

DIGITS = {"lesion_count": 0, "icv_ml": 0, "load_percent_icv": 3}
"""Decimals of the columns that are not shown with two."""

FEWEST_FOR_BOX = 5
"""Smallest number of scans for which box plots are drawn, and not only the single values."""


def data_dictionary() -> dict[str, dict[str, str]]:
    """Return the BIDS data dictionary of ``lesions.tsv``, in the order of its columns."""
    return read_dictionary("lesions.json")


def write_cohort_report(
    out: Path, table: pd.DataFrame, *, problems: Sequence[str], version: str
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
        distribution=embed(_distribution(table), "distribution"),
        trajectories=_trajectories(table),
        columns=column_headers(table, described),
        rows=[
            [_cell(out.parent, table, name, row[name]) for name in described]
            for _, row in table.iterrows()
        ],
    )
    write_text(out, page)


def _cell(folder: Path, table: pd.DataFrame, name: str, value: Any) -> dict[str, Any]:
    page = f"{value}.html"
    return cell(
        value,
        is_number=pd.api.types.is_numeric_dtype(table[name]),
        digits=DIGITS.get(name, 2),
        link=page if name == "participant_id" and (folder / page).exists() else None,
    )


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
            # The median of an even number of counts may lie between two of them.
            median = f"{values.median():.{digits}f}" if digits else f"{values.median():g}"
            spread = f"{values.min():.{digits}f} to {values.max():.{digits}f}"
            numbers.append((label, median, unit, spread))
    return numbers


def _distribution(table: pd.DataFrame) -> go.Figure:
    figure = make_subplots(rows=len(LOADS), vertical_spacing=0.3)
    names = scan_names(table)
    for row, (column, title) in enumerate(LOADS.items(), start=1):
        shown = table[column].notna()
        box = len(table) >= FEWEST_FOR_BOX
        figure.add_trace(
            go.Box(
                x=table[column][shown].tolist(),
                text=names[shown].tolist(),
                name="",
                boxpoints="all",
                jitter=0.5 if box else 0,
                pointpos=-1.6 if box else 0,
                marker={"color": COLOURS[0], "size": 7, "opacity": 0.7},
                line={"color": COLOURS[0] if box else "rgba(0,0,0,0)", "width": 1.5},
                fillcolor="rgba(47,127,193,0.15)" if box else "rgba(0,0,0,0)",
                hoveron="points",
                hovertemplate="%{text}: %{x}<extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_xaxes(title_text=title, rangemode="tozero", row=row, col=1)
    figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False)
    return plain(figure, height=440)


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
