"""Several trained cascades as one method, of whose probabilities the mean is taken."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch

from cascade_bids.errors import UsageError
from cascade_bids.models.card import load_card
from cascade_bids.models.card_checks import LABEL_MAPS, PARTICIPANTS
from cascade_bids.models.weights import load_network, save_method

SHARED = ("contrasts", "optional", "normalisation", "anatomy", "sphere_head", "combination")
"""Entries of the cards that must be equal."""

LEARNED = (*PARTICIPANTS, *LABEL_MAPS)
"""Entries of the cards that are put together."""

OWN = ("name", "stages", "cross_validation", "seed", "load_factor", "confidence", *LEARNED)
"""Entries that the joined card does not take from the first."""


def join_methods(methods: Sequence[str], name: str, out_dir: Path) -> Path:
    """Write a method that runs several, and takes the mean of their probabilities.

    Temperature and operating point are those of the first. There is no interval of the load and no
    confidence of lesions, which nobody calibrated for the mean.

    Parameters
    ----------
    methods
        Names or cards, at least two, of as many stages and the same contrasts.
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
    if len(methods) < 2:
        raise UsageError("name two methods at least")
    cards = [load_card(method) for method in methods]
    first = cards[0].entries()
    for method, card in zip(methods, cards, strict=True):
        entries = card.entries()
        differing = [key for key in SHARED if entries.get(key) != first.get(key)]
        if len(card.stages) != len(cards[0].stages):
            differing.append("number of stages")
        if card.cascades > 1:
            differing.append("being several cascades already")
        if differing:
            raise UsageError(
                f"{method} does not fit {methods[0]}: other {', '.join(differing)}; name trainings "
                "of one method with the same contrasts"
            )
    stages = [
        (load_network(stage, device=torch.device("cpu")), stage.entry())
        for card in cards
        for stage in card.stages
    ]
    known = {
        key: sorted(set(chain.from_iterable(card.learned_from[key] for card in cards)))
        for key in LEARNED
    }
    rest = {key: value for key, value in first.items() if key not in OWN}
    joined = {**rest, **known, "cascades": len(cards), "members": [card.name for card in cards]}
    return save_method(name, stages, joined, out_dir)
