"""Train a network that segments crops: which crops it sees, and how they are changed at random."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cascade_bids.errors import UsageError
from cascade_bids.models.cases import Case
from cascade_bids.models.training_data import Batch
from cascade_bids.training.fit.patches import NOTHING_HELD_OUT, SLAB_MM, hold_out
from cascade_bids.training.synthesis.augment import smooth_noise, uniform

CROPS_PER_EPOCH = 32
"""After so many crops the validation loss is computed."""

KNOTS_APART = 16
"""Voxels between the knots of the elastic deformation."""

MAX_SHIFT = 1.5
"""Highest standard deviation of the shift of a knot along each axis, in voxels."""

CROPS_TO_VALIDATE = 8
"""Crops that the validation loss is the mean of, the same after every epoch."""


class CropBatches:
    """Batches of crops, every second one around a lesion; see `training_data.Batches`.

    About every fourth slab of each scan is held out, as for patches (`patches.hold_out`): its
    labels count in the validation loss only, the others in training only.

    Parameters
    ----------
    cases
        The scans.
    window
        Voxels of a crop.
    batch_size
        Crops in a batch.
    seed
        Of what is drawn and of the augmentation.

    Raises
    ------
    UsageError
        When no lesion can be held out.
    """

    def __init__(
        self, cases: Sequence[Case], window: Sequence[int], batch_size: int, seed: int
    ) -> None:
        held_out = [(case, _counted(case, validation=True)) for case in cases]
        if not any((case.lesions & counted).any() for case, counted in held_out):
            raise UsageError(NOTHING_HELD_OUT)
        self._cases = cases
        self._checked = [case for case, counted in held_out if (case.brain & counted).any()]
        self._window, self._batch_size, self._seed = window, batch_size, seed

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        return crop_batches(
            self._cases,
            self._window,
            crops=CROPS_PER_EPOCH,
            batch_size=self._batch_size,
            seed=100_003 * self._seed + epoch,
            validation=False,
        )

    def validate(self) -> Iterator[Batch]:
        """Yield the batches whose mean loss is the validation loss, the same every time."""
        return crop_batches(
            self._checked,
            self._window,
            crops=CROPS_TO_VALIDATE,
            batch_size=self._batch_size,
            seed=self._seed,
            validation=True,
        )


def crop_batches(
    cases: Sequence[Case],
    window: Sequence[int],
    *,
    crops: int,
    batch_size: int,
    seed: int,
    validation: bool,
) -> Iterator[Batch]:
    """Draw crops, every second one around a lesion; only those of one batch are in memory.

    Parameters
    ----------
    cases
        The scans, drawn from in turn.
    window
        Voxels of a crop.
    crops
        How many.
    batch_size
        Crops in a batch.
    seed
        Of what is drawn and of the augmentation.
    validation
        Whether the held-out slabs count, without augmentation, or the others, with it.

    Yields
    ------
    tuple of Tensor
        Channels of the volume (N, C, X, Y, Z) float32 and target (N, 3, X, Y, Z) float32, see
        `losses.segmentation_loss`.
    """
    rng = np.random.default_rng(seed)
    noise = torch.Generator().manual_seed(seed)
    order = rng.permutation(len(cases))
    for first in range(0, crops, batch_size):
        batch = []
        for number in range(first, min(first + batch_size, crops)):
            # Pairs of crops, with a lesion and without, from one scan after the other.
            case = cases[order[number // 2 % len(cases)]]
            counted = _counted(case, validation=validation)
            crop = _cut(case, window, _centre(case, counted, rng, lesion=number % 2 == 0), counted)
            batch.append(crop if validation else augment_crop(*crop, len(case.contrasts), noise))
        yield torch.stack([x for x, _ in batch]), torch.stack([y for _, y in batch])


def augment_crop(
    inputs: Tensor, target: Tensor, contrasts: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Deform a crop elastically, and scale and shift the intensities of its contrasts.

    Parameters
    ----------
    inputs
        (C, X, Y, Z): contrasts, 0 outside the brain, and maybe anatomy.
    target
        (T, X, Y, Z) of 0 and 1.
    contrasts
        How many of the channels are contrasts.
    rng
        Source of randomness.

    Returns
    -------
    tuple of Tensor
        Of the same shapes.
    """
    shape = tuple(inputs.shape[1:])
    # Lesions change their shape, and tissue does not fold.
    cells = [max(2, n // KNOTS_APART + 1) for n in shape]
    moved = uniform(0, MAX_SHIFT, rng) * smooth_noise(shape, cells, rng, channels=3)
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) + moved
    sizes = torch.tensor(shape, dtype=torch.float32).sub(1).clamp(min=1)
    grid = (2 * points.permute(1, 2, 3, 0) / sizes - 1).flip(-1)[None]
    inputs, target = (
        F.grid_sample(x[None], grid, mode=mode, padding_mode="border", align_corners=True)[0]
        for x, mode in ((inputs, "bilinear"), (target, "nearest"))
    )
    for channel in inputs[:contrasts]:
        inside = channel != 0
        channel[inside] = channel[inside] * uniform(0.9, 1.1, rng) + uniform(-0.1, 0.1, rng)
    return inputs, target


def _counted(case: Case, *, validation: bool) -> np.ndarray:
    """Return which axial slices (Z,) have labels that count."""
    slabs = np.arange(case.lesions.shape[2]) // SLAB_MM
    filled, inside = (mask.any(axis=(0, 1)) for mask in (case.lesions, case.brain))
    held_out = hold_out(np.unique(slabs[filled]), np.unique(slabs[inside]))
    return np.isin(slabs, held_out) == validation


def _centre(
    case: Case, counted: np.ndarray, rng: np.random.Generator, *, lesion: bool
) -> np.ndarray:
    """Draw a voxel (3,) of a lesion if there is one that counts, or of the brain."""
    for mask in [case.lesions, case.brain] if lesion else [case.brain]:
        voxels = np.flatnonzero(mask & counted)
        if len(voxels):
            break
    return np.array(np.unravel_index(rng.choice(voxels), case.brain.shape))


def _cut(
    case: Case, window: Sequence[int], centre: np.ndarray, counted: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Cut a crop (C, X, Y, Z) and its target (3, X, Y, Z), zeros beyond the volume."""
    volume = case.channels
    shape = np.array(volume.shape[1:])
    size = np.array(window)
    # Crops end with the volume unless it is smaller.
    start = np.clip(centre - size // 2, 0, np.maximum(shape - size, 0))
    box = tuple(slice(a, b) for a, b in zip(start, start + size, strict=True))
    inputs = volume[(slice(None), *box)]
    brain, lesions, spheres = (
        torch.from_numpy(np.array(mask[box])) for mask in (case.brain, case.lesions, case.spheres)
    )
    target = torch.stack([lesions, spheres, brain & torch.from_numpy(counted[box[2]])]).float()
    beyond = [(0, int(n)) for n in np.maximum(size - shape, 0)]
    pad = [side for sides in reversed(beyond) for side in sides]
    return F.pad(inputs, pad), F.pad(target, pad)
