"""Which voxels a stage learns from: all lesion voxels and as many others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_bids.network.dense import PatchReader
from cascade_bids.training.augment import uniform
from cascade_bids.training.loop import Batch

SLAB_MM = 12
"""Thickness of the axial slabs that go to training or to validation as a whole."""


@dataclass(frozen=True)
class VoxelSet:
    """The voxels of one scan that a stage may learn from."""

    patches: PatchReader
    """Cuts the patches out of the scan."""
    lesions: np.ndarray
    """(N, 3) int64, lesion voxels."""
    others: np.ndarray
    """(M, 3) int64, voxels without lesion that the stage is asked about."""

    def half(self, *, validation: bool) -> "VoxelSet":
        """Keep every fourth slab for validation, or the other three for training.

        Neighbouring patches overlap, so voxels drawn at random for validation would have been seen
        in training; whole slabs are not.
        """
        kept = [
            voxels[((voxels[:, 2] // SLAB_MM) % 4 == 3) == validation]
            for voxels in (self.lesions, self.others)
        ]
        return VoxelSet(self.patches, *kept)


def balanced_batches(
    sets: Sequence[VoxelSet],
    *,
    patches: int,
    batch_size: int,
    rng: torch.Generator,
    augmented: bool,
) -> Iterator[Batch]:
    """Draw lesion voxels and as many others, anew for every epoch.

    Parameters
    ----------
    sets
        One for each scan.
    patches
        How many patches at the most; all lesion voxels and as many others when there are fewer.
    batch_size
        Patches in a batch.
    rng
        Source of randomness.
    augmented
        Whether patches are mirrored and their intensities moved at random.

    Yields
    ------
    tuple of Tensor
        Patches (N, C, S, S, S) float32 and targets (N,) int64, 1 for lesion.
    """
    lesions = _index(sets, "lesions")
    others = _index(sets, "others")
    count = min(patches // 2, len(lesions))
    drawn = torch.cat(
        [
            lesions[torch.randperm(len(lesions), generator=rng)[:count]],
            others[torch.randperm(len(others), generator=rng)[:count]],
        ]
    )
    target = torch.cat([torch.ones(count), torch.zeros(len(drawn) - count)]).long()
    order = torch.randperm(len(drawn), generator=rng)
    for chunk in order.split(batch_size):
        rows = drawn[chunk]
        first = sets[0].patches.read(rows[:0, 1:])
        inputs = torch.empty((len(rows), *first.shape[1:]))
        for number, voxels in enumerate(sets):
            mine = rows[:, 0] == number
            inputs[mine] = voxels.patches.read(rows[mine, 1:])
        yield (_augment(inputs, rng) if augmented else inputs), target[chunk]


def _index(sets: Sequence[VoxelSet], name: str) -> Tensor:
    """Stack the voxels of all scans: (N, 4) number of the scan and voxel."""
    parts = []
    for number, voxels in enumerate(sets):
        found = getattr(voxels, name)
        parts.append(np.column_stack([np.full(len(found), number), found]))
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def _augment(patches: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror along random axes, and move gain and offset of each contrast a little."""
    axes = [axis for axis in (2, 3, 4) if uniform(0, 1, rng) < 0.5]
    shape = (*patches.shape[:2], 1, 1, 1)
    gain = 1 + 0.1 * torch.randn(shape, generator=rng)
    offset = 0.1 * torch.randn(shape, generator=rng)
    return patches.flip(axes) * gain + offset
