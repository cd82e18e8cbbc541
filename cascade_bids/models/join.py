"""Several trained methods as one, of whose probabilities the mean is taken."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.models.card import load_card
from cascade_bids.models.card_checks import INPUT, LABEL_MAPS, PARTICIPANTS, USE
from cascade_bids.models.weights import load_network, save_method

LEARNED = (*PARTICIPANTS, *LABEL_MAPS)
"""Entries of the cards that are put together."""


def join_methods(methods: Sequence[str], name: str, out_dir: Path) -> Path:
    """Write a method that runs several, and takes the mean of their probabilities.

    Temperature and operating point are those of the first. There is no interval of the load and no
    confidence of lesions, which nobody calibrated for the mean.

    Parameters
    ----------
    methods
        Names or cards, at least two, of the same contrasts. Of joined ones the members are taken.
    name
        What the new method is called.
    out_dir
        Where its weights and card go.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When there is no such method, or they don't fit together.
    StartError
        When weights are unreadable.
    """
    entries = join_entries(methods)
    stages = [
        (load_network(stage, device=torch.device("cpu")), stage.entry())
        for method in methods
        for stage in load_card(method).stages
    ]
    return save_method(name, stages, entries, out_dir)


def join_entries(methods: Sequence[str]) -> dict[str, Any]:
    """Return what the card of a joined method states, but for its name and its stages.

    Parameters and errors as of `join_methods`.
    """
    if len(methods) < 2:
        raise UsageError("name two methods at least")
    cards = [load_card(method) for method in methods]
    first = cards[0].entries()
    for method, card in zip(methods, cards, strict=True):
        entries = card.entries()
        differing = [key for key in INPUT if entries.get(key) != first.get(key)]
        if differing:
            raise UsageError(
                f"{method} does not fit {methods[0]}: other {', '.join(differing)}; name methods "
                "that take the same images"
            )
    known = {
        key: sorted(set(chain.from_iterable(card.learned_from[key] for card in cards)))
        for key in LEARNED
    }
    # A source that was joined before is told apart again.
    sources = dict.fromkeys(one for card in cards for one in card.source.split("; "))
    return {
        **{key: value for key, value in first.items() if key in USE},
        **known,
        "version": VERSION,
        "source": "; ".join(sources),
        "members": [asdict(member) for card in cards for member in card.members],
    }
