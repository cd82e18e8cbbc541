"""Read the statistics of many scans or participants, and name those that are damaged."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from cascade_bids.files import why_unfetched

Key = TypeVar("Key")
Parsed = TypeVar("Parsed")


def read_all(
    found: Iterable[tuple[Key, Path]], root: Path, parse: Callable[[Key, Any], Parsed]
) -> tuple[list[Parsed], list[str]]:
    """Read all statistics that can be read.

    Parameters
    ----------
    found
        What each file is about, and the file.
    root
        Root of the derivatives.
    parse
        Takes what a file is about and its content. What it raises on a content that is not as it
        must be counts as damage: ValueError, TypeError, KeyError.

    Returns
    -------
    list
        What `parse` returned for each file that is as it must be.
    list of str
        A sentence on each of the others.
    """
    parsed, problems = [], []
    for key, path in found:
        try:
            parsed.append(parse(key, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            if unfetched := why_unfetched(path):
                problems.append(
                    f"{path.relative_to(root)} is left out: it {unfetched} and run again."
                )
                continue
            cause = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            problems.append(
                f"{path.relative_to(root)} is damaged and left out ({cause}); remove it and run "
                "the participant level again for this participant."
            )
    return parsed, problems


def number(value: object) -> float:
    """Convert a JSON number to float, and null to NaN.

    Raises
    ------
    TypeError
        If the value is anything else.
    ValueError
        If it is negative or not finite, which no volume or count is.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} stands where a number belongs")
    if not 0 <= value < math.inf:
        raise ValueError(f"{value} stands where a number from 0 belongs")
    return float(value)


def count(value: object) -> float:
    """Convert a whole JSON number to float, and null to NaN; errors as of `number`."""
    found = number(value)
    if not (math.isnan(found) or found.is_integer()):
        raise ValueError(f"{value} stands where a whole number belongs")
    return found


def signed(value: object) -> float:
    """Convert a JSON number of any sign to float; errors as of `number`."""
    if isinstance(value, int | float) and value < 0:
        return -number(-value)
    return number(value)
