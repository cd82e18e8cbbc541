"""The tables of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

DIGITS = {"_mm": 1, "_mm3": 1, "_probability": 2, "confidence": 2}
"""Decimals of a column of a table of lesions, by the end of its name; the file has them all."""


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
    """Build the column headers of a table for ``sortable_table.html.j2``.

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
    """Build a cell for ``sortable_table.html.j2``.

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


def table_rows(
    folder: Path, table: pd.DataFrame, columns: Sequence[str], digits: Mapping[str, int]
) -> list[list[dict[str, Any]]]:
    """Build the rows of a table for ``sortable_table.html.j2``, with links to the participants.

    Parameters
    ----------
    folder
        Folder of the page and of those of the participants.
    table
        The table.
    columns
        Columns to show.
    digits
        Decimals of the columns that are not shown with two.

    Returns
    -------
    list of list of dict
        From `cell`.
    """
    rows = []
    for _, values in table.iterrows():
        page = f"{values['participant_id']}.html"
        link = page if (folder / page).exists() else None
        rows.append(
            [
                cell(
                    values[name],
                    is_number=pd.api.types.is_numeric_dtype(table[name]),
                    digits=digits.get(name, 2),
                    link=link if name == "participant_id" else None,
                )
                for name in columns
            ]
        )
    return rows


def median_and_range(values: pd.Series, digits: int) -> tuple[str, str]:
    """Format the median of some numbers, and the smallest and the largest of them.

    Parameters
    ----------
    values
        The numbers, none of them missing.
    digits
        Decimals; with 0, the numbers are counts.

    Returns
    -------
    tuple of str
        Such as ``("2.5", "0 to 7")``.
    """
    # The median of an even number of counts may lie between two of them.
    median = f"{values.median():.{digits}f}" if digits else f"{values.median():g}"
    return median, f"{values.min():.{digits}f} to {values.max():.{digits}f}"


def shown_column(name: str, column: pd.Series) -> list[str]:
    """Format a column of a table of lesions.

    Parameters
    ----------
    name
        Name of the column.
    column
        Its texts, as in the file.

    Returns
    -------
    list of str
        Numbers with the decimals of `DIGITS`, texts without underscores.
    """
    digits = [places for end, places in DIGITS.items() if name.endswith(end)]
    if not digits:
        return [text.replace("_", " ") for text in column]
    numbers = pd.to_numeric(column, errors="coerce")
    return ["n/a" if pd.isna(number) else f"{number:.{digits[0]}f}" for number in numbers]
