"""A network that sees a whole brain at once, at half the resolution."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit, logit
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models.architectures.unet import UNetBackbone
from cascade_bids.models.card import MethodCard, ModelCard, load_model_card
from cascade_bids.models.network import LesionMaps, LesionNetwork, Volume
from cascade_bids.models.registry import register
from cascade_bids.models.weights import load_network
from cascade_bids.preprocess.coordinates import ATLAS_MM, ATLAS_ORIGIN_MM, ATLAS_SHAPE, RARE
from cascade_bids.preprocess.masks import largest_component

CONTEXT_WEIGHT = 1 / 5
"""Weight of such a network's log-odds beside those of the stages before."""

LEAST = 1e-4
"""Lowest probability that counts: small lesions are missed, so nothing is ruled out."""

REDUCED = 2
"""By what a brain is reduced along each axis before the network sees it."""

COORDINATES = 3
"""Channels behind the contrasts that hold the coordinates in the template, mm."""

SHIPPED = "context"
"""Name of the card of the network that comes with the program."""

FIRST_KERNEL = "backbone.down.0.0.weight"
"""What sees the contrasts."""

_SCALE_MM, _SCALE_LOG = 40.0, 4.0
"""What coordinates and the logarithm of the atlas are divided by."""

_HIDDEN = 32

_RARELY = -4.0
"""First logit: before anything is learned, no voxel is likely to be a lesion."""


@cache
def shipped_card() -> ModelCard:
    """Load the card of the network that comes with the program, once in a process."""
    return load_model_card(SHIPPED)


@register("ContextNetwork")
class ContextNetwork(LesionNetwork):
    """A 3D U-Net whose last layers take coordinates in the template, and an atlas of lesions.

    It tells large lesions from normal tissue by what lies around them, and misses small ones, so it
    only refines the stages before; see `weigh`.

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    widths
        Feature channels of each resolution, finest first. Each but the first halves the brain.
    """

    # Half the size, and the logits change by far less than they are uncertain.
    stored_in_half_precision = True
    gains_from_bfloat16 = True

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
            nn.Conv3d(widths[0] + COORDINATES + 1, _HIDDEN, 1),
            nn.LeakyReLU(0.01, inplace=True),
            head,
        )
        self.register_buffer("atlas", torch.zeros(ATLAS_SHAPE))

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        return (
            "a 3D U-Net that learned from synthetic scans made from label maps, and sees the whole "
            "brain at half the resolution"
        )

    @classmethod
    def load_for(cls, contrasts: Sequence[str], device: torch.device) -> "ContextNetwork":
        """Load the network that `train-context` trained, for a method of certain contrasts.

        Its file is that of its card: trainings check all weights once, when they start.

        Contrasts that the method doesn't take are missing to the network, and those that the
        network doesn't know have no effect.

        Parameters
        ----------
        contrasts
            Channels of the method, in this order.
        device
            Where the network goes.

        Returns
        -------
        ContextNetwork
            In evaluation mode.

        Raises
        ------
        StartError
            When its weights are missing or damaged.
        """
        card = shipped_card()
        state = load_network(card.stages[0], device=device, checked=True).state_dict()
        seen = state[FIRST_KERNEL]
        kernel = seen.new_zeros((len(seen), len(contrasts), *seen.shape[2:]))
        for number, name in enumerate(contrasts):
            if name in card.contrasts:
                kernel[:, number] = seen[:, card.contrasts.index(name)]
        network = cls.create(channels_in=len(contrasts)).to(device)
        network.load_state_dict({**state, FIRST_KERNEL: kernel})
        return network.eval()

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Refine the probability of the stages before; as of the base class."""
        found = evaluate_context(self, volume.channels, volume.brain, volume.coordinates)
        return LesionMaps(np.where(candidates, weigh(previous, found), np.float32(0)))

    def merge(
        self, previous: np.ndarray, maps: Sequence[LesionMaps], combination: str
    ) -> np.ndarray:
        """Return the refined probability."""
        return maps[-1].probability

    def forward(self, x: Tensor) -> Tensor:
        """Map brains to logits of lesions.

        Parameters
        ----------
        x
            (N, C + `COORDINATES`, X, Y, Z) float32: contrasts as z-scores, 0 outside the
            brain and where one is missing; and coordinates. The sides must be divisible by
            `divisor`.

        Returns
        -------
        Tensor
            (N, 1, X, Y, Z) float32.
        """
        images, coordinates = (
            F.avg_pool3d(part, REDUCED)
            for part in (x[:, : self.channels_in], x[:, self.channels_in :].float())
        )
        features = self.backbone.features(images)
        logits = self.last(
            torch.cat([features, self._describe(coordinates).to(features.dtype)], dim=1)
        )
        size = x.shape[2:]
        return F.interpolate(logits.float(), size=size, mode="trilinear", align_corners=False)

    def _describe(self, coordinates: Tensor) -> Tensor:
        """Return distance to the midline, the other coordinates, and the atlas there."""
        origin, sizes = (
            torch.tensor(values, device=coordinates.device, dtype=torch.float32)
            for values in (ATLAS_ORIGIN_MM, ATLAS_SHAPE)
        )
        index = (coordinates.movedim(1, -1) - origin) / ATLAS_MM
        grid = (2 * index / (sizes - 1) - 1).flip(-1)
        with torch.autocast(coordinates.device.type, enabled=False):
            atlas = self.atlas[None, None].expand(len(coordinates), -1, -1, -1, -1)
            usual = F.grid_sample(atlas, grid, padding_mode="border", align_corners=True)
        beside, rest = coordinates[:, :1].abs() / _SCALE_MM, coordinates[:, 1:] / _SCALE_MM
        return torch.cat([beside, rest, torch.log(usual + RARE) / _SCALE_LOG], dim=1)


def evaluate_context(
    network: ContextNetwork, volume: Tensor, brain: np.ndarray, coordinates: np.ndarray
) -> np.ndarray:
    """Compute the probabilities of a whole brain.

    Parameters
    ----------
    network
        In evaluation mode.
    volume
        (C, X, Y, Z) float32, normalised contrasts; 0 where one is missing.
    brain
        (X, Y, Z) bool.
    coordinates
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
    box = ndimage.find_objects(largest_component(brain).astype(np.uint8))[0]
    where = torch.from_numpy(np.moveaxis(coordinates[box], -1, 0).astype(np.float32))
    inputs = torch.cat([volume[(slice(None), *box)], where])
    x, y, z = inputs.shape[1:]
    pad = [side for size in (z, y, x) for side in (0, -size % network.divisor)]
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network(F.pad(inputs, pad)[None].to(device))[0, 0, :x, :y, :z]
    found = torch.sigmoid(logits).cpu().numpy()
    probability[box] = np.where(brain[box], found, np.float32(0))
    return probability


def weigh(previous: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Compute the mean of the log-odds of two maps, the second with `CONTEXT_WEIGHT`.

    Parameters
    ----------
    previous
        (X, Y, Z) float32 in [0, 1], of the stages before.
    found
        The same of a `ContextNetwork`; what is below `LEAST` counts as much as that.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1]; 0 where `previous` is.
    """
    with np.errstate(divide="ignore"):
        odds_before = logit(np.minimum(previous, np.float32(1 - 1e-7)))
    odds = (1 - CONTEXT_WEIGHT) * odds_before + CONTEXT_WEIGHT * logit(
        np.clip(found, LEAST, 1 - LEAST)
    )
    return expit(odds).astype(np.float32)
