"""The published methods: what each is made of, and how it is trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cascade_bids.errors import UsageError
from cascade_bids.network.cascade import CandidateRule
from cascade_bids.training.loop import Schedule, constant
from cascade_bids.training.sampling import axial_flips


@dataclass(frozen=True)
class StageRecipe:
    """Which voxels one stage of a cascade learns from, and which it is asked about."""

    learn: CandidateRule
    """Where the voxels without lesion are drawn from in training."""
    use: CandidateRule
    """The candidates, once it is trained."""


@dataclass(frozen=True)
class Recipe:
    """A method as its authors describe it."""

    source: str
    """Where it was published."""
    architecture: str
    """Name in `cascade_bids.network.architectures.ARCHITECTURES`, the same for every stage."""
    stages: tuple[StageRecipe, ...]
    """First to last."""
    schedule: Schedule
    """How each stage is trained."""
    batch_size: int
    """Patches in a batch."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """What changes the patches at random."""
    combination: str = "last"
    """How the stages' probabilities become one; see `cascade_bids.network.cascade.combine`."""
    threshold: float = 0.5
    """Lowest probability of a lesion voxel."""
    min_lesion_mm3: float = 10.0
    """Smallest lesion that is kept."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture."""


_BRIGHT = CandidateRule(flair_above_z=0.5)
_SUSPICIOUS = CandidateRule(previous_above=0.5)
_VERY_BRIGHT = CandidateRule(flair_above_z=1.5)

RECIPES = {
    "valverde2017": Recipe(
        source="Valverde et al., NeuroImage 2017, doi 10.1016/j.neuroimage.2017.04.034",
        architecture="PatchNetwork",
        stages=(StageRecipe(_BRIGHT, _BRIGHT), StageRecipe(_SUSPICIOUS, _SUSPICIOUS)),
        schedule=Schedule(
            max_epochs=400,
            patience=50,
            optimiser="Adadelta",
            learning_rate=1.0,
            decay=constant,
        ),
        batch_size=128,
        augment=axial_flips,
    ),
    "nicmslesions": Recipe(
        source="Valverde et al., NeuroImage: Clinical 2019, doi 10.1016/j.nicl.2018.101638",
        architecture="NicmslesionsNetwork",
        stages=(
            StageRecipe(_BRIGHT, _BRIGHT),
            StageRecipe(_SUSPICIOUS, CandidateRule(previous_above=0.8)),
        ),
        schedule=Schedule(
            max_epochs=400,
            patience=50,
            optimiser="Adadelta",
            learning_rate=1.0,
            decay=constant,
        ),
        batch_size=128,
        augment=axial_flips,
    ),
    "msseg2016": Recipe(
        source="Valverde et al., Proceedings of the MICCAI MSSEG challenge 2016",
        architecture="Msseg2016Network",
        stages=(
            StageRecipe(_VERY_BRIGHT, _VERY_BRIGHT),
            StageRecipe(CandidateRule(flair_above_z=1.5, previous_above=0.5), _VERY_BRIGHT),
        ),
        schedule=Schedule(
            max_epochs=2000,
            patience=50,
            optimiser="Adam",
            learning_rate=1e-4,
            decay=constant,
            accumulate=16,
        ),
        batch_size=256,
        combination="product",
        min_lesion_mm3=30.0,
    ),
}
"""The methods that can be trained, by name."""


def find_recipe(method: str) -> Recipe:
    """Give the recipe of a method.

    Raises
    ------
    UsageError
        When there is none; the message lists those that there are.
    """
    if method not in RECIPES:
        raise UsageError(f"no method named {method!r} to train; there are: {', '.join(RECIPES)}")
    return RECIPES[method]
