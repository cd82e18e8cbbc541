"""The sortable table of all scans in a report."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


def scan_names(table: pd.DataFrame) -> pd.Series:
    """Return the name of each scan, such as ``sub-01_ses-2``.

    Parameters
    ----------
    table
        One row per scan, with ``participant_id`` and, if available, ``session_id`` and ``run_id``.

    Returns
    -------
    Series of str
        Name of each row.
    """
    parts = [name for name in ("participant_id", "session_id", "run_id") if name in table]
    return table[parts].apply(lambda row: "_".join(row.dropna()), axis=1)


def title(about: Mapping[str, str]) -> str:
    """Build the title of a column or axis: its name and unit.

    Parameters
    ----------
    about
        The column's entry in the data dictionary.

    Returns
    -------
    str
        Such as ``HD95 (mm)``; without a unit if the name contains it.
    """
    units = {"mL": " (ml)", "%": " (%)", "mm": " (mm)"}
    unit = "" if "percent" in about["LongName"].lower() else units.get(about.get("Units", ""), "")
    return about["LongName"] + unit


def column_headers(
    table: pd.DataFrame, described: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Build the column headers of a table for ``scans_table.html.j2``.

    Parameters
    ----------
    table
        The table.
    described
        Columns to show, with their entries in the data dictionary.

    Returns
    -------
    list of dict
        ``title``, ``description`` and ``is_number`` of each.
    """
    return [
        {
            "title": title(about),
            "description": about["Description"],
            "is_number": pd.api.types.is_numeric_dtype(table[name]),
        }
        for name, about in described.items()
    ]


def cell(
    value: Any, *, is_number: bool, digits: int = 2, link: str | None = None
) -> dict[str, Any]:
    """Build a cell for ``scans_table.html.j2``.

    Parameters
    ----------
    value
        Value in the table; NaN or None if it is missing.
    is_number
        Whether its column holds numbers.
    digits
        Decimals of a number.
    link
        Page that the cell links to, if any.

    Returns
    -------
    dict
        ``text`` to show, ``value`` to sort by, ``is_number`` and ``link``.
    """
    missing = pd.isna(value)
    text = "n/a" if missing else f"{value:.{digits}f}" if is_number else str(value)
    return {
        "text": text,
        "value": "" if missing else value,
        "is_number": is_number,
        "link": link,
    }
