"""What the card of a method that finds lesions must say, so that a wrong one is named at once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cascade_bids.errors import StartError

COMBINATIONS = ("last", "product", "mean", "vote")
"""How maps of stages are put together; see `cascade_bids.network.cascade.combine`."""

_STAGE = ("architecture", "arguments", "file", "sha256")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low <= value <= high


def _are_weights(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < float("inf")


NEEDED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "contrasts": (lambda value: isinstance(value, list) and "FLAIR" in value, "a list with FLAIR"),
    "combination": (lambda value: value in COMBINATIONS, f"one of {', '.join(COMBINATIONS)}"),
    "threshold": (lambda value: _is_within(0, 1)(value) and value > 0, "above 0, and at most 1"),
    "min_lesion_mm3": (_is_within(0, 1e6), "a volume in mm³"),
}
"""What every card must say, whether a value is right, and what is."""

OPTIONAL: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_is_positive, "a number above 0"),
    "peak": (_is_within(0, 1), "between 0 and 1"),
    "load_factor": (lambda value: value is None or _is_positive(value), "a number above 0"),
    "confidence": (lambda value: value is None or _are_weights(value), "three numbers"),
}
"""The same of what a card may lack."""


def check_stages(card: Mapping[str, Any], path: Path) -> None:
    """Check that a card says what its stages are.

    Raises
    ------
    StartError
        When it does not; the message names card and entry.
    """
    stages = card.get("stages")
    if not isinstance(stages, list) or not stages:
        raise StartError(f"the card {path} has no stages; take it as it was written")
    for number, stage in enumerate(stages, start=1):
        missing = [name for name in _STAGE if name not in stage]
        if missing:
            raise StartError(
                f"the card {path} has no {', '.join(missing)} of stage {number}; take it as it was "
                "written"
            )


def check_rules(card: Mapping[str, Any], path: Path) -> None:
    """Check the values by which a method's probabilities become lesions.

    Raises
    ------
    StartError
        When one is missing or makes no sense; the message names card, entry and what is right.
    """
    for name, (is_right, right) in {**NEEDED, **OPTIONAL}.items():
        if name not in card:
            if name in NEEDED:
                raise StartError(f"the card {path} has no {name}: it must be {right}")
        elif not is_right(card[name]):
            raise StartError(f"the card {path}: {name} is {card[name]!r}, and must be {right}")
