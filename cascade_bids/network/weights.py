"""Weights on disk: safetensors with a JSON card; nothing is unpickled or downloaded.

A card names the method, the contrasts that it takes, how its images were normalised, and its
stages, each with the file of its weights, their SHA-256 and the architecture that they fill.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import nn

from cascade_bids.errors import StartError, UsageError
from cascade_bids.files import appearing
from cascade_bids.network.architectures import ARCHITECTURES
from cascade_bids.network.cards import check_rules, check_stages
from cascade_bids.network.context import ContextNetwork

WEIGHTS_DIR = Path(str(files("cascade_bids") / "data" / "weights"))
"""Folder of the weights that come with the product."""


FIND_LESIONS = "lesion segmentation"
"""Task on the card of every method that finds lesions."""

LEARNED_FROM = (
    "training_scans",
    "unlabelled_scans",
    "healthy_scans",
    "lesion_donors",
    "learned_before",
)
"""Entries of a card that name participants."""

NORMALISATION = "z-scores of the brain tissue, without its extreme 2 %"
"""How the images of every method that finds lesions are normalised, in the words of its card."""


def load_card(name: str, folder: Path = WEIGHTS_DIR, *, task: str | None = None) -> dict[str, Any]:
    """Read the card of a method.

    Parameters
    ----------
    name
        Method, for example ``valverde2017``, or the path of a card (``….json``) anywhere.
    folder
        Where cards and weights lie, unless `name` is a path.
    task
        What it must be for, if that matters.

    Returns
    -------
    dict
        The card.

    Raises
    ------
    UsageError
        When there is no such card for the task; the message lists those that there are.
    StartError
        When it cannot be read, or lacks something or says what makes no sense.
    """
    is_path = name.endswith(".json")
    name, folder = _locate(name, folder)
    path = folder / f"{name}.json"
    if path.exists():
        card = _read_card(path)
        if task in (None, card.get("task")):
            check_stages(card, path)
            if task == FIND_LESIONS:
                check_rules(card, path)
            return card
    elif is_path:
        raise UsageError(f"there is no card {path}")
    cards = {path.stem: _read_card(path) for path in sorted(folder.glob("*.json"))}
    known = [name for name, card in cards.items() if task in (None, card.get("task"))]
    raise UsageError(f"no method named {name!r} in {folder}; there are: {', '.join(known)}")


def _locate(name: str, folder: Path) -> tuple[str, Path]:
    """Tell name and folder of a method that may be given by the path of its card."""
    return (Path(name).stem, Path(name).parent) if name.endswith(".json") else (name, folder)


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"the card {path} is damaged ({error}); {_mend(path)}") from error
    if not isinstance(card, dict):
        raise StartError(f"{path} is no card of a method: it holds no names with values")
    return card


def weights_id(name: str, folder: Path = WEIGHTS_DIR) -> str:
    """Give one SHA-256 for the stages of a method: their weights, and how these are used.

    Raises
    ------
    UsageError
        When there is no such method.
    """
    # Where the files lie does not matter.
    stages = [{**stage, "file": None} for stage in load_card(name, folder)["stages"]]
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()


def check_weights(name: str, folder: Path = WEIGHTS_DIR) -> None:
    """Check before a run that all weight files of a method are those of its card.

    Raises
    ------
    StartError
        When a file is missing or damaged.
    UsageError
        When there is no such method.
    """
    card = load_card(name, folder)
    folder = _locate(name, folder)[1]
    for entry in card["stages"]:
        _read_weights(folder / entry["file"], entry["sha256"])


def load_network(
    name: str, stage: int = 0, *, device: torch.device, folder: Path = WEIGHTS_DIR
) -> nn.Module:
    """Build one stage's network and fill it, ready for inference.

    Parameters
    ----------
    name
        Method.
    stage
        Which stage of its card.
    device
        Where the network goes.
    folder
        Where cards and weights lie.

    Returns
    -------
    torch.nn.Module
        The network in evaluation mode.

    Raises
    ------
    StartError
        When the weights are missing, damaged, or not those that the card describes.
    """
    entry = load_card(name, folder)["stages"][stage]
    path = _locate(name, folder)[1] / entry["file"]
    content = _read_weights(path, entry["sha256"])
    try:
        network = ARCHITECTURES[entry["architecture"]](**entry["arguments"])
        network.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise StartError(f"the weights {path} do not fit their card: {error}") from error
    return network.to(device).eval()


def save_method(
    name: str,
    stages: Sequence[tuple[nn.Module, Mapping[str, Any]]],
    card: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write the weights of all stages and then the card, each file whole or not at all.

    Parameters
    ----------
    name
        Method.
    stages
        Network and its entry in the card (architecture, arguments, rules) of each stage.
    card
        All else that the card says.
    folder
        Where to write; made when missing.

    Returns
    -------
    Path
        The card.
    """
    entries = []
    for number, (network, entry) in enumerate(stages, start=1):
        tensors = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
        if isinstance(network, ContextNetwork):
            # Half the size, and its logits change by less than they are uncertain by far.
            tensors = {k: v.half() for k, v in tensors.items()}
        content = dump_tensors(tensors)
        file = f"{name}.safetensors" if len(stages) == 1 else f"{name}-stage{number}.safetensors"
        with appearing(folder / file) as part:
            part.write_bytes(content)
        entries.append({**entry, "file": file, "sha256": hashlib.sha256(content).hexdigest()})
    text = json.dumps({"name": name, **card, "stages": entries}, indent=2) + "\n"
    path = folder / f"{name}.json"
    with appearing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _read_weights(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartError(
            f"cannot read the weights {path}: {error.strerror}; {_mend(path)}"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StartError(f"the weights {path} are not those of their card; {_mend(path)}")
    return content


def _mend(path: Path) -> str:
    """Say what to do about a damaged file."""
    ours = path.parent == WEIGHTS_DIR
    return "reinstall" if ours else "copy the card and all its weights again"
