"""The command `train`: from a labelled dataset to weights."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cascade_bids.config import VERSION
from cascade_bids.network.device import prepare_device
from cascade_bids.network.weights import (
    check_weights,
    weights_id,
)
from cascade_bids.training.answers import SAMPLES_TO_CALIBRATE, ask_about_samples
from cascade_bids.training.calibration import Calibration, fit_rule, fit_uncertainty
from cascade_bids.training.cascade import count_rounds, save_cascade, train_stages
from cascade_bids.training.cases import Case
from cascade_bids.training.config import TrainConfig, stage_schedules
from cascade_bids.training.engine import Engine
from cascade_bids.training.held_out import HeldOut
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sources import describe_engine, find_sources, start_engine
from cascade_bids.training.work_folder import claim, fingerprint, require_same
from cascade_bids.training.workflow import prepare_cases

log = logging.getLogger(__name__)


SCORES = "scores.json"
"""File of the work folder that a cross-validation leaves for the card of a later training."""


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
        "healthy": config.healthy_dir and str(config.healthy_dir),
        "unlabelled": config.unlabelled_dir and str(config.unlabelled_dir),
        "seed": config.preprocess.random_seed,
        "device": device.type,
        "version": VERSION,
    }
    if recipe.with_context:
        check_weights("context")
        settings["context"] = weights_id("context")
    sources = find_sources(config)
    # Before the scans are prepared, since they would take the place of the other training's.
    require_same(config.work_dir, {**settings, **sources.digests()})
    cases = prepare_cases(
        config.inputs,
        config.contrasts,
        masks_dir=config.masks_dir,
        preprocess=config.preprocess,
        resources=config.resources,
        work_dir=config.work_dir,
        anatomy=recipe.anatomy,
        needed=not config.makes_up_scans,
    )
    # Nipype's steps may have set another number of threads.
    prepare_device(config.resources.device, config.resources.omp_nthreads)
    settings["cases"] = {case.label: fingerprint(case) for case in cases}
    claim(config.work_dir, settings)
    log.info("%d scans to learn from", len(cases))
    engine = start_engine(config, cases, sources) if recipe.from_samples else None
    return device, cases, engine
