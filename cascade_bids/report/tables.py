"""The table of all scans that a report shows, which the reader can sort."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


def scan_names(table: pd.DataFrame) -> pd.Series:
    """Name each scan as its files begin: ``sub-01_ses-2``.

    Parameters
    ----------
    table
        One row for each scan, with ``participant_id`` and, if there are any, ``session_id`` and
        ``run_id``.

    Returns
    -------
    Series of str
        A name for each row.
    """
    parts = [name for name in ("participant_id", "session_id", "run_id") if name in table]
    return table[parts].apply(lambda row: "_".join(row.dropna()), axis=1)


def title(about: Mapping[str, str]) -> str:
    """Head a column, or label an axis, with its name and unit from the data dictionary."""
    units = {"mL": " (ml)", "%": " (%)", "mm": " (mm)"}
    unit = "" if "percent" in about["LongName"].lower() else units.get(about.get("Units", ""), "")
    return about["LongName"] + unit


def heads(table: pd.DataFrame, described: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Head the columns of a table for ``scans_table.html.j2``.

    Parameters
    ----------
    table
        The table.
    described
        The columns to show with their entries in the data dictionary.

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
    """Make a cell for ``scans_table.html.j2``.

    Parameters
    ----------
    value
        What stands in the table; NaN or None if it is missing.
    is_number
        Whether its column holds numbers.
    digits
        Decimals of a number.
    link
        Page to go to, if there is one.

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
