"""Change between sessions, on the page of the cohort and on that of a participant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cascade_bids.change.table import CLASSES, STABLE
from cascade_bids.report.page import read_dictionary
from cascade_bids.report.plots import FEWEST_FOR_BOX, distributions, embed
from cascade_bids.report.tables import column_headers, median_and_range, shown_column, table_rows

CHANGED = tuple(name for name in CLASSES if name != STABLE)
"""What can become of a lesion, besides nothing."""

NEW = {"new_count": "New lesions per interval", "new_per_year": "New lesions per year"}
"""Columns that are plotted, with their axis titles."""

ON_PAGE = (
    "participant_id",
    "session_from",
    "session_to",
    "years",
    *(f"{name}_{what}" for name in CLASSES for what in ("count", "ml")),
    "new_per_year",
)
"""Columns of ``changes.tsv`` for which the page of the cohort is wide enough."""

DIGITS = {
    f"{name}_{what}": digits for name in CLASSES for what, digits in (("count", 0), ("ml", 3))
}
"""Decimals of the columns that are not shown with two."""

LISTED = ("lesion", "session_id", "class", "volume_mm3", "change_mm3", "location")
"""Columns of the change table on the page of a participant."""


@dataclass(frozen=True)
class ChangeReport:
    """What the report shows of the comparison of a participant's sessions."""

    intervals: Sequence[Mapping[str, Any]] = ()
    """Columns of `changes_dictionary` of each interval; none if the sessions were not compared."""
    order: str = ""
    """What tells the order of the sessions: the name of a table, or ``labels``."""
    warnings: Sequence[str] = ()
    """What to look at before the numbers are used."""
    lesions: Path | None = None
    """The ``…_desc-lesions_change.tsv``."""
    problems: Sequence[str] = ()
    """What failed; `intervals` are then of an earlier run."""


def changes_dictionary() -> dict[str, dict[str, str]]:
    """Return the BIDS data dictionary of ``changes.tsv``, in the order of its columns."""
    return read_dictionary("changes.json")


def cohort_section(folder: Path, table: pd.DataFrame) -> dict[str, Any]:
    """Prepare the section of ``group.html`` on change.

    Parameters
    ----------
    folder
        Folder of the page and of those that it links to.
    table
        One row per participant and interval, with the columns of `changes_dictionary`; NaN where a
        value is missing.

    Returns
    -------
    dict
        Values of ``group_change.html.j2``.
    """
    timed = int(table["new_per_year"].notna().sum())
    table = table.dropna(axis="columns", how="all")
    described = {
        name: about
        for name, about in changes_dictionary().items()
        if name in ON_PAGE and name in table
    }
    titles = {name: title for name, title in NEW.items() if name in table}
    return {
        "numbers": _numbers(table),
        "boxes": len(table) >= FEWEST_FOR_BOX,
        "timed": timed,
        "distribution": embed(distributions(table, titles, _interval_names(table)), "new-lesions"),
        "columns": column_headers(table, described),
        "rows": table_rows(folder, table, list(described), DIGITS),
    }


def _interval_names(table: pd.DataFrame) -> pd.Series:
    return table["participant_id"] + ", " + table["session_from"] + " to " + table["session_to"]


def _numbers(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Summarise the table: label, value, unit and range of each number."""
    numbers = [("intervals", str(len(table)), "", "")]
    for name, label, digits in (
        ("new_count", "median of new lesions per interval", 0),
        ("new_per_year", "median of new lesions per year", 2),
    ):
        if name in table:
            median, spread = median_and_range(table[name].dropna(), digits)
            numbers.append((label, median, "", spread))
    changes = table[[f"{name}_count" for name in CHANGED]].sum(axis="columns")
    unchanged = changes.groupby(table["participant_id"]).sum() == 0
    total = f"of {len(unchanged)}"
    numbers.append(("participants without any change", str(unchanged.sum()), total, ""))
    return numbers


def participant_section(change: ChangeReport) -> dict[str, Any]:
    """Prepare the section of the page of a participant on change.

    Parameters
    ----------
    change
        What to show.

    Returns
    -------
    dict
        Values of ``subject_change.html.j2``.
    """
    lesions, problem = _changed_lesions(change)
    return {
        **vars(change),
        "classes": CLASSES,
        "intervals": [_shown_interval(row) for row in change.intervals],
        "lesions": lesions,
        "lesions_problem": problem,
    }


def _shown_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    changes = {}
    for name in CLASSES:
        changes[name] = str(row[f"{name}_count"])
        change_ml = row.get(f"{name}_ml", math.nan)
        if row[f"{name}_count"] and not math.isnan(change_ml):
            changes[name] += f" ({change_ml:+.3f} ml)"
    return {
        "sessions": f"{row['session_from']} to {row['session_to']}",
        "years": row["years"],
        "new_per_year": row["new_per_year"],
        "changes": changes,
    }


def _changed_lesions(change: ChangeReport) -> tuple[list[dict[str, str]] | None, str | None]:
    """Read which lesions changed, the largest change of each interval first, or why not."""
    path = change.lesions
    if path is None:
        return None, None
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        table = table.loc[table["class"].isin(CHANGED), list(LISTED)]
        size = pd.to_numeric(table["change_mm3"], errors="coerce").abs()
    except (OSError, ValueError, KeyError) as error:
        return None, f"The table of the lesions, {path.name}, can't be read ({error!r})."
    ends = [row["session_to"] for row in change.intervals]
    order = pd.Categorical(table["session_id"], ends, ordered=True)
    table = table.assign(interval=order, size=-size).sort_values(
        ["interval", "size"], kind="stable"
    )
    shown = {name: shown_column(name, table[name]) for name in LISTED}
    return [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)], None
