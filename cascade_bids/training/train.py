"""The command `train`: from a labelled dataset to weights."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cascade_bids.config import VERSION
from cascade_bids.files import alone
from cascade_bids.models.brain_extraction import CARD as BRAIN_CARD
from cascade_bids.models.card import MethodCard, load_model_card
from cascade_bids.models.cases import Case
from cascade_bids.models.device import prepare_device
from cascade_bids.models.weights import check_weights
from cascade_bids.training.calibration.calibrate import (
    Calibration,
    fit_calibration,
    fit_uncertainty,
)
from cascade_bids.training.calibration.out_of_fold import (
    SCANS_TO_CALIBRATE,
    Prediction,
    predict_synthetic,
)
from cascade_bids.training.config import TrainConfig, known_before, stage_schedules
from cascade_bids.training.data.prepare import prepare_cases
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sources import (
    describe_generator,
    find_sources,
    start_generator,
)
from cascade_bids.training.stages import count_rounds, save_stages, train_stages
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.work_folder import MINUTES, claim, fingerprint, require_same

log = logging.getLogger(__name__)

SCORES = "scores.json"
"""File of the work folder that a cross-validation leaves for the card of a later training."""


def train_method(config: TrainConfig, name: str, out_dir: Path) -> Path:
    """Train a method on all labelled scans, and write weights and card.

    A cross-validation with the same work folder, and so of the same training, has its scores and
    its calibration written into the card. What too few people leave open, or the lack of a
    cross-validation, is fitted on synthetic scans, for a method that learns from such.

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
    device, cases, generator = start_training(config, recipe, source=config.start_from)
    with show_training("", len(recipe.stages) * count_rounds(generator)):
        stages = train_stages(
            recipe,
            cases,
            config.contrasts,
            config.work_dir / "all",
            schedules=stage_schedules(recipe, config),
            seed=seed,
            device=device,
            generator=generator,
            start=config.load_start(device),
        )
    scores, calibration = _read_scores(config.work_dir / SCORES)
    if generator is not None and recipe.learns_from_synthetic:
        synthetic = predict_synthetic(
            stages,
            generator,
            config.work_dir / "all" / "synthetic",
            combination=recipe.combination,
            seed=seed,
            count=SCANS_TO_CALIBRATE,
        )
        calibration = _calibrate(calibration, synthetic)
    facts = {
        "seed": seed,
        "training_scans": [case.label for case in cases],
        **describe_generator(config, generator),
        "max_minutes": config.max_minutes,
        "cross_validation": scores,
        **(calibration.to_card() if calibration else {}),
    }
    return save_stages(name, stages, recipe, facts, config.contrasts, out_dir)


def _read_scores(path: Path) -> tuple[dict[str, Any] | None, Calibration | None]:
    """Read what a cross-validation left: its scores and its calibration; None without one."""
    if not path.exists():
        return None, None
    scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    entries = scores.pop("calibration", None)
    return scores, entries and Calibration.from_card(entries)


def _calibrate(
    calibration: Calibration | None, synthetic: Sequence[Prediction]
) -> Calibration | None:
    """Fit what a cross-validation didn't, of too few people, on synthetic scans if any."""
    if not synthetic or (calibration and calibration.load_factor is not None):
        return calibration
    return fit_uncertainty(calibration or fit_calibration(synthetic), [[one] for one in synthetic])


def _forget_predictions(work_dir: Path) -> None:
    """Delete what networks predicted that go on learning, and what came of it."""
    (work_dir / SCORES).unlink(missing_ok=True)
    for folder in (
        *work_dir.glob("folds/*/found"),
        *work_dir.glob("folds/*/synthetic"),
        work_dir / "all" / "synthetic",
    ):
        shutil.rmtree(folder, ignore_errors=True)


def _settings(
    config: TrainConfig, recipe: Recipe, source: MethodCard | None, device: torch.device
) -> dict[str, object]:
    """Check the weights that are begun with, and return what tells the training from others."""
    settings: dict[str, object] = {
        "method": config.method,
        "source": source and source.sha256,
        "contrasts": list(config.contrasts),
        MINUTES: config.max_minutes,
        "networks": len(recipe.stages),
        "folder of label maps": config.label_maps_dir and str(config.label_maps_dir),
        "healthy": config.healthy_dir and str(config.healthy_dir),
        "unlabelled": config.unlabelled_dir and str(config.unlabelled_dir),
        "seed": config.preprocess.random_seed,
        "device": device.type,
        "version": VERSION,
    }
    for known in known_before(config, recipe):
        check_weights(known)
        settings[f"weights of {known.name}"] = known.weights_sha256
    return settings


def start_training(
    config: TrainConfig, recipe: Recipe, *, source: MethodCard | None = None
) -> tuple[torch.device, list[Case], ScanGenerator | None]:
    """Choose the device, bring the scans to the network grid, and claim the work folder.

    For a method that learns from synthetic scans, what these are drawn from is gathered too. Their
    lesions are those of the scans, and those of masks in template space whose scans are not there;
    none of a participant who was not named.

    Parameters
    ----------
    config
        What to train on what.
    recipe
        How.
    source
        Card of the method whose weights the training starts from; None from scratch.

    Returns
    -------
    torch.device
        Where to train.
    list of Case
        What to learn from.
    ScanGenerator or None
        Draws scans, for a method that learns from such.

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
    settings = _settings(config, recipe, source, device)
    brain = load_model_card(BRAIN_CARD)
    check_weights(brain)
    sources = find_sources(config)
    with alone(config.work_dir / "preparation.lock"):
        # Before the scans are prepared, since they would take the place of the other training's.
        require_same(config.work_dir, {**settings, **sources.digests()})
        cases = prepare_cases(
            config.datasets,
            config.contrasts,
            optional=recipe.optional,
            preprocess=config.preprocess,
            resources=config.resources,
            work_dir=config.work_dir,
            anatomy=recipe.takes_anatomy,
            brain_card=brain,
            needed=not (recipe.learns_from_synthetic and config.has_synthetic),
        )
        settings["cases"] = {case.label: fingerprint(case) for case in cases}
        settings["contrasts of cases"] = {case.label: list(case.contrasts) for case in cases}
        if claim(config.work_dir, settings):
            log.info("the training goes on for longer; its predictions are made anew")
            _forget_predictions(config.work_dir)
        # Nipype's steps may have set another number of threads.
        prepare_device(config.resources.device, config.resources.omp_nthreads)
        log.info("%d scans to learn from", len(cases))
        generator = None
        if recipe.learns_from_synthetic or (recipe.paints and config.has_synthetic):
            generator = start_generator(config, recipe, cases, sources, brain)
    return device, cases, generator
