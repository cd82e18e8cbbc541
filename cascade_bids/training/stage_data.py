"""What the network of one stage learns from, and how it is trained: `TrainingData` of a recipe."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cascade_bids.models.cases import Case
from cascade_bids.models.network import CandidateRule, LesionNetwork
from cascade_bids.models.predict import Stage
from cascade_bids.models.training_data import Batches, DescribeVoxels, Loss, ScanKind, Voxels
from cascade_bids.training.fit.augmented_crops import AugmentedBatches, AugmentedCrops
from cascade_bids.training.fit.cascaded import CascadedBatches
from cascade_bids.training.fit.crops import CropBatches
from cascade_bids.training.fit.loop import Schedule, fit
from cascade_bids.training.fit.patches import PatchBatches, draw_voxels
from cascade_bids.training.fit.voxels import VoxelDrawing, draw_atlas
from cascade_bids.training.recipes.recipe import Recipe
from cascade_bids.training.synthesis.generator import ScanGenerator

DRAWING = 0.7
"""Part of the minutes for which scans are drawn, if they are fewer then."""


@dataclass(frozen=True)
class StageData:
    """What the network of one stage learns from; see `models.training_data.TrainingData`."""

    stage: int
    """Number of the stage, from 1."""
    recipe: Recipe
    """Of the method."""
    cases: Sequence[Case]
    """Labelled scans."""
    contrasts: Sequence[str]
    """Channels of the network, in this order."""
    learn: CandidateRule
    """Which voxels without lesion are learned from."""
    before: Sequence[Stage]
    """The stages that are trained already."""
    folder: Path
    """Voxels, checkpoint and curves."""
    schedule: Schedule
    """How long and how fast."""
    seed: int
    """Of what is drawn."""
    device: torch.device
    """Where the network is trained."""
    generator: ScanGenerator | None = None
    """Draws scans, for networks that learn from such."""
    start: LesionNetwork | None = None
    """The trained network of the same stage to start from; None from scratch."""

    @property
    def batch_size(self) -> int:
        """Patches, crops or voxels in a batch."""
        return self.recipe.batch_size

    @property
    def previous(self) -> LesionNetwork | None:
        """The trained network of the stage before; None in the first."""
        return self.before[-1].network if self.before else None

    @property
    def kinds(self) -> Sequence[ScanKind]:
        """What kinds of scans the generator draws."""
        return self._required_generator.kinds

    @property
    def labelled_participants(self) -> int:
        """How many participants with labelled scans the generator draws from."""
        return len({one.case.participant for one in self._required_generator.real})

    @property
    def _required_generator(self) -> ScanGenerator:
        if self.generator is None:
            raise ValueError("this network learns from drawn scans: it needs a generator")
        return self.generator

    def patches(self, size: int) -> PatchBatches:
        """Return batches of patches of `size` voxels a side, half of them around lesion voxels."""
        drawn = draw_voxels(
            self.cases, self.learn, self.folder, self.recipe.combination, self.before, size
        )
        return PatchBatches(drawn, self.batch_size, self.seed, self.recipe.augment)

    def crops(self, window: Sequence[int]) -> CropBatches:
        """Return batches of crops of `window` voxels."""
        return CropBatches(self.cases, window, self.batch_size, self.seed)

    def augmented_crops(self, window: Sequence[int], *, cascaded: bool) -> Batches:
        """Return batches of augmented crops of `window` voxels, with what the stages before say."""
        painted = self.generator.painted if self.generator else ()
        crops = AugmentedCrops(self.cases, self.contrasts, tuple(window), self.seed, painted)
        batches = AugmentedBatches(crops, self.batch_size)
        return CascadedBatches(batches, self.before, self.learn) if cascaded else batches

    def voxels(self, describe: DescribeVoxels, needed: Sequence[ScanKind]) -> tuple[Voxels, Voxels]:
        """Return voxels of drawn scans, to learn from and to validate on.

        Raises
        ------
        UsageError
            When no voxel counts, or none of a lesion in one of the kinds that are needed.
        """
        minutes, until = self.schedule.max_minutes, None
        if minutes is not None:
            until = time.monotonic() + 60 * DRAWING * minutes
        drawing = VoxelDrawing(
            self._required_generator, describe, self.learn, self.before, self.folder, needed, until
        )
        return drawing.draw(100_003 * self.seed)

    def lesion_atlas(self) -> Tensor:
        """Return how often lesions are where in the template."""
        return draw_atlas(self._required_generator.donors)

    def train(self, network: nn.Module, batches: Batches, loss: Loss) -> None:
        """Train a network in place, and leave it in evaluation mode."""

        def validate(model: nn.Module) -> float | None:
            losses = [
                float(loss(model(inputs.to(self.device)), target.to(self.device)))
                for inputs, target in batches.validate()
            ]
            return float(np.mean(losses)) if losses else None

        schedule = self.schedule
        if self.recipe.learns_from_synthetic and schedule.max_minutes is not None:
            schedule = replace(schedule, max_minutes=(1 - DRAWING) * schedule.max_minutes)
        fit(
            network,
            batches=batches.train,
            loss=loss,
            validate=validate,
            schedule=schedule,
            folder=self.folder,
        )
