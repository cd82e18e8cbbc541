"""Cards: what a method or model is, read from JSON once and passed on as one frozen object.

A card names the method, the contrasts that it takes, how its images were normalised, its operating
point, and its stages, each with the file of its weights, their SHA-256 and the architecture.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from cascade_bids.errors import StartError, UsageError
from cascade_bids.files import write_text
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.card_checks import (
    KNOWN,
    LABEL_MAPS,
    NEEDED,
    OPTIONAL,
    PARTICIPANTS,
    STAGE,
    are_limits,
    check_entries,
    refuse_unknown,
)
from cascade_bids.models.members import Member, make_members, split_stages
from cascade_bids.models.network import CandidateRule, LesionNetwork
from cascade_bids.models.registry import ARCHITECTURES, Architecture, find_architecture

WEIGHTS_DIR = Path(str(files("cascade_bids") / "data" / "weights"))
"""Folder of the cards and weights that come with the program."""

FIND_LESIONS = "lesion segmentation"
"""Task on the card of every method that finds lesions."""


@dataclass(frozen=True)
class StageCard:
    """One network of a model."""

    architecture: type[Architecture]
    """Class of the network."""
    arguments: Mapping[str, Any]
    """What it is built with."""
    candidates: CandidateRule | None
    """Which voxels it classifies; None for networks that find no lesions."""
    weights: Path
    """File of its weights, safetensors."""
    sha256: str
    """Of that file."""

    def entry(self) -> dict[str, Any]:
        """Return the stage as it stands in a card, without its weights."""
        entry = {
            "architecture": self.architecture.card_name,
            "arguments": dict(self.arguments),
        }
        return (
            entry
            if self.candidates is None
            else {**entry, "candidates": self.candidates.to_entry()}
        )


@dataclass(frozen=True, repr=False)
class ModelCard:
    """What every card states."""

    name: str
    """Name of the model."""
    task: str
    """What it is for."""
    path: Path
    """File of the card."""
    text: str
    """The whole card, JSON."""
    contrasts: tuple[str, ...]
    """Channels of the networks, in this order; none for a model that takes any contrast."""
    stages: tuple[StageCard, ...]
    """First to last."""
    participants: frozenset[str]
    """Participants, with ``sub-``, that the weights have learned from, themselves or before."""

    def __repr__(self) -> str:
        # Nipype hashes what is passed to a step by its text.
        return f"{type(self).__name__}({self.name!r}, sha256={self.sha256!r})"

    @property
    def sha256(self) -> str:
        """Of the whole content; the order and layout of the entries do not matter."""
        return _hash(self.entries())

    @property
    def weights_sha256(self) -> str:
        """One SHA-256 for the weights of all stages and how these are used."""
        # Where the files lie does not matter.
        return _hash([{**stage, "file": None} for stage in self.entries()["stages"]])

    @property
    def is_shipped(self) -> bool:
        """Whether the card came with the program."""
        return self.path.parent == WEIGHTS_DIR

    def entries(self) -> dict[str, Any]:
        """Return all entries, as JSON has them; every call returns new ones."""
        content: dict[str, Any] = json.loads(self.text)
        return content


@dataclass(frozen=True, repr=False)
class MethodCard(ModelCard):
    """The card of a method that finds lesions."""

    source: str
    """Where it was published, or what it comes from."""
    optional: tuple[str, ...]
    """Contrasts that a scan may lack."""
    members: tuple[Member, ...]
    """Whose stages they are, in this order; of several the weighted mean of the maps is taken."""
    takes_anatomy: bool
    """Whether the networks take anatomical coordinates behind the contrasts."""
    has_spheres: bool
    """Whether the networks have a sphere head."""
    operating_point: OperatingPoint
    """What makes lesions of probabilities."""
    temperature: float
    """What the logits are divided by, see `probabilities.scale_temperature`."""
    load_factor: float | None
    """For the interval of the load, see `lesions.uncertainty.load_interval_ml`."""
    confidence: tuple[float, float, float] | None
    """For the confidence of lesions, see `lesions.uncertainty.lesion_confidence`."""
    learned_from: Mapping[str, tuple[str, ...]]
    """Entries of `PARTICIPANTS` and `LABEL_MAPS` to the names that they hold."""

    @property
    def networks(self) -> tuple[type[LesionNetwork], ...]:
        """Classes of the networks, one for each stage."""
        return tuple(
            stage.architecture
            for stage in self.stages
            if issubclass(stage.architecture, LesionNetwork)
        )

    def split(self) -> list["MethodCard"]:
        """Return the card of each member alone."""
        parts = zip(self.members, split_stages(self.members, self.stages), strict=True)
        return [replace(self, stages=own, members=(member,)) for member, own in parts]

    def count_stages(self, architecture: type[Architecture]) -> int:
        """Return how many stages are networks of an architecture."""
        return sum(stage.architecture is architecture for stage in self.stages)


@dataclass(frozen=True)
class Cards:
    """Everything that a run learns from cards, read once."""

    method: MethodCard
    """Of the method that finds lesions."""
    brain: ModelCard
    """Of the brain extraction."""


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_card(name: str, folder: Path = WEIGHTS_DIR) -> MethodCard:
    """Load the card of a method that finds lesions.

    Parameters
    ----------
    name
        Method, for example ``valverde2017``, or the path of a card (``….json``) anywhere.
    folder
        Where cards and weights lie, unless `name` is a path.

    Returns
    -------
    MethodCard
        The validated card.

    Raises
    ------
    UsageError
        When there is no such method; the message lists those that there are.
    StartError
        When the card cannot be read, lacks an entry, or holds an entry that is unknown or wrong.
    """
    path = _locate(name, folder, FIND_LESIONS)
    entries, text = _read(path)
    if "task" not in entries:
        refuse_unknown(path, entries, KNOWN)
        raise StartError(f"the card {path} has no task: it must be {FIND_LESIONS!r}")
    if entries["task"] != FIND_LESIONS:
        raise _no_method(name, path.parent, FIND_LESIONS)
    return _make_method(path, entries, text)


def load_model_card(name: str, folder: Path = WEIGHTS_DIR) -> ModelCard:
    """Load the card of a model of any task; parameters and errors as of `load_card`."""
    path = _locate(name, folder, None)
    entries, text = _read(path)
    if entries.get("task") == FIND_LESIONS:
        return _make_method(path, entries, text)
    return ModelCard(**_base_fields(path, entries, text))


def rewrite_card(path: Path, changes: Mapping[str, Any]) -> None:
    """Write a card anew with some entries changed, whole or not at all."""
    entries, _ = _read(path)
    write_text(path, json.dumps({**entries, **changes}, indent=2) + "\n")


def _locate(name: str, folder: Path, task: str | None) -> Path:
    path = Path(name).expanduser() if name.endswith(".json") else folder / f"{name}.json"
    if path.is_file():
        return path
    if name.endswith(".json"):
        raise UsageError(f"there is no card {path}")
    raise _no_method(name, folder, task)


def _no_method(name: str, folder: Path, task: str | None) -> UsageError:
    """Return the error that lists the methods of a task, of any if it is None."""
    known = []
    for path in sorted(folder.glob("*.json")):
        with suppress(StartError):  # other files in the folder don't matter
            if task in (None, _read(path)[0].get("task")):
                known.append(path.stem)
    return UsageError(f"no method named {name!r} in {folder}; there are: {', '.join(known)}")


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise StartError(f"the card {path} is damaged ({error}); {remedy(path)}") from error
    if not isinstance(entries, dict):
        raise StartError(f"{path} is no card of a method: it holds no names with values")
    return entries, text


def remedy(path: Path) -> str:
    """Return what to do about a damaged card or weight file."""
    ours = path.parent == WEIGHTS_DIR
    return "reinstall" if ours else "copy the card and all its weights again"


def _make_method(path: Path, entries: Mapping[str, Any], text: str) -> MethodCard:
    refuse_unknown(path, entries, KNOWN)
    check_entries(path, entries, NEEDED)
    check_entries(path, entries, {k: v for k, v in OPTIONAL.items() if k in entries})
    base = _base_fields(path, entries, text)
    members = make_members(path, entries, base["name"], len(base["stages"]))
    for number, stage in enumerate(base["stages"], start=1):
        if stage.candidates is None:
            raise StartError(
                f"the card {path} has no candidates of stage {number}: they must hold numbers for "
                f"{', '.join(CandidateRule.__dataclass_fields__)}, or nothing"
            )
        if not issubclass(stage.architecture, LesionNetwork):
            raise StartError(
                f"the card {path}: architecture of stage {number} is "
                f"{stage.architecture.card_name!r}, which finds no lesions"
            )
        _check_arguments(path, entries, stage.arguments, number)
    confidence = entries.get("confidence")
    threshold = entries["threshold"]
    return MethodCard(
        **base,
        source=entries.get("source", ""),
        optional=tuple(entries.get("optional", ())),
        members=members,
        takes_anatomy=entries.get("anatomy", False),
        has_spheres=entries.get("sphere_head", False),
        operating_point=OperatingPoint(
            threshold, entries["min_lesion_mm3"], float(entries.get("peak", threshold))
        ),
        temperature=entries.get("temperature", 1.0),
        load_factor=entries.get("load_factor"),
        confidence=None if confidence is None else (confidence[0], confidence[1], confidence[2]),
        learned_from={name: tuple(entries.get(name, ())) for name in (*PARTICIPANTS, *LABEL_MAPS)},
    )


def _check_arguments(
    path: Path, entries: Mapping[str, Any], arguments: Mapping[str, Any], number: int
) -> None:
    """Check that a network is built for the input and output that the card states."""
    expected = {
        "channels_in": len(entries["contrasts"]),
        "anatomy": entries.get("anatomy", False),
        "spheres": entries.get("sphere_head", False),
    }
    for name, right in expected.items():
        if name in arguments and arguments[name] != right:
            raise StartError(
                f"the card {path}: {name} of stage {number} is {arguments[name]!r}, and must be "
                f"{right!r} by the card's contrasts, anatomy and sphere_head"
            )


_AS_WRITTEN = "take the card as it was written"


def _base_fields(path: Path, entries: Mapping[str, Any], text: str) -> dict[str, Any]:
    stages = entries.get("stages")
    if not isinstance(stages, list) or not stages:
        raise StartError(f"the card {path} has no stages: {_AS_WRITTEN}")
    contrasts = entries.get("contrasts", ())
    named = [label for name in PARTICIPANTS for label in entries.get(name, ())]
    return {
        # Of the method as it was saved, also where the file was renamed.
        "name": str(entries.get("name", path.stem)),
        "task": str(entries.get("task", "")),
        "path": path,
        "text": text,
        "contrasts": tuple(contrasts) if isinstance(contrasts, list) else (),
        "stages": tuple(
            _make_stage(path, stage, number) for number, stage in enumerate(stages, start=1)
        ),
        "participants": frozenset(_participant(label) for label in named),
    }


def _participant(label: str) -> str:
    """Return whose scan it is, in its dataset if that is named."""
    source, slash, own = label.rpartition("/")
    return source + slash + own.split("_")[0]


def _make_stage(path: Path, entry: Any, number: int) -> StageCard:
    where = f" of stage {number}"
    if not isinstance(entry, dict):
        raise StartError(f"the card {path}: stage {number} holds no names with values")
    refuse_unknown(path, entry, {*STAGE, "candidates"}, where)
    check_entries(path, entry, STAGE, where)
    try:
        architecture = find_architecture(entry["architecture"])
    except KeyError as error:
        raise StartError(
            f"the card {path}: architecture{where} is {entry['architecture']!r}, and must be one "
            f"of {', '.join(sorted(ARCHITECTURES))}"
        ) from error
    rule = None
    if "candidates" in entry:
        limits, known = entry["candidates"], tuple(CandidateRule.__dataclass_fields__)
        if not are_limits(limits, known):
            raise StartError(
                f"the card {path}: candidates{where} is {limits!r}, and must hold nothing but "
                f"numbers for {', '.join(known)}"
            )
        rule = CandidateRule(**limits)
    return StageCard(
        architecture, entry["arguments"], rule, path.parent / entry["file"], entry["sha256"]
    )
