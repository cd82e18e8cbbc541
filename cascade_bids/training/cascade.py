"""Train the stages of a method one after the other, and save them as weights and card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cascade_bids.config import VERSION
from cascade_bids.network.architectures import ARCHITECTURES, PatchClassifier
from cascade_bids.network.cascade import CandidateRule, Stage
from cascade_bids.network.context import ContextNetwork
from cascade_bids.network.jets import JetNetwork
from cascade_bids.network.segmenters import SegmentationNetwork
from cascade_bids.network.weights import (
    FIND_LESIONS,
    NORMALISATION,
    load_card,
    load_network,
    save_method,
)
from cascade_bids.training.cases import Case
from cascade_bids.training.crops import fit_crops
from cascade_bids.training.engine import Engine
from cascade_bids.training.loop import Schedule
from cascade_bids.training.patches import draw_voxels, fit_patches
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sample import EXPERTS, optional_contrasts
from cascade_bids.training.samples import fit_samples
from cascade_bids.training.unlabelled import name_suspects

CPU_WINDOW = [64, 64, 48]
"""Voxels of a crop without a GPU; the published ones are six times as large."""

AS_MADE_UP = 10
"""So many labelled participants have as much weight as all scans that are made up."""

FIRST_KERNEL = "backbone.down.0.0.weight"
"""Of a `ContextNetwork`: what sees the contrasts."""


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
    """Whether it is the second round, which draws other samples."""


def train_stages(
    recipe: Recipe,
    cases: Sequence[Case],
    contrasts: Sequence[str],
    work_dir: Path,
    *,
    schedules: Sequence[Schedule],
    seed: int,
    device: torch.device,
    engine: Engine | None = None,
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
    engine
        What samples are drawn from, of a method that learns from such. With unlabelled scans there
        is a second round, in which the experts learn from these too; the weights are the mean of
        those after both rounds.
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
    rounds = count_rounds(engine)
    shared = [
        replace(one, max_minutes=one.max_minutes and one.max_minutes / rounds) for one in schedules
    ]
    training = _Training(recipe, cases, contrasts, shared, seed, device)
    if engine is None or rounds == 1:
        return _train_round(training, work_dir, engine, start)
    # The first round says what may be a lesion in scans that nobody labelled.
    first = _train_round(training, work_dir, replace(engine, unlabelled=()), start)
    folder = work_dir / "unlabelled"
    named = name_suspects(engine.unlabelled, first, contrasts, recipe.combination, folder)
    known = replace(engine, unlabelled=tuple(named))
    second = _train_round(replace(training, again=True), folder, known, first)
    for before, after in zip(first, second, strict=True):
        _average_weights(before.network, after.network)
    return second


def _average_weights(before: nn.Module, after: nn.Module) -> None:
    """Give a network the mean of its weights before and after it went on learning [1]_.

    References
    ----------
    .. [1] Wortsman et al. Robust fine-tuning of zero-shot models. CVPR 2022.
       arXiv 2109.01903
    """
    with torch.no_grad():
        for old, new in zip(before.parameters(), after.parameters(), strict=True):
            new.lerp_(old, 0.5)


def count_rounds(engine: Engine | None) -> int:
    """Say how often each stage is trained: twice if there are unlabelled scans."""
    return 2 if engine is not None and engine.unlabelled else 1


def _train_round(
    training: _Training, work_dir: Path, engine: Engine | None, start: Sequence[Stage]
) -> list[Stage]:
    """Train each stage once; as of `train_stages`."""
    recipe, contrasts, device = training.recipe, training.contrasts, training.device
    stages: list[Stage] = []
    steps = zip(recipe.stages, training.schedules, strict=True)
    for number, (stage, schedule) in enumerate(steps, start=1):
        folder = work_dir / f"stage{number}"
        # Far enough from the next seed that no network has the seed of another training's.
        own_seed = 1000 * training.seed + 500 * training.again + number
        torch.manual_seed(own_seed)
        arguments = network_arguments(recipe, contrasts, device, number)
        if engine is not None:
            arguments |= _describe_experts(engine, start)
        network = ARCHITECTURES[recipe.architecture](**arguments).to(device)
        if isinstance(network, PatchClassifier):
            size = network.patch_size
            drawn = draw_voxels(
                training.cases, stage.learn, folder, recipe.combination, stages, size
            )
            fit_patches(network, drawn, recipe, folder, schedule=schedule, seed=own_seed)
        elif isinstance(network, JetNetwork):
            if engine is None:
                raise ValueError(f"{recipe.architecture} learns from samples: it needs an engine")
            if start:
                network.load_state_dict(start[number - 1].network.state_dict())
            fit_samples(
                network,
                engine,
                stage.learn,
                stages,
                folder,
                batch_size=recipe.batch_size,
                schedule=_gentler(schedule) if start else schedule,
                seed=own_seed,
                known=bool(start),
            )
        elif isinstance(network, SegmentationNetwork):
            fit_crops(network, training.cases, recipe, folder, schedule=schedule, seed=own_seed)
        else:
            raise TypeError(f"{recipe.architecture} finds no lesions")
        stages.append(Stage(network, stage.use))
    return [*stages, load_context(contrasts, device)] if recipe.with_context else stages


def load_context(contrasts: Sequence[str], device: torch.device) -> Stage:
    """Load the stage that `train-context` trained, for a method that takes certain contrasts.

    What the method doesn't take is missing to the network, and what the network doesn't know it
    doesn't see.
    """
    known = load_card("context")["contrasts"]
    state = load_network("context", device=device).state_dict()
    seen = state[FIRST_KERNEL]
    kernel = seen.new_zeros((len(seen), len(contrasts), *seen.shape[2:]))
    for number, name in enumerate(contrasts):
        if name in known:
            kernel[:, number] = seen[:, known.index(name)]
    network = ContextNetwork(len(contrasts)).to(device)
    network.load_state_dict({**state, FIRST_KERNEL: kernel})
    return Stage(network.eval(), CandidateRule(previous_above=0.0))


def _describe_experts(engine: Engine, start: Sequence[Stage]) -> dict[str, Any]:
    """Say how many experts networks need, and the share of that of labelled scans.

    There are as many as those that they start with, if any, whose share does not shrink: what it
    comes from is still known.
    """
    people = len({one.case.scan.subject for one in engine.real})
    share = round(people / (people + AS_MADE_UP), 4)
    known = [one.network for one in start if isinstance(one.network, JetNetwork)]
    if known:
        return {"experts": len(known[0].experts), "share": max(share, known[0].share)}
    return {"experts": sum(kind in EXPERTS for kind in engine.kinds), "share": share}


def _gentler(schedule: Schedule) -> Schedule:
    """Give a network that can do something already steps that it does not forget it by."""
    return replace(schedule, learning_rate=schedule.learning_rate / 2)


def network_arguments(
    recipe: Recipe, contrasts: Sequence[str], device: torch.device, number: int
) -> dict[str, Any]:
    """Say what the network of a stage, counted from 1, is made with."""
    arguments = {"channels_in": len(contrasts), **recipe.arguments}
    if "window" in arguments and device.type == "cpu":
        arguments["window"] = CPU_WINDOW
    if recipe.from_samples:
        arguments["cascaded"] = number > 1
    return arguments


def save_cascade(
    name: str,
    stages: Sequence[Stage],
    recipe: Recipe,
    facts: dict[str, Any],
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
        What else the card says: scans, seed, scores.
    contrasts
        What the networks take, in this order.
    out_dir
        Where the files go.

    Returns
    -------
    Path
        The card.
    """
    described: list[tuple[nn.Module, dict[str, Any]]] = []
    for number, stage in enumerate(stages, start=1):
        network = stage.network
        device = next(network.parameters()).device
        arguments = network_arguments(recipe, contrasts, device, number)
        if isinstance(network, ContextNetwork):
            arguments = {"channels_in": len(contrasts)}
        elif isinstance(network, SegmentationNetwork):
            arguments["window"] = list(network.window)
        elif isinstance(network, JetNetwork):
            arguments |= {"experts": len(network.experts), "share": network.share}
        entry = {"architecture": type(network).__name__, "arguments": arguments}
        described.append((network, {**entry, "candidates": stage.candidates.to_entry()}))
    return save_method(
        name,
        described,
        {
            "task": FIND_LESIONS,
            "source": recipe.source,
            "contrasts": list(contrasts),
            "optional": optional_contrasts(contrasts) if recipe.from_samples else [],
            "normalisation": NORMALISATION,
            "anatomy": recipe.anatomy,
            "sphere_head": recipe.arguments.get("spheres", False),
            "combination": recipe.combination,
            "threshold": recipe.threshold,
            "min_lesion_mm3": recipe.min_lesion_mm3,
            "version": VERSION,
            **facts,
            "provenance": "docs/weights.md",
        },
        out_dir,
    )
