"""The command `train`: from a labelled dataset to weights."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cascade_bids.config import VERSION, InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.network.cascade import Stage, load_stages
from cascade_bids.network.device import prepare_device
from cascade_bids.network.weights import (
    FIND_LESIONS,
    LEARNED_FROM,
    check_weights,
    load_card,
    weights_id,
)
from cascade_bids.training.answers import SAMPLES_TO_CALIBRATE, ask_about_samples
from cascade_bids.training.calibration import Calibration, fit_rule, fit_uncertainty
from cascade_bids.training.cascade import count_rounds, save_cascade, train_stages
from cascade_bids.training.cases import Case
from cascade_bids.training.engine import Engine
from cascade_bids.training.heads import find_maps, load_donors, load_heads
from cascade_bids.training.held_out import HeldOut
from cascade_bids.training.loop import Schedule
from cascade_bids.training.progress import say, show_training
from cascade_bids.training.real import RealScan, prepare_real
from cascade_bids.training.recipes import Recipe, find_recipe
from cascade_bids.training.sample import Kind
from cascade_bids.training.work_folder import claim, digest, fingerprint, require_same
from cascade_bids.training.workflow import find_unlabelled, prepare_cases, prepare_unlabelled

log = logging.getLogger(__name__)


SCORES = "scores.json"
"""File of the work folder that a cross-validation leaves for the card of a later training."""


@dataclass(frozen=True)
class TrainConfig:
    """What a training was asked to do."""

    inputs: InputConfig
    """Which scans to learn from."""
    method: str
    """Name of a recipe."""
    contrasts: tuple[str, ...]
    """Channels of the networks, in this order."""
    masks_dir: Path | None
    """Where the lesion masks are; the dataset when None."""
    preprocess: PreprocessConfig
    """How scans are brought to the network grid; its seed is that of the training too."""
    resources: ResourceConfig
    """What the training may use; its own work folder counts, not the one in here."""
    work_dir: Path
    """Keeps cases, checkpoints and curves; the same folder continues a broken training."""
    max_minutes: float | None = None
    """Minutes of training for all networks together; None as long as the recipe says."""
    seeds: int | None = None
    """How many networks vote, of a method whose networks do; None for as many as published."""
    heads_dir: Path | None = None
    """Label maps of heads, for a method that learns from scans that are made up."""
    start_from: str | None = None
    """Method or card whose weights the networks start with."""
    unlabelled_dir: Path | None = None
    """Raw scans that nobody labelled, for a method that learns from scans that are changed."""

    @property
    def asked_for(self) -> set[str]:
        """Participants who were named, without ``sub-``."""
        return {label.removeprefix("sub-") for label in self.inputs.participant_labels}

    def find_recipe(self) -> Recipe:
        """Give the recipe of the method, for as many networks as were asked for.

        Raises
        ------
        UsageError
            When there is no such method, or the other options, or the method to start from, don't
            fit it.
        """
        recipe = find_recipe(self.method)
        if self.heads_dir is not None and not recipe.from_samples:
            raise UsageError(f"--heads: {self.method} learns from real scans only; leave it out")
        if self.unlabelled_dir is not None and not recipe.from_samples:
            raise UsageError(f"--unlabelled: {self.method} needs labelled scans; leave it out")
        self._check_start(recipe)
        if recipe.from_samples and "T1w" not in self.contrasts:
            raise UsageError(
                f"--contrasts must name T1w, since {self.method} paints lesions into white matter, "
                "which T1w shows; in use it can do without"
            )
        if self.seeds is None:
            return recipe
        if recipe.combination != "vote":
            raise UsageError(f"--seeds: the networks of {self.method} do not vote; leave it out")
        return replace(recipe, stages=recipe.stages[:1] * self.seeds)

    def _check_start(self, recipe: Recipe) -> None:
        if self.start_from is None:
            return
        if not recipe.from_samples:
            raise UsageError(
                f"--start-from: {self.method} learns from scratch; leave it out, or adapt a method "
                "with cascade-bids finetune"
            )
        card = load_card(self.start_from, task=FIND_LESIONS)
        stages: list[dict[str, Any]] = card["stages"]
        expected = (len(recipe.stages), list(self.contrasts), recipe.architecture)
        # A network at the end that stays as it is does not count.
        kind = stages[0]["architecture"]
        count = sum(stage["architecture"] == kind for stage in stages)
        found = (count, list(card["contrasts"]), kind)
        if found != expected:
            raise UsageError(
                f"--start-from {self.start_from}: {found[0]} stages of {found[2]} on "
                f"{', '.join(found[1])}, where {self.method} has {expected[0]} of {expected[2]} on "
                f"{', '.join(self.contrasts)}"
            )

    def load_start(self, device: torch.device) -> list[Stage]:
        """Load the stages that the training starts with; none if it starts from scratch."""
        return [] if self.start_from is None else load_stages(self.start_from, device=device)


def train_method(config: TrainConfig, name: str, out_dir: Path) -> Path:
    """Train a method on all labelled scans, and write weights and card.

    A cross-validation with the same work folder, and so of the same training, has its scores and
    its rule written into the card. A method that learns from samples has its uncertainty fitted on
    samples, and without a cross-validation its rule too; without heads it is left as it is.

    Parameters
    ----------
    config
        What to train on what.
    name
        What the trained method is to be called.
    out_dir
        Where weights and card go.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When there is nothing to learn from, or the work folder is another training's.
    StartError
        When a scan cannot be prepared.
    ScanError
        When the T1w of a scan shows no tissues.
    """
    recipe = config.find_recipe()
    seed = config.preprocess.random_seed
    device, cases, engine = start_training(config, recipe, source=config.start_from)
    with show_training("", len(recipe.stages) * count_rounds(engine)):
        stages = train_stages(
            recipe,
            cases,
            config.contrasts,
            config.work_dir / "all",
            schedules=stage_schedules(recipe, config),
            seed=seed,
            device=device,
            engine=engine,
            start=config.load_start(device),
        )
    scores, rule = _read_scores(config.work_dir / SCORES)
    calibration = None
    if engine is not None:
        samples = ask_about_samples(
            stages,
            engine,
            config.work_dir / "all" / "samples",
            combination=recipe.combination,
            seed=seed,
            count=SAMPLES_TO_CALIBRATE,
        )
        calibration = _calibrate(rule, samples)
    facts = {
        "seed": seed,
        "training_scans": [case.label for case in cases],
        **describe_engine(config, engine),
        "max_minutes": config.max_minutes,
        "cross_validation": scores,
        **(calibration.to_card() if calibration else {}),
    }
    return save_cascade(name, stages, recipe, facts, config.contrasts, out_dir)


def _read_scores(path: Path) -> tuple[dict[str, Any] | None, Calibration | None]:
    """Read what a cross-validation left, None where there is none: its scores and its rule."""
    if not path.exists():
        return None, None
    scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rule = scores.pop("calibration", None)
    return scores, rule and Calibration(**rule)


def _calibrate(rule: Calibration | None, samples: Sequence[HeldOut]) -> Calibration | None:
    """Fit what a cross-validation didn't on samples, if there are any."""
    return fit_uncertainty(rule or fit_rule(samples), samples) if samples else rule


