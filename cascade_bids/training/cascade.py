"""Train the stages of a method one after the other, each on what the one before it leaves."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.network.architectures import ARCHITECTURES, PatchClassifier
from cascade_bids.network.cascade import CandidateRule, Stage, run_stages
from cascade_bids.network.weights import FIND_LESIONS, save_method
from cascade_bids.training.cases import Case
from cascade_bids.training.loop import Schedule, fit
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sampling import SLAB_MM, VoxelSet, balanced_batches

log = logging.getLogger(__name__)

PATCHES_PER_EPOCH = 16_384
"""After so many patches the validation loss is asked, even if more lesion voxels are left."""


def train_stages(
    recipe: Recipe,
    cases: Sequence[Case],
    work_dir: Path,
    *,
    schedule: Schedule,
    seed: int,
    device: torch.device,
) -> list[Stage]:
    """Train a method from scratch.

    Parameters
    ----------
    recipe
        The method.
    cases
        Scans to learn from.
    work_dir
        Checkpoints and curves of each stage; the same folder continues a broken training.
    schedule
        How long each stage is trained.
    seed
        Of first weights, drawn voxels and augmentation.
    device
        Where the networks are trained.

    Returns
    -------
    list of Stage
        In evaluation mode, on `device`.
    """
    stages: list[Stage] = []
    for number, stage in enumerate(recipe.stages, start=1):
        folder = work_dir / f"stage{number}"
        torch.manual_seed(seed + number)
        network = make_network(recipe, len(cases[0].contrasts)).to(device)
        fit_stage(
            network,
            draw_voxels(cases, stage.learn, folder, recipe.combination, stages, network.patch_size),
            recipe,
            folder,
            schedule=schedule,
            seed=seed + number,
        )
        stages.append(Stage(network, stage.use))
    return stages


def make_network(recipe: Recipe, channels_in: int) -> PatchClassifier:
    """Build the network of one stage with random weights."""
    network = ARCHITECTURES[recipe.architecture](channels_in=channels_in, **recipe.arguments)
    if not isinstance(network, PatchClassifier):
        raise TypeError(f"{recipe.architecture} does not classify patches")
    return network


def draw_voxels(
    cases: Sequence[Case],
    rule: CandidateRule,
    folder: Path,
    combination: str,
    before: Sequence[Stage],
    patch_size: int,
) -> list[VoxelSet]:
    """Find the voxels that a stage learns from; they are kept on disk.

    Parameters
    ----------
    cases
        Scans to learn from.
    rule
        Where the voxels without lesion come from.
    folder
        Of this stage.
    combination
        Of the recipe.
    before
        The stages that are trained already.
    patch_size
        Of the network.

    Returns
    -------
    list of VoxelSet
        One for each case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for case in cases:
        previous = np.zeros(case.brain.shape, dtype=np.float32)
        if before:
            previous = run_stages(
                before, case.volume, case.flair, case.brain, combination=combination
            )
        asked = rule.select(case.flair, case.brain, previous)
        found = {"lesions": case.lesions, "others": asked & ~case.lesions}
        kept = {}
        for name, mask in found.items():
            path = folder / f"{case.label}_{name}.npy"
            np.save(path, np.argwhere(mask).astype(np.int16))
            kept[name] = np.load(path, mmap_mode="r")
        sets.append(VoxelSet(case.patches(patch_size), kept["lesions"], kept["others"]))
    return sets


def fit_stage(
    network: nn.Module,
    sets: Sequence[VoxelSet],
    recipe: Recipe,
    folder: Path,
    *,
    schedule: Schedule,
    seed: int,
) -> None:
    """Train one network on balanced patches, and leave it with its best weights.

    About every fourth slab of each scan is held out, and training ends when the loss there no
    longer falls; each stage has its own.

    Raises
    ------
    UsageError
        When no lesion can be held out, or there are no voxels without lesion.
    """
    device = next(network.parameters()).device
    learned = [voxels.half(validation=False) for voxels in sets]
    checked = [voxels.half(validation=True) for voxels in sets]
    if not any(len(voxels.lesions) for voxels in checked):
        raise UsageError(
            f"all lesions lie within {SLAB_MM} mm from top to bottom, so none can be held out to "
            "tell when to stop; add a scan with more lesions"
        )
    if not all(any(len(voxels.others) for voxels in half) for half in (learned, checked)):
        raise UsageError(
            "the stage before finds nothing that is no lesion, so there is nothing to learn from; "
            "train it longer or on more scans"
        )

    def validate(model: nn.Module) -> float:
        batches = balanced_batches(
            checked,
            patches=PATCHES_PER_EPOCH // 4,
            batch_size=recipe.batch_size,
            seed=seed,
            augment=None,
        )
        return float(
            np.mean([float(F.cross_entropy(model(x.to(device)), y.to(device))) for x, y in batches])
        )

    fit(
        network,
        batches=lambda epoch: balanced_batches(
            learned,
            patches=PATCHES_PER_EPOCH,
            batch_size=recipe.batch_size,
            seed=100_003 * seed + epoch,
            augment=recipe.augment,
        ),
        loss=F.cross_entropy,
        validate=validate,
        schedule=schedule,
        folder=folder,
    )


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
    entry = {
        "architecture": recipe.architecture,
        "arguments": {"channels_in": len(contrasts), **recipe.arguments},
    }
    return save_method(
        name,
        [
            (stage.network, {**entry, "candidates": _rule_entry(stage.candidates)})
            for stage in stages
        ],
        {
            "task": FIND_LESIONS,
            "source": recipe.source,
            "contrasts": list(contrasts),
            "normalisation": "z-scores of the brain tissue, without its extreme 2 %",
            "combination": recipe.combination,
            "threshold": recipe.threshold,
            "min_lesion_mm3": recipe.min_lesion_mm3,
            "version": VERSION,
            **facts,
            "provenance": "docs/weights.md",
        },
        out_dir,
    )


def _rule_entry(rule: CandidateRule) -> dict[str, float]:
    return {name: value for name, value in vars(rule).items() if value is not None}
