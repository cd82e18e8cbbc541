"""Gather what the scan generator draws from."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from cascade_bids.bids.scan import name_participant
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.models.card import ModelCard
from cascade_bids.models.cases import Case
from cascade_bids.models.training_data import ScanKind
from cascade_bids.training.config import TrainConfig
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.data.donors import Donor, load_donors
from cascade_bids.training.data.healthy import (
    HealthyScan,
    check_healthy,
    find_healthy,
    load_healthy,
)
from cascade_bids.training.data.label_maps import find_label_maps, load_label_maps
from cascade_bids.training.data.prepare import find_unlabelled, prepare_unlabelled
from cascade_bids.training.progress import announce
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.synthesis.painted_scans import paint_scans
from cascade_bids.training.synthesis.real_scans import RealScan, prepare_real
from cascade_bids.training.work_folder import claim, digest, digest_files, fingerprint

log = logging.getLogger(__name__)


class Sources(NamedTuple):
    """What was found to draw scans from beside labelled scans; nothing is prepared yet."""

    maps: list[Path]
    """Label maps of heads."""
    healthy: list[HealthyScan]
    unlabelled: list[Case]

    def digests(self) -> dict[str, dict[str, str]]:
        """Return digests of the files that anatomies are made of."""
        return {
            "label maps": {path.name: digest_files([path]) for path in self.maps},
            "healthy scans": {
                one.label: digest_files([one.t1w, one.labels]) for one in self.healthy
            },
        }


def find_sources(config: TrainConfig) -> Sources:
    """Find what scans are drawn from, before anything is prepared, which takes long.

    Raises
    ------
    UsageError
        When a folder that was given holds nothing to take; the message names its option.
    StartError
        When a healthy scan cannot be used.
    """
    maps: list[Path] = []
    healthy: list[HealthyScan] = []
    unlabelled: list[Case] = []
    if config.label_maps_dir is not None:
        with _named("--label-maps"):
            maps = find_label_maps(config.label_maps_dir)
    if config.healthy_dir is not None:
        with _named("--healthy"):
            healthy = _leave_out_patients(find_healthy(config.healthy_dir), config)
        check_healthy(healthy)
    if config.unlabelled_dir is not None:
        with _named("--unlabelled"):
            unlabelled = find_unlabelled(
                config.unlabelled_dir,
                config.contrasts,
                masks_dirs=[config.unlabelled_dir, *(one.masks_dir for one in config.datasets)],
                work_dir=_prepared(config) / "unlabelled",
            )
    return Sources(maps, healthy, unlabelled)


@contextmanager
def _named(option: str) -> Iterator[None]:
    """Add the name of an option to errors."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def _prepared(config: TrainConfig) -> Path:
    """Return the folder of what is prepared, which no input has the name of."""
    return config.work_dir / "prepared"


def _leave_out_patients(scans: Sequence[HealthyScan], config: TrainConfig) -> list[HealthyScan]:
    """Leave out participants of whom there is a lesion mask, healthy or not: they are labelled."""
    folders = {config.healthy_dir, *(one.masks_dir for one in config.datasets)}
    masks = chain.from_iterable(
        folder.rglob("sub-*_label-lesion_mask.nii*") for folder in folders if folder
    )
    patients = {mask.name.split("_")[0] for mask in masks}
    healthy = [one for one in scans if one.label.split("_")[0] not in patients]
    if len(healthy) < len(scans):
        left_out = sorted({one.label.split("_")[0] for one in scans} & patients)
        log.warning("of %s there is a lesion mask; not taken for healthy", ", ".join(left_out))
    if not healthy:
        raise UsageError("there is a lesion mask of everyone in it")
    return healthy


def start_generator(
    config: TrainConfig,
    recipe: Recipe,
    cases: Sequence[Case],
    sources: Sources,
    brain_card: ModelCard,
) -> ScanGenerator:
    """Prepare what scans are drawn from, claim the work folder for it, and paint if that is due.

    Raises
    ------
    UsageError
        When there is no lesion to paint, or the work folder is another training's.
    StartError, ScanError
        When a scan cannot be prepared, or its T1w shows no tissues.
    """
    announce("preparing what scans are drawn from")
    folder, resources = _prepared(config), config.resources
    anatomies = (
        load_label_maps(config.label_maps_dir, folder / "label-maps")
        if config.label_maps_dir
        else []
    )
    if sources.healthy:
        announce("preparing healthy scans (%d), a minute or two each", len(sources.healthy))
    anatomies += load_healthy(sources.healthy, folder / "healthy", nprocs=resources.nprocs)
    # Only methods that can do without have scans without a T1w.
    real = [_prepare(case) for case in cases if "T1w" in case.contrasts]
    if sources.unlabelled:
        prepare_unlabelled(
            sources.unlabelled,
            resources=resources,
            brain_card=brain_card,
            seed=config.preprocess.random_seed,
            work_dir=folder / "unlabelled",
        )
    others = [replace(_prepare(case), kind=ScanKind.UNLABELLED) for case in sources.unlabelled]
    donors = _gather_donors(config, real)
    log.info("%d anatomies, %d labelled scans, %d donors", len(anatomies), len(real), len(donors))
    claim(
        config.work_dir,
        {
            **sources.digests(),
            "donors of lesions": {
                one.participant: digest(one.mask.numpy().tobytes()) for one in donors
            },
            "unlabelled scans": {case.label: fingerprint(case) for case in sources.unlabelled},
        },
    )
    generator = ScanGenerator(
        config.contrasts, tuple(anatomies), tuple(donors), tuple(real), tuple(others)
    )
    if not recipe.paints:
        return generator
    return paint_scans(generator, cases, folder / "painted", config.preprocess.random_seed)


def _share_masks(
    config: TrainConfig, dataset: LabelledDataset, real: Sequence[RealScan]
) -> set[str]:
    """Return whose masks would be taken for the dataset's, but are of one with the same folder."""
    others = {
        other.source
        for other in config.datasets
        if other.masks_dir.is_relative_to(dataset.masks_dir)
        or dataset.masks_dir.is_relative_to(other.masks_dir)
    } - {dataset.source}
    return {
        name_participant(dataset.source, one.case.scan.subject)
        for one in real
        if one.case.source in others
    }


def _gather_donors(config: TrainConfig, real: Sequence[RealScan]) -> list[Donor]:
    """Return the lesions of labelled scans, and of masks whose scans are not there."""
    donors = [one.donor for one in real if one.case.lesions.any()]
    known = {donor.participant for donor in donors}
    for dataset in config.datasets:
        foreign = _share_masks(config, dataset, real)
        donors += [
            donor for donor in load_donors(dataset) if donor.participant not in known | foreign
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


def describe_generator(config: TrainConfig, generator: ScanGenerator | None) -> dict[str, Any]:
    """Return what the card states of what was drawn from and what the training began with."""
    facts: dict[str, Any] = generator.describe() if generator else {}
    if config.start_from is not None:
        card = config.start_from
        facts |= {"started_from": card.name, "learned_before": sorted(card.participants)}
    return facts
