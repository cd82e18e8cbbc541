"""What trainings offer networks to learn from: the networks choose, the trainings provide."""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from cascade_bids.models.network import Volume

Batch = tuple[Tensor, Tensor]
"""Inputs and targets."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and targets to a scalar."""


class ScanKind(IntEnum):
    """What a training sample is drawn from."""

    SYNTHETIC = 0
    """A label map, or a healthy T1w; all lesions are painted."""
    LABELLED = 1
    """A scan whose lesions a rater outlined."""
    UNLABELLED = 2
    """A scan whose own lesions nobody outlined."""


class Batches(Protocol):
    """Batches of one stage."""

    def train(self, epoch: int) -> Iterable[Batch]:
        """Yield the batches of an epoch."""

    def validate(self) -> Iterable[Batch]:
        """Yield the batches whose mean loss is the validation loss."""


class PatchBatches(Batches, Protocol):
    """Batches of patches."""

    @property
    def lesion_voxels(self) -> int:
        """How many lesion voxels there are, to learn from and to validate on."""


class Voxels(NamedTuple):
    """Voxels of drawn scans with their features."""

    features: np.ndarray
    """(N, F) float32."""
    target: np.ndarray
    """(N, 3) float32: whether it is a lesion, how many voxels of the scan it stands for, and the
    `ScanKind`."""


class DescribeVoxels(Protocol):
    """Computes features of voxels; such as `GaussianDerivativePerceptron.describe_voxels`."""

    def __call__(
        self, volume: "Volume", voxels: Sequence[np.ndarray], previous: np.ndarray
    ) -> np.ndarray:
        """Return (N, F) float32."""


class TrainingData(Protocol):
    """What the network of one stage learns from; such as `training.stage_data.StageData`."""

    @property
    def stage(self) -> int:
        """Number of the stage, from 1."""

    @property
    def device(self) -> torch.device:
        """Where the network is trained."""

    @property
    def batch_size(self) -> int:
        """Patches, crops or voxels in a batch."""

    @property
    def seed(self) -> int:
        """Of first weights, and of what is drawn."""

    @property
    def start(self) -> nn.Module | None:
        """The trained network of the same stage to start from; None from scratch."""

    @property
    def previous(self) -> nn.Module | None:
        """The trained network of the stage before; None in the first."""

    @property
    def kinds(self) -> Sequence[ScanKind]:
        """What kinds of scans the generator draws."""

    @property
    def labelled_participants(self) -> int:
        """How many participants with labelled scans the generator draws from."""

    def patches(self, size: int) -> "PatchBatches":
        """Return batches of patches of `size` voxels a side, half of them around lesion voxels."""

    def crops(self, window: Sequence[int]) -> Batches:
        """Return batches of crops of `window` voxels."""

    def augmented_crops(self, window: Sequence[int], *, cascaded: bool) -> Batches:
        """Return batches of augmented crops of `window` voxels, with what the stages before say."""

    def voxels(self, describe: DescribeVoxels, needed: Sequence[ScanKind]) -> tuple[Voxels, Voxels]:
        """Return voxels of drawn scans, to learn from and to validate on."""

    def lesion_atlas(self) -> Tensor:
        """Return how often lesions are where in the template, see `coordinates.ATLAS_SHAPE`."""

    def train(self, network: nn.Module, batches: Batches, loss: Loss) -> None:
        """Train a network in place, and leave it in evaluation mode."""
