"""Weights on disk: safetensors beside a JSON card; nothing is unpickled or downloaded."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from cascade_bids.errors import StartError, UsageError
from cascade_bids.files import appearing, write_text
from cascade_bids.models.card import ModelCard, StageCard, remedy
from cascade_bids.models.registry import Architecture

NORMALISATION = "z-scores of the brain tissue, without its extreme 2 %"
"""How the images of every method that finds lesions are normalised, in the words of its card."""


def check_weights(card: ModelCard) -> None:
    """Check that all weight files are those of their card.

    Raises
    ------
    StartError
        When a file is missing or damaged.
    """
    for stage in card.stages:
        _read_checked(stage)


def load_network(stage: StageCard, *, device: torch.device, checked: bool = False) -> Architecture:
    """Build the network of a stage and fill it, ready for inference.

    Parameters
    ----------
    stage
        From a card.
    device
        Where the network goes.
    checked
        Whether `check_weights` has checked the file in this run, so that it is not hashed again.

    Returns
    -------
    Architecture
        The network in evaluation mode.

    Raises
    ------
    StartError
        When the weights are missing, damaged, or not those that the card describes.
    """
    content = _read(stage.weights) if checked else _read_checked(stage)
    try:
        network = stage.architecture.create(**stage.arguments)
        network.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise StartError(f"the weights {stage.weights} do not fit their card: {error}") from error
    return network.to(device).eval()


def save_method(
    name: str,
    stages: Sequence[tuple[Architecture, Mapping[str, Any]]],
    entries: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write the weights of all stages and then the card, each file whole or not at all.

    Parameters
    ----------
    name
        Method.
    stages
        Network and its entry in the card (architecture, arguments, candidates) of each stage.
    entries
        All else that the card states.
    folder
        Where to write; made when missing.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When the name is none of a file.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UsageError(
            f"a method can't be called {name!r}, since its files bear the name: use letters, "
            "digits, dots, - and _"
        )
    described = []
    for number, (network, entry) in enumerate(stages, start=1):
        tensors = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
        if network.stored_in_half_precision:
            tensors = {k: v.half() for k, v in tensors.items()}
        content = dump_tensors(tensors)
        file = f"{name}.safetensors" if len(stages) == 1 else f"{name}-stage{number}.safetensors"
        with appearing(folder / file) as part:
            part.write_bytes(content)
        described.append({**entry, "file": file, "sha256": hashlib.sha256(content).hexdigest()})
    text = json.dumps({"name": name, **entries, "stages": described}, indent=2) + "\n"
    return write_text(folder / f"{name}.json", text)


def _read_checked(stage: StageCard) -> bytes:
    content = _read(stage.weights)
    if hashlib.sha256(content).hexdigest() != stage.sha256:
        raise StartError(
            f"the weights {stage.weights} are not those of their card; {remedy(stage.weights)}"
        )
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(
            f"cannot read the weights {path}: {error.strerror}; {remedy(path)}"
        ) from error
