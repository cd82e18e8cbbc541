"""One-shot adaptation: train the last layers of a method anew on as little as one labelled scan.

Valverde et al. 2019, doi 10.1016/j.nicl.2018.101638.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cascade_bids.errors import UsageError
from cascade_bids.models.card import MethodCard
from cascade_bids.models.predict import Stage, load_stages
from cascade_bids.training.config import TrainConfig, stage_schedules
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import Recipe, find_recipe_of
from cascade_bids.training.stage_data import StageData
from cascade_bids.training.stages import save_stages
from cascade_bids.training.train import start_training

log = logging.getLogger(__name__)

ADAPTING_EPOCHS = 20
"""Epochs for which a whole network is adapted."""

ADAPTING_RATE = 0.1
"""Part of the learning rate of a training with which a whole network is adapted."""


def finetune(config: TrainConfig, source: MethodCard, name: str, out_dir: Path) -> Path:
    """Adapt a method to the scanner of a few labelled scans, and write weights and card.

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
        When the source cannot be adapted, or is joined of several methods, or there is
        nothing to learn from.
    StartError
        When a scan cannot be prepared.
    """
    recipe = find_recipe_of(source)
    if recipe is None or not source.networks[0].can_adapt():
        raise UsageError(
            f"{source.name} can't be adapted, since only the cascade of 3D CNNs and the dense "
            "layers of networks on patches are; train one from scratch instead (cascade-bids train)"
        )
    if len(source.stages) != len(recipe.stages):
        raise UsageError(
            f"{source.name} has {len(source.stages)} stages, where {len(recipe.stages)} can be "
            "adapted; of joined methods adapt each, and join them again (cascade-bids join)"
        )
    # What makes lesions of its probabilities is the source's: it may be imported or chosen anew.
    recipe = replace(recipe, combination=source.combination, operating_point=source.operating_point)
    device, cases, _ = start_training(config, recipe, source=source)
    seed = config.preprocess.random_seed
    stages: list[Stage] = []
    counts = []
    with show_training("", len(source.stages)):
        steps = zip(
            load_stages(source, device=device),
            recipe.stages,
            _adapting(recipe, stage_schedules(recipe, config)),
            strict=True,
        )
        for number, (stage, learn, schedule) in enumerate(steps, start=1):
            data = StageData(
                stage=number,
                recipe=recipe,
                cases=cases,
                contrasts=source.contrasts,
                learn=learn.learn,
                before=tuple(stages),
                folder=config.work_dir / "adapted" / f"stage{number}",
                schedule=schedule,
                seed=seed + number,
                device=device,
            )
            torch.manual_seed(data.seed)
            counts.append(stage.network.adapt(data))
            learned = "all" if counts[-1] is None else f"{counts[-1]} dense"
            log.info("stage %d: %s layers learned", number, learned)
            stages.append(stage)
    facts = {
        "adapted_from": source.name,
        **({} if None in counts else {"dense_layers_trained": counts}),
        "seed": seed,
        "training_scans": [case.label for case in cases],
    }
    return save_stages(name, stages, recipe, facts, source.contrasts, out_dir)


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
