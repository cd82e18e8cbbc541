"""Gather what samples are drawn from."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cascade_bids.errors import ScanError, UsageError
from cascade_bids.network.weights import load_card
from cascade_bids.training.cases import Case
from cascade_bids.training.config import TrainConfig, known_participants
from cascade_bids.training.engine import Engine
from cascade_bids.training.heads import Donor, Head, find_maps, load_donors, load_heads
from cascade_bids.training.healthy import HealthyScan, find_healthy, load_healthy
from cascade_bids.training.progress import say
from cascade_bids.training.real import RealScan, prepare_real
from cascade_bids.training.sample import Kind
from cascade_bids.training.work_folder import claim, digest, fingerprint
from cascade_bids.training.workflow import find_unlabelled, prepare_unlabelled

log = logging.getLogger(__name__)

Found = TypeVar("Found")


class Sources(NamedTuple):
    """What was found to draw samples from beside labelled scans; nothing is prepared yet."""

    maps: list[Path]
    """Label maps of heads."""
    healthy: list[HealthyScan]
    unlabelled: list[Case]


def find_sources(config: TrainConfig) -> Sources:
    """Find what samples are drawn from, before anything is prepared, which takes long.

    Raises
    ------
    UsageError
        When a folder that was given holds nothing to take; the message names its option.
    """
    work_dir = config.work_dir / "unlabelled"

    def find(unlabelled: Path) -> list[Case]:
        masks = [folder for folder in (unlabelled, config.masks_dir) if folder]
        return find_unlabelled(unlabelled, config.contrasts, masks_dirs=masks, work_dir=work_dir)

    return Sources(
        _name_option("--heads", find_maps, config.heads_dir),
        _name_option("--healthy", find_healthy, config.healthy_dir),
        _name_option("--unlabelled", find, config.unlabelled_dir),
    )


def _name_option(
    option: str, find: Callable[[Path], list[Found]], folder: Path | None
) -> list[Found]:
    """Find what is in a folder, if one was given; complaints name the option."""
    try:
        return [] if folder is None else find(folder)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def start_engine(config: TrainConfig, cases: Sequence[Case], sources: Sources) -> Engine:
    """Prepare what samples are drawn from, and claim the work folder for it.

    Raises
    ------
    UsageError
        When there is no lesion to paint, or the work folder is another training's.
    StartError, ScanError
        When a scan cannot be prepared, or its T1w shows no tissues.
    """
    say("preparing what samples are drawn from")
    heads: list[Head] = []
    if config.heads_dir:
        heads = load_heads(config.heads_dir, config.work_dir / "heads")
    if sources.healthy:
        say("preparing %d healthy scans", len(sources.healthy))
    healthy = load_healthy(sources.healthy, config.work_dir / "healthy")
    real = [_prepare(case) for case in cases]
    if sources.unlabelled:
        prepare_unlabelled(
            sources.unlabelled,
            resources=config.resources,
            seed=config.preprocess.random_seed,
            work_dir=config.work_dir / "unlabelled",
        )
    others = [replace(_prepare(case), kind=Kind.UNLABELLED) for case in sources.unlabelled]
    donors = _gather_donors(config, real)
    log.info(
        "%d heads, %d healthy scans, %d labelled scans, %d donors",
        *(len(part) for part in (heads, healthy, real, donors)),
    )
    claim(
        config.work_dir,
        {
            "head maps": {path.name: digest(path.read_bytes()) for path in sources.maps},
            "healthy scans": {
                one.label: digest(one.t1w.read_bytes() + one.labels.read_bytes())
                for one in sources.healthy
            },
            "donors of lesions": {
                one.subject: digest(one.mask.numpy().tobytes()) for one in donors
            },
            "unlabelled scans": {case.label: fingerprint(case) for case in sources.unlabelled},
        },
    )
    return Engine(
        config.contrasts, tuple(heads), tuple(donors), tuple(real), tuple(others), tuple(healthy)
    )


def _gather_donors(config: TrainConfig, real: Sequence[RealScan]) -> list[Donor]:
    """Take the lesions of labelled scans, and of masks whose scans are not there."""
    donors = [one.donor for one in real if one.case.lesions.any()]
    known = {donor.subject for donor in donors}
    donors += [
        donor
        for donor in load_donors(config.masks_dir or config.inputs.bids_dir)
        if donor.subject not in known
        and (not config.inputs.participant_labels or donor.subject in config.asked_for)
    ]
    if not donors:
        raise UsageError(
            "there is no lesion to paint: no lesion mask of a scan that can be learned from, and "
            "none in the space of an MNI template"
        )
    return donors


def _prepare(case: Case) -> RealScan:
    try:
        return prepare_real(case)
    except ScanError as error:
        raise ScanError(f"{case.label}: {error}") from error


def describe_engine(config: TrainConfig, engine: Engine | None) -> dict[str, Any]:
    """Say on the card what samples were drawn from, and what the training started with."""
    if engine is None:
        return {}
    facts: dict[str, Any] = engine.describe()
    if config.start_from is not None:
        card = load_card(config.start_from)
        facts |= {"started_from": card["name"], "learned_before": sorted(known_participants(card))}
    return facts
