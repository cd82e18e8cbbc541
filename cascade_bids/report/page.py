"""Pages, pictures and texts from the templates, written whole or not at all."""

import json
import math
from functools import cache
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from cascade_bids.files import appearing


def render(template: str, **values: Any) -> str:
    """Fill a template of ``data/templates``; in ``.html.j2`` every value is escaped."""
    return _environment().get_template(template).render(**values)


def read_dictionary(name: str) -> dict[str, dict[str, str]]:
    """Read the BIDS data dictionary of a table from ``data/templates``, in the table's order."""
    text = (files("cascade_bids") / "data" / "templates" / name).read_text("utf-8")
    return json.loads(text)


def write_whole(path: Path, text: str) -> Path:
    """Write a text so that the file is complete as soon as it can be seen.

    Raises
    ------
    CascadeBidsError
        If the folder can't be written to.
    """
    with appearing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cascade_bids", "data/templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: object, digits: int = 2) -> str:
    """Format a number; ``n/a`` for whatever is missing or not finite."""
    if isinstance(value, Real) and math.isfinite(value):
        return f"{float(value):.{digits}f}"
    return "n/a"
