"""Members of a method: the cascades or ensembles that were joined in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from cascade_bids.errors import StartError
from cascade_bids.models.card_checks import COMBINATION, MEMBER, check_entries, refuse_unknown

One = TypeVar("One")


@dataclass(frozen=True)
class Member:
    """A cascade or ensemble of networks, which may be one of several in a method."""

    name: str
    """Of the method that it was."""
    stages: int
    """How many it has."""
    combination: str
    """How the maps of its stages are combined, see `probabilities.combine`."""
    weight: float = 1.0
    """In the mean of several."""


def split_stages(members: Sequence[Member], stages: Sequence[One]) -> list[tuple[One, ...]]:
    """Return the stages of each member, which lie one after the other."""
    rest = iter(stages)
    return [tuple(islice(rest, member.stages)) for member in members]


def make_members(
    path: Path, entries: Mapping[str, Any], name: str, count: int
) -> tuple[Member, ...]:
    """Return the members that a card states, or the whole method as one.

    Parameters
    ----------
    path
        Of the card.
    entries
        Of the card.
    name
        Of the method.
    count
        How many stages it has.

    Returns
    -------
    tuple of Member
        In the order of their stages.

    Raises
    ------
    StartError
        When an entry is missing, unknown or wrong.
    """
    if "members" not in entries:
        check_entries(path, entries, COMBINATION)
        return (Member(name, count, entries["combination"]),)
    if "combination" in entries:
        raise StartError(f"the card {path} has members, and combination belongs to each of them")
    for number, one in enumerate(entries["members"], start=1):
        where = f" of member {number}"
        refuse_unknown(path, one, MEMBER, where)
        check_entries(path, one, MEMBER, where)
    members = tuple(Member(**one) for one in entries["members"])
    if sum(one.stages for one in members) != count:
        raise StartError(
            f"the card {path}: its members must have as many stages together as it has, {count}"
        )
    return members