def start_training(
    config: TrainConfig, recipe: Recipe, *, source: str | None = None
) -> tuple[torch.device, list[Case], Engine | None]:
    """Choose the device, bring the scans to the network grid, and claim the work folder.

    For a method that learns from samples, what these are drawn from is gathered too. Their lesions
    are those of the scans, and those of masks in template space whose scans are not there; none of
    a participant who was not asked for.

    Parameters
    ----------
    config
        What to train on what.
    recipe
        How.
    source
        Method or card whose weights the training starts from; None from scratch.

    Returns
    -------
    torch.device
        Where to train.
    list of Case
        What to learn from.
    Engine or None
        Draws the samples, of a method that learns from such.

    Raises
    ------
    UsageError
        When there is nothing to learn from, or no lesion to paint, or the work folder is another
        training's.
    StartError
        When a scan cannot be prepared.
    ScanError
        When the T1w of a scan shows no tissues.
    """
    device = prepare_device(config.resources.device, config.resources.omp_nthreads)
    settings: dict[str, object] = {
        "method": config.method,
        "source": source and weights_id(source),
        "contrasts": list(config.contrasts),
        "max_minutes": config.max_minutes,
        "networks": len(recipe.stages),
        "heads": config.heads_dir and str(config.heads_dir),
        "unlabelled": config.unlabelled_dir and str(config.unlabelled_dir),
        "seed": config.preprocess.random_seed,
        "device": device.type,
        "version": VERSION,
    }
    if recipe.with_context:
        check_weights("context")
        settings["context"] = weights_id("context")
    unlabelled = _find_sources(config)
    # Before the scans are prepared, since they would take the place of the other training's.
    require_same(config.work_dir, settings)
    cases = prepare_cases(
        config.inputs,
        config.contrasts,
        masks_dir=config.masks_dir,
        preprocess=config.preprocess,
        resources=config.resources,
        work_dir=config.work_dir,
        anatomy=recipe.anatomy,
        needed=config.heads_dir is None,
    )
    # Nipype's steps may have set another number of threads.
    prepare_device(config.resources.device, config.resources.omp_nthreads)
    settings["cases"] = {case.label: fingerprint(case) for case in cases}
    claim(config.work_dir, settings)
    log.info("%d scans to learn from", len(cases))
    engine = _start_engine(config, cases, unlabelled) if recipe.from_samples else None
    return device, cases, engine


