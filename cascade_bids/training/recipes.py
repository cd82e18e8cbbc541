"""The methods: what each is made of, and how it is trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cascade_bids.errors import UsageError
from cascade_bids.network.cascade import NICMSLESIONS_CANDIDATES, CandidateRule
from cascade_bids.training.loop import Schedule, constant, cosine, steps
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
    """Where it was published, or what it comes from."""
    architecture: str
    """Name in `cascade_bids.network.architectures.ARCHITECTURES`, the same for every stage."""
    stages: tuple[StageRecipe, ...]
    """First to last."""
    schedule: Schedule
    """How each stage is trained."""
    batch_size: int
    """Patches or crops in a batch."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """What changes patches at random; crops have their own, see `crops.augment_crop`."""
    combination: str = "last"
    """How the stages' probabilities become one; see `cascade_bids.network.cascade.combine`."""
    threshold: float = 0.5
    """Lowest probability of a lesion voxel."""
    min_lesion_mm3: float = 10.0
    """Smallest lesion that is kept."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture."""
    from_samples: bool = False
    """Whether it learns from samples of `engine.Engine` and not from the scans as they are."""
    with_context: bool = False
    """Whether the network that `train-context` trained is asked at the end; it stays as it is."""

    @property
    def anatomy(self) -> bool:
        """Whether the networks take anatomical coordinates beside the contrasts."""
        return bool(self.arguments.get("anatomy"))


_BRIGHT = CandidateRule(flair_above_z=0.5)
_SUSPICIOUS = CandidateRule(previous_above=0.5)
_VERY_BRIGHT = CandidateRule(flair_above_z=1.5)
_BRAIN = CandidateRule()

_ADADELTA = Schedule(
    max_epochs=400, patience=50, optimiser="Adadelta", learning_rate=1.0, decay=constant
)
"""Of the cascade and of its successor, by the code of their authors."""


def _all_net(
    *, anatomy: bool = True, spheres: bool = True, architecture: str = "LesionUNet"
) -> Recipe:
    """Describe ALL-Net, or what is left of it without one of its parts."""
    schedule = Schedule(
        max_epochs=400,
        patience=400,
        optimiser="Adam",
        learning_rate=1e-3,
        decay=steps,
        mixed_precision=True,
    )
    return Recipe(
        source="Zhang et al., NeuroImage: Clinical 2021, doi 10.1016/j.nicl.2021.102854",
        architecture=architecture,
        stages=(StageRecipe(_BRAIN, _BRAIN),) * 5,
        schedule=schedule,
        batch_size=2,
        combination="vote",
        arguments={"anatomy": anatomy, "spheres": spheres, "window": [128, 128, 48]},
    )


_LIKELY = CandidateRule(previous_above=0.02)
_NOT_DARK = CandidateRule(flair_above_z=0.2)

RECIPES = {
    "valverde2017": Recipe(
        source="Valverde et al., NeuroImage 2017, doi 10.1016/j.neuroimage.2017.04.034",
        architecture="PatchNetwork",
        stages=(StageRecipe(_BRIGHT, _BRIGHT), StageRecipe(_SUSPICIOUS, _SUSPICIOUS)),
        schedule=_ADADELTA,
        batch_size=128,
        augment=axial_flips,
    ),
    "nicmslesions": Recipe(
        source="Valverde et al., NeuroImage: Clinical 2019, doi 10.1016/j.nicl.2018.101638",
        architecture="NicmslesionsNetwork",
        stages=tuple(
            StageRecipe(learn, use)
            for learn, use in zip((_BRIGHT, _SUSPICIOUS), NICMSLESIONS_CANDIDATES, strict=True)
        ),
        schedule=_ADADELTA,
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
    "cascade": Recipe(
        source="cascade_bids, after Valverde et al., NeuroImage 2017, doi "
        "10.1016/j.neuroimage.2017.04.034, and Billot et al., Medical Image Analysis 2023, doi "
        "10.1016/j.media.2023.102789",
        architecture="JetNetwork",
        stages=(StageRecipe(_NOT_DARK, _NOT_DARK), StageRecipe(_LIKELY, _LIKELY)),
        schedule=Schedule(
            max_epochs=12,
            patience=12,
            optimiser="AdamW",
            learning_rate=3e-3,
            decay=cosine,
            keep_last=True,
        ),
        batch_size=4096,
        combination="mean",
        from_samples=True,
        with_context=True,
    ),
    "allnet": _all_net(),
    "allnet-tiramisu": _all_net(architecture="LesionTiramisu"),
    "allnet-base": _all_net(anatomy=False, spheres=False),
    "allnet-anaconv": _all_net(spheres=False),
    "allnet-lesloss": _all_net(anatomy=False),
}
"""The methods that can be trained, by name; the last three are the ablation of ALL-Net."""


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
