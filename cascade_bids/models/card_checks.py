"""What the entries of cards must be, so that a wrong one is named at once."""

import math
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cascade_bids.config import CONTRASTS
from cascade_bids.errors import StartError
from cascade_bids.models.probabilities import COMBINATIONS

PARTICIPANTS = (
    "training_scans",
    "unlabelled_scans",
    "healthy_scans",
    "lesion_donors",
    "learned_before",
)
"""Entries that name participants that a model has learned from, itself or before."""

LABEL_MAPS = ("heads", "heads_to_check")
"""Entries that name label maps of heads that synthetic scans were made from."""


INPUT = ("contrasts", "optional", "normalisation", "anatomy", "sphere_head")
"""Entries that tell what the networks take and give."""

USE = (*INPUT, "task", "temperature", "threshold", "min_lesion_mm3", "peak", "provenance")
"""These, and what is done with their probabilities."""


def _is_number(value: Any) -> bool:
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return is_plain and math.isfinite(value)


def _is_within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low <= value <= high


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_contrasts(value: Any) -> bool:
    return _are_names(value) and set(value) <= set(CONTRASTS) and len(set(value)) == len(value)


def _are_three_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _or_none(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


Check = tuple[Callable[[Any], bool], str]
"""Whether a value is right, and what is right."""

NEEDED: Mapping[str, Check] = {
    "contrasts": (
        lambda v: _are_contrasts(v) and "FLAIR" in v,
        f"a list of {', '.join(CONTRASTS)}, each once, with FLAIR",
    ),
    "threshold": (lambda v: _is_within(0, 1)(v) and v > 0, "above 0, and at most 1"),
    "min_lesion_mm3": (_is_within(0, 1e6), "a volume in mm³"),
}
"""What the card of every method must state."""

COMBINATION: Mapping[str, Check] = {
    "combination": (lambda v: v in COMBINATIONS, f"one of {', '.join(COMBINATIONS)}")
}
"""What it must state too, or each of its members instead."""

OPTIONAL: Mapping[str, Check] = {
    "name": (_is_text, "a text"),
    "source": (_is_text, "a text"),
    "optional": (
        lambda v: _are_contrasts(v) and "FLAIR" not in v,
        f"a list of {', '.join(CONTRASTS)}, each once, without FLAIR",
    ),
    "anatomy": (_is_bool, "true or false"),
    "sphere_head": (_is_bool, "true or false"),
    "members": (
        lambda v: isinstance(v, list) and bool(v) and all(isinstance(one, dict) for one in v),
        "a list of names with values",
    ),
    "temperature": (_is_positive, "a number above 0"),
    "peak": (_is_within(0, 1), "between 0 and 1"),
    "load_factor": (_or_none(_is_positive), "a number above 0"),
    "confidence": (_or_none(_are_three_numbers), "three numbers"),
    **dict.fromkeys((*PARTICIPANTS, *LABEL_MAPS), (_are_names, "a list of names")),
}
"""What it may state beside, and what the program reads."""

PROVENANCE = (
    "task",
    "stages",
    "normalisation",
    "version",
    "seed",
    "max_minutes",
    "cross_validation",
    "provenance",
    "started_from",
    "adapted_from",
    "dense_layers_trained",
    "imported_from",
)
"""Further entries, which are for the reader or checked elsewhere."""

KNOWN = frozenset({*NEEDED, *COMBINATION, *OPTIONAL, *PROVENANCE})
"""All entries that there are."""

STAGE: Mapping[str, Check] = {
    "architecture": (_is_text, "the name of an architecture"),
    "arguments": (lambda v: isinstance(v, dict), "names with values"),
    "file": (_is_text, "the name of a file beside the card"),
    "sha256": (_is_text, "the SHA-256 of that file"),
}
"""What each stage must state."""

MEMBER: Mapping[str, Check] = {
    "name": (_is_text, "a text"),
    "stages": (_is_count, "a whole number above 0"),
    **COMBINATION,
    "weight": (_is_positive, "a number above 0"),
}
"""What each member of a joined method must state."""


def are_limits(value: Any, known: Collection[str]) -> bool:
    """Return whether a value holds nothing but numbers, or None, under known names."""
    return isinstance(value, dict) and all(
        name in known and _or_none(_is_number)(limit) for name, limit in value.items()
    )


def refuse_unknown(
    path: Path, entries: Mapping[str, Any], known: Collection[str], where: str = ""
) -> None:
    """Refuse entries of a card that the program does not know.

    Raises
    ------
    StartError
        The message names the entry, and those that there are.
    """
    for name in entries:
        if name not in known:
            like = get_close_matches(name, known, n=1)
            meant = f"did you mean {like[0]}? " if like else ""
            raise StartError(
                f"the card {path} has an unknown entry {name}{where}; {meant}Known are "
                f"{', '.join(sorted(known))}"
            )


def check_entries(
    path: Path, entries: Mapping[str, Any], checks: Mapping[str, Check], where: str = ""
) -> None:
    """Check that entries of a card are there and right.

    Raises
    ------
    StartError
        The message names card, entry and what is right.
    """
    for name, (is_right, right) in checks.items():
        if name not in entries:
            raise StartError(f"the card {path} has no {name}{where}: it must be {right}")
        if not is_right(entries[name]):
            raise StartError(
                f"the card {path}: {name}{where} is {entries[name]!r}, and must be {right}"
            )
