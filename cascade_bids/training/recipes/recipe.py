"""What a recipe is: how a method is built and trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.card import ModelCard
from cascade_bids.models.network import CandidateRule, LesionNetwork, TrainableNetwork
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.synthesis.sample import ABSENT

UNCALIBRATED = OperatingPoint(0.5, 10.0, 0.5)
"""Of a method that nothing was calibrated for."""


@dataclass(frozen=True)
class StageRecipe:
    """Which voxels one stage learns from, and which it classifies."""

    learn: CandidateRule
    """Where the voxels without lesion are drawn from in training."""
    use: CandidateRule
    """The candidates, once it is trained."""
    effort: float = 1.0
    """Factor of the recipe's epochs, minutes and learning rate; less for a network that starts from
    that of the stage before."""


@dataclass(frozen=True)
class Ending:
    """A trained network that refines the last stage, and is not trained with it."""

    card: Callable[[], ModelCard]
    """Returns its card."""
    load: Callable[[Sequence[str], torch.device], LesionNetwork]
    """Returns the network, for the contrasts of the method."""
    use: CandidateRule
    """The candidates."""


@dataclass(frozen=True)
class Recipe:
    """A method as its authors describe it."""

    source: str
    """Where it was published, or what it comes from."""
    architecture: type[TrainableNetwork]
    """The network of every stage."""
    stages: tuple[StageRecipe, ...]
    """First to last."""
    schedule: Schedule
    """How each stage is trained."""
    batch_size: int
    """Patches, crops or voxels in a batch."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """What changes patches at random; crops have their own, see `crops.augment_crop`."""
    optional: tuple[str, ...] = ()
    """Contrasts that a scan to learn from may lack."""
    paints: bool = False
    """Whether it can learn from painted scans too."""
    calibrated: bool = False
    """Whether a cross-validation chooses the operating point."""
    combination: str = "last"
    """How the stages' probabilities become one; see `probabilities.combine`."""
    operating_point: OperatingPoint = UNCALIBRATED
    """What makes lesions of probabilities."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture."""
    ending: Ending | None = None
    """A trained network that refines the last stage; None for none."""

    def may_lack(self, contrasts: Sequence[str]) -> list[str]:
        """Return which of the contrasts a scan may lack in use."""
        known = ABSENT if self.optional else ()
        return [name for name in contrasts if name in known]

    @property
    def takes_anatomy(self) -> bool:
        """Whether the networks take anatomical coordinates behind the contrasts."""
        return bool(self.arguments.get("anatomy"))

    @property
    def has_spheres(self) -> bool:
        """Whether the networks have a sphere head."""
        return bool(self.arguments.get("spheres"))

    @property
    def learns_from_synthetic(self) -> bool:
        """Whether it learns from scans that a generator draws, and not from scans as they are."""
        return self.architecture.learns_from_synthetic
