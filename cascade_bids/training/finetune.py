"""One-shot adaptation: train the last layers of a method anew on as little as one labelled scan.

Valverde et al. 2019, doi 10.1016/j.nicl.2018.101638.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.models.card import MethodCard
from cascade_bids.models.card_checks import LABEL_MAPS, PARTICIPANTS, USE
from cascade_bids.models.cases import Case
from cascade_bids.models.members import split_stages
from cascade_bids.models.predict import Stage, load_stages
from cascade_bids.models.weights import save_method
from cascade_bids.training.config import TrainConfig, stage_schedules
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import Recipe, find_recipe_of
from cascade_bids.training.stage_data import StageData
from cascade_bids.training.train import start_training

log = logging.getLogger(__name__)

ADAPTING_EPOCHS = 20
"""Epochs for which a whole network is adapted."""

ADAPTING_RATE = 0.1
"""Part of the learning rate of a training with which a whole network is adapted."""

KEPT = (*USE, *PARTICIPANTS, *LABEL_MAPS, "source", "combination", "members")
"""Entries of a card that an adapted method keeps."""


def finetune(config: TrainConfig, source: MethodCard, name: str, out_dir: Path) -> Path:
    """Adapt a method to the scanner of a few labelled scans, and write weights and card.

    Of a joined method the members that can be adapted are; the others stay as they are.

    Parameters
    ----------
    config
        What to learn from; its method and contrasts are those of the source.
    source
        Card of the method to start from.
    name
        What the adapted method is called.
    out_dir
        Where weights and card go.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When the source cannot be adapted, or there is nothing to learn from.
    StartError
        When a scan cannot be prepared.
    """
    recipes = [_find_recipe(own) for own in source.split()]
    first = next(filter(None, recipes), None)
    if first is None:
        raise UsageError(
            f"{source.name} can't be adapted, since only the cascade of 3D CNNs and the dense "
            "layers of networks on patches are; train one from scratch instead (cascade-bids train)"
        )
    device, cases, _ = start_training(config, first, source=source)
    stages = load_stages(source, device=device)
    adapted = [recipe for recipe in recipes if recipe is not None]
    if config.max_minutes is not None:
        config = replace(config, max_minutes=config.max_minutes / len(adapted))
    counts: list[int | None] = []
    with show_training("", sum(len(recipe.stages) for recipe in adapted)):
        parts = zip(source.members, split_stages(source.members, stages), recipes, strict=True)
        for number, (member, own, recipe) in enumerate(parts, start=1):
            if recipe is None:
                log.info("%s stays as it is", member.name)
            else:
                part = replace(recipe, combination=member.combination)
                folder = config.work_dir / "adapted" / f"member{number}"
                counts += _adapt(own, part, config, cases, folder, device)
    facts = {
        "version": VERSION,
        "seed": config.preprocess.random_seed,
        "adapted_from": source.name,
        **({} if None in counts else {"dense_layers_trained": counts}),
        "training_scans": [case.label for case in cases],
        "learned_before": sorted(source.participants),
    }
    return _save(name, stages, source, facts, out_dir)


def _save(
    name: str,
    stages: Sequence[Stage],
    source: MethodCard,
    facts: Mapping[str, Any],
    out_dir: Path,
) -> Path:
    """Write the weights, and a card that differs from the source's only in some facts."""
    kept = {name: value for name, value in source.entries().items() if name in KEPT}
    networks = [stage.network for stage in stages]
    entries = [stage.entry() for stage in source.stages]
    described = list(zip(networks, entries, strict=True))
    return save_method(name, described, {**kept, **facts}, out_dir)


def _find_recipe(member: MethodCard) -> Recipe | None:
    """Return the recipe by which a member of a method can be adapted; None if it can't."""
    recipe = find_recipe_of(member)
    fits = recipe is not None and len(recipe.stages) == len(member.stages)
    return recipe if fits and member.networks[0].can_adapt() else None


def _adapt(
    stages: Sequence[Stage],
    recipe: Recipe,
    config: TrainConfig,
    cases: Sequence[Case],
    folder: Path,
    device: torch.device,
) -> list[int | None]:
    """Adapt each stage in place; return what `LesionNetwork.adapt` does of each."""
    counts = []
    steps = zip(
        stages,
        recipe.stages,
        _adapting(recipe, stage_schedules(recipe, config)),
        strict=True,
    )
    for number, (stage, learn, schedule) in enumerate(steps, start=1):
        data = StageData(
            stage=number,
            recipe=recipe,
            cases=cases,
            contrasts=config.contrasts,
            learn=learn.learn,
            before=tuple(stages[: number - 1]),
            folder=folder / f"stage{number}",
            schedule=schedule,
            seed=config.preprocess.random_seed + number,
            device=device,
        )
        torch.manual_seed(data.seed)
        counts.append(stage.network.adapt(data))
        learned = "all" if counts[-1] is None else f"{counts[-1]} dense"
        log.info("stage %d: %s layers learned", number, learned)
    return counts


def _adapting(recipe: Recipe, schedules: Sequence[Schedule]) -> list[Schedule]:
    """Return gentle schedules for networks that learn as a whole, so that they forget little."""
    if not recipe.architecture.adapts_whole:
        return list(schedules)
    return [
        replace(
            one,
            max_epochs=min(one.max_epochs, ADAPTING_EPOCHS),
            learning_rate=ADAPTING_RATE * one.learning_rate,
        )
        for one in schedules
    ]
