"""The report of a cohort: summary, distributions, trajectories and the table of all scans."""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from cascade_bids.report.page import render, write_whole

LOADS = {"load_ml": "Lesion load (ml)", "load_percent_icv": "Lesion load (% of ICV)"}
"""The columns that are drawn, with their axis titles."""

DIGITS = {"lesion_count": 0, "icv_ml": 0, "load_percent_icv": 3}
"""Decimals of the columns shown that don't have two."""

COLOUR = "#2f7fc1"
"""A blue that stands out on white and on black paper."""

FEWEST_FOR_BOX = 5
"""With fewer scans than this, quartiles say less than the dots themselves."""


def data_dictionary() -> dict[str, dict[str, str]]:
    """Describe the columns of ``lesions.tsv`` in their order, in the terms of BIDS."""
    text = (files("cascade_bids") / "data" / "templates" / "lesions.json").read_text("utf-8")
    return json.loads(text)


def write_cohort_report(
    out: Path, table: pd.DataFrame, *, problems: Sequence[str], version: str
) -> None:
    """Write ``group.html``, one file that works without internet.

    Parameters
    ----------
    out
        The page; it stands beside the participants' pages ``sub-X.html``, to which it links.
    table
        One row for each scan, in the order shown, with columns out of `data_dictionary`;
        NaN where a value is missing.
    problems
        Sentences that stand at the top: scans that are left out, mixed methods.
    version
        Version of cascade_bids.

    Raises
    ------
    CascadeBidsError
        If the page can't be written.
    """
    described = {name: about for name, about in data_dictionary().items() if name in table}
    columns = [
        {
            "title": _title(about),
            "description": about["Description"],
            "is_number": pd.api.types.is_numeric_dtype(table[name]),
        }
        for name, about in described.items()
    ]
    page = render(
        "group.html.j2",
        version=version,
        problems=problems,
        numbers=_numbers(table),
        boxes=len(table) >= FEWEST_FOR_BOX,
        plotly_js=Markup(f"<script>{get_plotlyjs()}</script>"),
        distribution=_html(_distribution(table), "distribution"),
        trajectories=_trajectories(table),
        columns=columns,
        rows=[
            [
                _cell(out.parent, name, row[name], pd.api.types.is_numeric_dtype(table[name]))
                for name in described
            ]
            for _, row in table.iterrows()
        ],
    )
    write_whole(out, page)


def _title(about: dict[str, str]) -> str:
    units = {"mL": " (ml)", "%": ""}
    return about["LongName"] + units.get(about.get("Units", ""), "")


def _cell(folder: Path, name: str, value: Any, is_number: bool) -> dict[str, Any]:
    text = "n/a" if pd.isna(value) else str(value)
    if is_number and not pd.isna(value):
        text = f"{value:.{DIGITS.get(name, 2)}f}"
    page = f"{value}.html"
    return {
        "text": text,
        "value": "" if pd.isna(value) else value,
        "is_number": is_number,
        "link": page if name == "participant_id" and (folder / page).exists() else None,
    }


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


def _names(table: pd.DataFrame) -> pd.Series:
    """Name each scan as its files begin: ``sub-01_ses-2``."""
    parts = [name for name in ("participant_id", "session_id", "run_id") if name in table]
    return table[parts].apply(lambda row: "_".join(row.dropna()), axis=1)


def _distribution(table: pd.DataFrame) -> go.Figure:
    figure = make_subplots(rows=len(LOADS), vertical_spacing=0.3)
    names = _names(table)
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
                marker={"color": COLOUR, "size": 7, "opacity": 0.7},
                line={"color": COLOUR if box else "rgba(0,0,0,0)", "width": 1.5},
                fillcolor="rgba(47,127,193,0.15)" if box else "rgba(0,0,0,0)",
                hoveron="points",
                hovertemplate="%{text}: %{x}<extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_xaxes(title_text=title, rangemode="tozero", row=row, col=1)
    figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False)
    return _plain(figure, height=440)


def _trajectories(table: pd.DataFrame) -> Markup | None:
    """Draw the load over sessions of each participant with several; None if there is none."""
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
                line={"color": COLOUR, "width": 1.5},
                marker={"size": 7},
                opacity=0.7,
                hovertemplate=f"{participant}, %{{x}}: %{{y:.2f}} ml<extra></extra>",
            )
        )
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=sessions)
    figure.update_yaxes(title_text=LOADS["load_ml"], rangemode="tozero")
    return _html(_plain(figure, height=400), "trajectories")


def _natural(label: str) -> list[tuple[int, str]]:
    """Sort key under which ``ses-10`` follows ``ses-2``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label)]


def _plain(figure: go.Figure, *, height: int) -> go.Figure:
    """Take colours away that the page sets itself, for light and dark paper."""
    return figure.update_layout(
        template="none",
        showlegend=False,
        height=height,
        margin={"l": 60, "r": 20, "t": 10, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
    )


def _html(figure: go.Figure, name: str) -> Markup:
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage"]]}
    # A fixed id instead of a random one: the same table gives the same page.
    text = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config)
    return Markup(text)
