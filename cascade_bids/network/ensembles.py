"""Several trained cascades as one method, of whose probabilities the mean is taken."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch

from cascade_bids.errors import UsageError
from cascade_bids.network.weights import (
    FIND_LESIONS,
    LEARNED_FROM,
    load_card,
    load_network,
    save_method,
)

SHARED = ("contrasts", "optional", "normalisation", "anatomy", "sphere_head", "combination")
"""What the cards must agree in."""

LEARNED = (*LEARNED_FROM, "heads", "heads_to_check")
"""What the cards say together."""


def join_methods(methods: Sequence[str], name: str, out_dir: Path) -> Path:
    """Write a method that asks several, and takes the mean of what they say.

    Temperature, threshold, smallest lesion and peak are those of the first. Without an interval of
    the load and a confidence of lesions, which nobody checked of the mean.

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
    cards = [load_card(method, task=FIND_LESIONS) for method in methods]
    first = cards[0]
    for method, card in zip(methods, cards, strict=True):
        differing = [key for key in SHARED if card.get(key) != first.get(key)]
        if len(card["stages"]) != len(first["stages"]):
            differing.append("number of stages")
        if card.get("cascades", 1) > 1:
            differing.append("being several cascades already")
        if differing:
            raise UsageError(
                f"{method} does not fit {methods[0]}: other {', '.join(differing)}; name trainings "
                "of one method with the same contrasts"
            )
    own = ("name", "stages", "cross_validation", "seed", "load_factor", "confidence", *LEARNED)
    stages = [
        (load_network(method, number, device=torch.device("cpu")), entry)
        for method, card in zip(methods, cards, strict=True)
        for number, entry in enumerate(card["stages"])
    ]
    known = {
        key: sorted(set(chain.from_iterable(card.get(key, []) for card in cards)))
        for key in LEARNED
    }
    rest = {key: value for key, value in first.items() if key not in own}
    joined = {**rest, **known, "cascades": len(cards), "members": [card["name"] for card in cards]}
    return save_method(name, stages, joined, out_dir)
