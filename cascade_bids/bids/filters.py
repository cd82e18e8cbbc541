"""Filter files: which images may be chosen."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cascade_bids.bids.dataset import known_entities, read_json
from cascade_bids.config import CONTRASTS
from cascade_bids.errors import UsageError

logger = logging.getLogger(__name__)

_QUERIES = tuple(contrast.lower() for contrast in CONTRASTS)
_OTHER_QUERIES = (
    *("asl", "bold", "cbf", "dwi", "fmap", "func", "m0scan", "megre", "mp2rage", "perf", "pet"),
    *("roi", "sbref", "t1map", "t2map", "t2star", "t2starw"),
)
"""Queries of other BIDS Apps, whose filter files are shared with them; no near miss of ours."""


def load_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Load a filter file in the format of fMRIPrep's ``--bids-filter-file``.

    Each key is a contrast in lower case, each value maps BIDS entities (by their long names, as
    in pybids) to the value that an image must have, or a list of allowed values. ``null`` means
    that the entity must be absent, ``"*"`` that it must be present with any value. Queries that
    other BIDS Apps know are left out, with a warning.

    Parameters
    ----------
    path
        A JSON file such as ``{"flair": {"acquisition": "highres", "run": null}}``.

    Returns
    -------
    dict
        Contrast in lower case to entities to required values.

    Raises
    ------
    UsageError
        If the file is not JSON of that format, or names a query or entity that does not exist.
    """
    content = read_json(path, "filter file")
    others = [query for query in content if query in _OTHER_QUERIES]
    if others:
        logger.warning(
            "%s in the filter file %s has no meaning here and is left out.", ", ".join(others), path
        )
    content = {query: wanted for query, wanted in content.items() if query not in others}
    unknown = sorted(set(content) - set(_QUERIES))
    if unknown:
        raise UsageError(
            f"Unknown query in the filter file {path}: {', '.join(unknown)}. "
            f"Allowed are {', '.join(_QUERIES)}."
        )
    names = sorted(entity.name for entity in known_entities())
    for query, wanted in content.items():
        if not isinstance(wanted, dict):
            raise UsageError(f'"{query}" in the filter file {path} must be an object {{…}}.')
        for name, value in wanted.items():
            if name not in names:
                raise UsageError(
                    f'Unknown entity "{name}" under "{query}" in the filter file {path}. '
                    f"Allowed are {', '.join(names)}."
                )
            options = value if isinstance(value, list) else [value]
            if not all(option is None or isinstance(option, str | int) for option in options):
                raise UsageError(
                    f'"{query}": "{name}" in the filter file {path} must be text, a number, '
                    "null (absent), * (any) or a list of these."
                )
    return content


def matches(entities: Mapping[str, str], filters: Mapping[str, Any]) -> bool:
    """Return whether the entities of an image match a filter.

    Parameters
    ----------
    entities
        Long name of each entity to its value.
    filters
        Long names of entities to what they must be, as in `load_filters`.

    Returns
    -------
    bool
        True without filters.

    Examples
    --------
    >>> matches({"run": "01"}, {"run": [1, 2], "acquisition": None})
    True
    """

    def fits(name: str, option: Any) -> bool:
        value = entities.get(name)
        if option is None or value is None:
            return option is value
        return option == "*" or _normal(name, str(option)) == _normal(name, value)

    return all(
        any(fits(name, option) for option in (wanted if isinstance(wanted, list) else [wanted]))
        for name, wanted in filters.items()
    )


def _normal(name: str, value: str) -> str:
    """Normalise a value as pybids compares it: runs by number, extensions with a dot."""
    if name == "run":
        return value.lstrip("0")
    return f".{value.lstrip('.')}" if name == "extension" else value
