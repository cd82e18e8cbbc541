"""Train the stages of a method one after the other, and save them as weights and card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cascade_bids.config import VERSION
from cascade_bids.models.card import FIND_LESIONS
from cascade_bids.models.cases import Case
from cascade_bids.models.predict import Stage
from cascade_bids.models.weights import NORMALISATION, save_method
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.stage_data import StageData
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.synthesis.ignore_mask import find_ignore_masks


@dataclass(frozen=True)
class _Training:
    """What the rounds of a training have in common; see `train_stages`."""

    recipe: Recipe
    cases: Sequence[Case]
    contrasts: Sequence[str]
    schedules: Sequence[Schedule]
    seed: int
    device: torch.device
    again: bool = False
    """Whether it is the second round, which draws other scans."""


def train_stages(
    recipe: Recipe,
    cases: Sequence[Case],
    contrasts: Sequence[str],
    work_dir: Path,
    *,
    schedules: Sequence[Schedule],
    seed: int,
    device: torch.device,
    generator: ScanGenerator | None = None,
    start: Sequence[Stage] = (),
) -> list[Stage]:
    """Train a method.

    Parameters
    ----------
    recipe
        The method.
    cases
        Scans to learn from.
    contrasts
        What the networks take, in this order.
    work_dir
        Checkpoints and curves of each stage; the same folder continues a broken training.
    schedules
        How long each stage is trained.
    seed
        Of first weights, drawn voxels and augmentation.
    device
        Where the networks are trained.
    generator
        Draws scans, for a method that learns from such. With unlabelled scans there is a second
        round, which learns from these too; the weights are the mean of those after both rounds.
    start
        Stages of the same method that were trained before, whose weights these start with.

    Returns
    -------
    list of Stage
        In evaluation mode, on `device`.

    Raises
    ------
    UsageError
        When a stage finds nothing of the lesions, so that the next has nothing to learn from.
    """
    rounds = count_rounds(generator)
    shared = [
        replace(one, max_minutes=one.max_minutes and one.max_minutes / rounds) for one in schedules
    ]
    training = _Training(recipe, cases, contrasts, shared, seed, device)
    if generator is None or rounds == 1:
        return _train_round(training, work_dir, generator, start)
    # The first round finds what may be a lesion in scans that nobody labelled.
    first = _train_round(training, work_dir, replace(generator, unlabelled=()), start)
    folder = work_dir / "unlabelled"
    masked = find_ignore_masks(generator.unlabelled, first, contrasts, recipe.combination, folder)
    known = replace(generator, unlabelled=tuple(masked))
    second = _train_round(replace(training, again=True), folder, known, first)
    for before, after in zip(first, second, strict=True):
        _average_weights(before.network, after.network)
    return second


def _average_weights(before: nn.Module, after: nn.Module) -> None:
    """Set the weights of a network to the mean of those before and after it went on learning [1]_.

    References
    ----------
    .. [1] Wortsman et al. Robust fine-tuning of zero-shot models. CVPR 2022.
       arXiv 2109.01903
    """
    with torch.no_grad():
        for old, new in zip(before.parameters(), after.parameters(), strict=True):
            new.lerp_(old, 0.5)


def count_rounds(generator: ScanGenerator | None) -> int:
    """Return how often each stage is trained: twice if there are unlabelled scans."""
    return 2 if generator is not None and generator.unlabelled else 1


def _train_round(
    training: _Training,
    work_dir: Path,
    generator: ScanGenerator | None,
    start: Sequence[Stage],
) -> list[Stage]:
    """Train each stage once; as of `train_stages`."""
    recipe, contrasts, device = training.recipe, training.contrasts, training.device
    stages: list[Stage] = []
    steps = zip(recipe.stages, training.schedules, strict=True)
    for number, (stage, schedule) in enumerate(steps, start=1):
        # Far enough from the next seed that no network has the seed of another training's.
        own_seed = 1000 * training.seed + 500 * training.again + number
        data = StageData(
            stage=number,
            recipe=recipe,
            cases=training.cases,
            contrasts=contrasts,
            learn=stage.learn,
            before=tuple(stages),
            folder=work_dir / f"stage{number}",
            schedule=_gentler(schedule) if start else schedule,
            seed=own_seed,
            device=device,
            generator=generator,
            start=start[number - 1].network if start else None,
        )
        torch.manual_seed(own_seed)
        network = recipe.architecture.build(data, channels_in=len(contrasts), **recipe.arguments)
        network.to(device)
        network.fit(data)
        stages.append(Stage(network, stage.use))
    if recipe.ending is not None:
        stages.append(Stage(recipe.ending.load(contrasts, device), recipe.ending.use))
    return stages


def _gentler(schedule: Schedule) -> Schedule:
    """Halve the learning rate, so that a trained network does not forget what it knows."""
    return replace(schedule, learning_rate=schedule.learning_rate / 2)


def save_stages(
    name: str,
    stages: Sequence[Stage],
    recipe: Recipe,
    facts: Mapping[str, Any],
    contrasts: Sequence[str],
    out_dir: Path,
) -> Path:
    """Write weights and card of a trained method.

    Parameters
    ----------
    name
        What it is to be called.
    stages
        As trained.
    recipe
        What it was trained by.
    facts
        What else the card states: scans, seed, scores, calibration.
    contrasts
        What the networks take, in this order.
    out_dir
        Where the files go.

    Returns
    -------
    Path
        The card.
    """
    point = recipe.operating_point
    described = [
        (
            stage.network,
            {
                "architecture": stage.network.card_name,
                "arguments": stage.network.arguments,
                "candidates": stage.candidates.to_entry(),
            },
        )
        for stage in stages
    ]
    return save_method(
        name,
        described,
        {
            "task": FIND_LESIONS,
            "source": recipe.source,
            "contrasts": list(contrasts),
            "optional": list(recipe.may_lack(contrasts)),
            "normalisation": NORMALISATION,
            "anatomy": recipe.takes_anatomy,
            "sphere_head": recipe.has_spheres,
            "combination": recipe.combination,
            "threshold": point.threshold,
            "min_lesion_mm3": point.min_lesion_mm3,
            **({"peak": point.min_peak} if point.min_peak > point.threshold else {}),
            "version": VERSION,
            **facts,
            "provenance": "docs/weights.md",
        },
        out_dir,
    )