def _start_engine(config: TrainConfig, cases: Sequence[Case], unlabelled: Sequence[Case]) -> Engine:
    """Gather what samples are drawn from."""
    say("preparing what samples are drawn from")
    maps, heads = [], []
    if config.heads_dir:
        maps = find_maps(config.heads_dir)
        heads = load_heads(config.heads_dir, config.work_dir / "heads")
    real = [_prepare(case) for case in cases]
    if unlabelled:
        prepare_unlabelled(
            unlabelled,
            resources=config.resources,
            seed=config.preprocess.random_seed,
            work_dir=config.work_dir / "unlabelled",
        )
    others = [replace(_prepare(case), kind=Kind.UNLABELLED) for case in unlabelled]
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
    log.info("%d heads, %d labelled scans, %d donors", len(heads), len(real), len(donors))
    claim(
        config.work_dir,
        {
            "head maps": {path.name: digest(path.read_bytes()) for path in maps},
            "donors of lesions": {
                one.subject: digest(one.mask.numpy().tobytes()) for one in donors
            },
            "unlabelled scans": {case.label: fingerprint(case) for case in unlabelled},
        },
    )
    return Engine(config.contrasts, tuple(heads), tuple(donors), tuple(real), tuple(others))


def _find_sources(config: TrainConfig) -> list[Case]:
    """Find the unlabelled scans, not prepared yet; complain of folders that hold nothing to take.

    It is done before anything is prepared, which takes long.
    """
    option = "--heads"
    try:
        if config.heads_dir is not None:
            find_maps(config.heads_dir)
        if config.unlabelled_dir is None:
            return []
        option = "--unlabelled"
        return find_unlabelled(
            config.unlabelled_dir,
            config.contrasts,
            masks_dirs=[folder for folder in (config.unlabelled_dir, config.masks_dir) if folder],
            work_dir=config.work_dir / "unlabelled",
        )
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


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


def known_before(config: TrainConfig) -> dict[str, set[str]]:
    """Name the participants whom weights know that a training begins or ends with, by card."""
    cards = ["context"] if config.find_recipe().with_context else []
    if config.start_from is not None:
        cards.append(config.start_from)
    return {name: known_participants(load_card(name)) for name in cards}


def known_participants(card: Mapping[str, Any]) -> set[str]:
    """Name the participants whom weights have learned from, themselves or those before them."""
    lists = (card.get(name, []) for name in LEARNED_FROM)
    return {label.split("_")[0] for labels in lists for label in labels}


def stage_schedules(recipe: Recipe, config: TrainConfig) -> list[Schedule]:
    """Share the minutes among the stages."""
    if config.max_minutes is None:
        return [recipe.schedule] * len(recipe.stages)
    minutes = config.max_minutes / len(recipe.stages)
    return [replace(recipe.schedule, max_minutes=minutes)] * len(recipe.stages)
