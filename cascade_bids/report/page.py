"""Render pages, figures and texts from the templates."""

import json
import math
from functools import cache
from importlib.resources import files
from numbers import Real
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape


def render(template: str, **values: Any) -> str:
    """Render a template.

    Parameters
    ----------
    template
        File name in ``data/templates``; in ``.html.j2`` all values are escaped.
    **values
        Variables of the template.

    Returns
    -------
    str
        The text.
    """
    return _environment().get_template(template).render(**values)


def read_dictionary(name: str) -> dict[str, dict[str, str]]:
    """Read the BIDS data dictionary of a table.

    Parameters
    ----------
    name
        File name in ``data/templates``.

    Returns
    -------
    dict
        Column to its entries, in the order of the table.
    """
    text = (files("cascade_bids") / "data" / "templates" / name).read_text("utf-8")
    return json.loads(text)


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
    """Format a number; ``n/a`` if it is missing or not finite."""
    if isinstance(value, Real) and math.isfinite(value):
        return f"{float(value):.{digits}f}"
    return "n/a"
