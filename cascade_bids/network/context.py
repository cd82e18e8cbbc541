"""A network that sees a whole brain at once, at half the resolution."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit, logit
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.network.place import ATLAS_MM, ATLAS_ORIGIN_MM, ATLAS_SHAPE, RARE
from cascade_bids.network.unet import UNetBackbone

CONTEXT = 1 / 5
"""Weight of what such a network says beside what those say that look closely."""

LEAST = 1e-4
"""Lowest probability that counts: small lesions are missed, so nothing is ruled out."""

REDUCED = 2
"""By what a brain is reduced along each axis before it is looked at."""

PLACES = 3
"""Channels behind the contrasts that say where in the template a voxel lies, mm."""

_SCALE_MM, _SCALE_LOG = 40.0, 4.0
"""What places and the logarithm of the atlas are divided by."""
_HIDDEN = 32
_RARELY = -4.0
"""First logit: before anything is learned, no voxel is likely to be a lesion."""


class ContextNetwork(nn.Module):
    """A 3D U-Net whose last layers know the place in the head, and an atlas of lesions.

    It tells large lesions from normal tissue by what lies around them, and misses small ones, so it
    is asked beside networks that look closely; see `weigh`.

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    widths
        Feature channels of each resolution, finest first. Each but the first halves the brain.
    """

    atlas: Tensor
    """`ATLAS_SHAPE`, how often lesions are there, 0 to 1."""

    def __init__(self, channels_in: int, widths: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.channels_in = channels_in
        self.backbone = UNetBackbone(channels_in, widths)
        self.divisor = REDUCED * self.backbone.divisor
        head = nn.Conv3d(_HIDDEN, 1, 1, bias=True)
        with torch.no_grad():
            head.bias.fill_(_RARELY)  # type: ignore[union-attr]
        self.last = nn.Sequential(
            nn.Conv3d(widths[0] + PLACES + 1, _HIDDEN, 1), nn.LeakyReLU(0.01, inplace=True), head
        )
        self.register_buffer("atlas", torch.zeros(ATLAS_SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        """Map brains to logits of lesions.

        Parameters
        ----------
        x
            (N, C + `PLACES`, X, Y, Z) float32: contrasts as z-scores, 0 outside the brain and where
            one is missing; and places. The sides must be divisible by `divisor`.

        Returns
        -------
        Tensor
            (N, 1, X, Y, Z) float32.
        """
        images, places = (
            F.avg_pool3d(part, REDUCED)
            for part in (x[:, : self.channels_in], x[:, self.channels_in :].float())
        )
        features = self.backbone.features(images)
        logits = self.last(torch.cat([features, self._describe(places).to(features.dtype)], dim=1))
        size = x.shape[2:]
        return F.interpolate(logits.float(), size=size, mode="trilinear", align_corners=False)

    def _describe(self, places: Tensor) -> Tensor:
        """Give distance to the midline, the other coordinates, and how usual lesions are there."""
        origin, sizes = (
            torch.tensor(values, device=places.device, dtype=torch.float32)
            for values in (ATLAS_ORIGIN_MM, ATLAS_SHAPE)
        )
        index = (places.movedim(1, -1) - origin) / ATLAS_MM
        grid = (2 * index / (sizes - 1) - 1).flip(-1)
        with torch.autocast(places.device.type, enabled=False):
            atlas = self.atlas[None, None].expand(len(places), -1, -1, -1, -1)
            usual = F.grid_sample(atlas, grid, padding_mode="border", align_corners=True)
        beside, rest = places[:, :1].abs() / _SCALE_MM, places[:, 1:] / _SCALE_MM
        return torch.cat([beside, rest, torch.log(usual + RARE) / _SCALE_LOG], dim=1)


def evaluate_context(
    network: ContextNetwork, volume: Tensor, brain: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Ask a network about a brain.

    Parameters
    ----------
    network
        In evaluation mode.
    volume
        (C, X, Y, Z) float32, normalised contrasts; 0 where one is missing.
    brain
        (X, Y, Z) bool.
    places
        (X, Y, Z, 3) float32, where each voxel lies in the template, mm.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in (0, 1); 0 outside the brain, and around its largest piece.
    """
    probability = np.zeros(brain.shape, np.float32)
    if not brain.any():
        return probability
    # How much lies around a brain matters to instance norms: stray voxels must not make it more.
    pieces, _ = ndimage.label(brain)
    largest = int(np.bincount(pieces.ravel())[1:].argmax())
    box = ndimage.find_objects(pieces)[largest]
    where = torch.from_numpy(np.moveaxis(places[box], -1, 0).astype(np.float32))
    inputs = torch.cat([volume[(slice(None), *box)], where])
    x, y, z = inputs.shape[1:]
    pad = [side for size in (z, y, x) for side in (0, -size % network.divisor)]
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network(F.pad(inputs, pad)[None].to(device))[0, 0, :x, :y, :z]
    found = torch.sigmoid(logits).cpu().numpy()
    probability[box] = np.where(brain[box], found, np.float32(0))
    return probability


def weigh(previous: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Take the mean of the log-odds of two maps, with the weight `CONTEXT` for the second.

    Parameters
    ----------
    previous
        (X, Y, Z) float32 in [0, 1], of networks that look closely.
    said
        The same of a `ContextNetwork`; what is below `LEAST` counts as much as that.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1]; 0 where `previous` is.
    """
    with np.errstate(divide="ignore"):
        closely = logit(np.minimum(previous, np.float32(1 - 1e-7)))
    odds = (1 - CONTEXT) * closely + CONTEXT * logit(np.clip(said, LEAST, 1 - LEAST))
    return expit(odds).astype(np.float32)
