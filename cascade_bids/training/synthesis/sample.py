"""What a sample is, and how every sample ends: normalised as in use, with contrasts left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_bids.models.network import Volume
from cascade_bids.models.training_data import ScanKind
from cascade_bids.preprocess.normalise import normalise_intensity, tissue_mask
from cascade_bids.training.synthesis.augment import uniform

WINDOW = (152, 184, 152)
"""Voxels of 1 mm around a brain."""

POSE = {"max_degrees": 8.0, "max_scale": 0.08, "max_shift": 4.0, "elastic": 2.5}
"""How far a head is turned, scaled, shifted and deformed; see `augment.random_grid`."""

ABSENT = {"T1w": 0.4, "T2w": 0.5, "PDw": 0.8}
"""How often a contrast is missing from a sample; FLAIR never is."""


@dataclass(frozen=True)
class Sample:
    """A scan to learn from."""

    channels: Tensor
    """(C, X, Y, Z) float32 z-scores; a missing contrast is 0 everywhere."""
    brain: Tensor
    """(X, Y, Z) bool."""
    lesions: Tensor
    """(X, Y, Z) bool, those in the brain."""
    coordinates: Tensor
    """(X, Y, Z, 3) float32, where each voxel lies in the template, mm."""
    kind: ScanKind = ScanKind.SYNTHETIC
    """What it was drawn from."""
    ignore: Tensor | None = None
    """(X, Y, Z) bool, what may be a lesion that nobody outlined, of which nothing is learned."""

    def to_volume(self, contrasts: Sequence[str]) -> Volume:
        """Return the scan as networks of certain contrasts see it."""
        flair = self.channels[contrasts.index("FLAIR")].numpy()
        return Volume(self.channels, flair, self.brain.numpy(), self.coordinates.numpy)


def world_points(grid: Tensor, shape: Sequence[int], affine: Tensor) -> Tensor:
    """Compute where in the world a sampling grid lies.

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


def draw_contrasts(contrasts: Sequence[str], rng: torch.Generator) -> set[str]:
    """Draw which contrasts a sample has; see `ABSENT`."""
    return {name for name in contrasts if uniform(0, 1, rng) >= ABSENT.get(name, 0.0)}


def finish(
    images: Mapping[str, Tensor],
    contrasts: Sequence[str],
    brain: Tensor,
    lesions: Tensor,
    coordinates: Tensor,
    *,
    kind: ScanKind = ScanKind.SYNTHETIC,
    ignore: Tensor | None = None,
) -> Sample:
    """Normalise a scan as in use.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) float32 intensities; what is not among them is missing.
    contrasts
        Of the channels, in this order; FLAIR among them.
    brain, lesions
        (X, Y, Z) bool.
    coordinates
        (X, Y, Z, 3) float32, template mm.
    kind
        What the scan was drawn from.
    ignore
        (X, Y, Z) bool, what may be a lesion that nobody outlined; None for nothing.

    Returns
    -------
    Sample
        Of the same voxels.
    """
    inside = brain.numpy()
    tissue = tissue_mask(images["FLAIR"].numpy(), inside)
    channels = [
        torch.from_numpy(normalise_intensity(images[contrast].numpy(), tissue, inside))
        if contrast in images
        else torch.zeros(brain.shape)
        for contrast in contrasts
    ]
    return Sample(torch.stack(channels), brain, lesions & brain, coordinates, kind, ignore)
