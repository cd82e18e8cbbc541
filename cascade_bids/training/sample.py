"""What a sample is, and how every sample ends: normalised as in use, with contrasts left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_bids.preprocess.intensity import normalise_intensity, tissue_mask
from cascade_bids.training.augment import uniform

WINDOW = (152, 184, 152)
"""Voxels of 1 mm around a brain."""

POSE = {"max_degrees": 8.0, "max_scale": 0.08, "max_shift": 4.0, "elastic": 1.5}
"""How far a head is turned, scaled, shifted and deformed; see `augment.random_grid`."""

ABSENT = {"T1w": 0.3, "T2w": 0.6, "PDw": 0.8}
"""How often a contrast is missing from a sample; FLAIR never is."""


@dataclass(frozen=True)
class Sample:
    """A scan to learn from that nobody took."""

    volume: Tensor
    """(C, X, Y, Z) float32 z-scores; a missing contrast is 0 everywhere."""
    brain: Tensor
    """(X, Y, Z) bool."""
    lesions: Tensor
    """(X, Y, Z) bool, those in the brain."""


def world_points(grid: Tensor, shape: Sequence[int], affine: Tensor) -> Tensor:
    """Say where in the world a sampling grid lies.

    Parameters
    ----------
    grid
        (1, X, Y, Z, 3), from `augment.random_grid`.
    shape
        Voxels of the volume that it samples.
    affine
        (4, 4) of that volume.

    Returns
    -------
    Tensor
        (X, Y, Z, 3) float32, mm.
    """
    voxels = (grid[0].flip(-1) + 1) / 2 * (torch.tensor(shape) - 1)
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def finish(
    images: Mapping[str, Tensor], brain: Tensor, lesions: Tensor, rng: torch.Generator
) -> Sample:
    """Normalise a scan as in use, and leave out contrasts at random.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) float32 intensities, in the order of the channels.
    brain, lesions
        (X, Y, Z) bool.
    rng
        Source of randomness.

    Returns
    -------
    Sample
        Of the same voxels.
    """
    inside = brain.numpy()
    tissue = tissue_mask(images["FLAIR"].numpy(), inside)
    channels = []
    for contrast, image in images.items():
        if uniform(0, 1, rng) < ABSENT.get(contrast, 0.0):
            channels.append(torch.zeros(brain.shape))
        else:
            channels.append(torch.from_numpy(normalise_intensity(image.numpy(), tissue, inside)))
    return Sample(torch.stack(channels), brain, lesions & brain)
