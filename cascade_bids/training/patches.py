"""Train a network that classifies patches."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn
from torch.nn import functional as F

from cascade_bids.errors import UsageError
from cascade_bids.network.cascade import CandidateRule, Stage, run_stages
from cascade_bids.training.cases import Case
from cascade_bids.training.loop import Schedule, fit
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sampling import (
    NOTHING_HELD_OUT,
    Drawn,
    balanced_batches,
    load_voxels,
    save_voxels,
)

PATCHES_PER_EPOCH = 16_384
"""After so many patches the validation loss is asked, even if more lesion voxels are left."""


def draw_voxels(
    cases: Sequence[Case],
    rule: CandidateRule,
    folder: Path,
    combination: str,
    before: Sequence[Stage],
    patch_size: int,
) -> list[Drawn]:
    """Find the voxels that a stage learns from; they are kept on disk.

    Those of a broken run are taken again: asking the stages before takes minutes for each scan.

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
    list of Drawn
        One for each case.
    """
    drawn = []
    for case in cases:
        patches, kept = functools.partial(case.patches, patch_size), folder / case.label
        voxels = load_voxels(patches, kept)
        if voxels is None:
            flair, brain, lesions = case.flair, case.brain, case.lesions
            previous = np.zeros(brain.shape, dtype=np.float32)
            if before:
                found = run_stages(before, case.volume, flair, brain, combination=combination)
                previous = found.probability
            voxels = save_voxels(patches, lesions, rule.select(flair, brain, previous), kept)
        drawn.append(voxels)
    return drawn


def fit_patches(
    network: nn.Module,
    drawn: Sequence[Drawn],
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
    learned = [voxels.learned for voxels in drawn]
    checked = [voxels.checked for voxels in drawn]
    if not any(len(voxels.lesions) for voxels in checked):
        raise UsageError(NOTHING_HELD_OUT)
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
