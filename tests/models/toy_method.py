"""A small method of two stages, saved with its card."""

import json
from pathlib import Path

import torch

from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.card import FIND_LESIONS
from cascade_bids.models.weights import save_method

ARGUMENTS = {"channels_in": 1, "widths": [2, 3], "hidden": 4}

STAGE = {"architecture": "PatchNetwork", "arguments": ARGUMENTS, "candidates": {}}

ENTRIES = {
    "task": FIND_LESIONS,
    "contrasts": ["FLAIR"],
    "combination": "mean",
    "threshold": 0.2,
    "min_lesion_mm3": 3.0,
    "confidence": [1.0, 2.0, -0.5],
}


def make_networks() -> list[Valverde2017Network]:
    """Networks of both stages, always the same."""
    torch.manual_seed(0)
    return [Valverde2017Network(**ARGUMENTS) for _ in range(2)]


def save_toy(folder: Path, **changes: object) -> Path:
    """Save the method ``toy``, and return its card; an entry that is None is left out."""
    entries = {name: value for name, value in (ENTRIES | changes).items() if value is not None}
    return save_method("toy", [(one, STAGE) for one in make_networks()], entries, folder)


def change(path: Path, **changes: object) -> None:
    """Change entries of a card."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_stage(path: Path, number: int = 1, **changes: object) -> None:
    """Change entries of a stage of a card."""
    stages = json.loads(path.read_text())["stages"]
    stages[number - 1].update(changes)
    change(path, stages=stages)
