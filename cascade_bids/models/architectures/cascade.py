"""The network of both stages of the default method: a residual 3D U-Net without normalisation."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models.architectures.losses import masked_dice_cross_entropy
from cascade_bids.models.card import MethodCard
from cascade_bids.models.network import LesionMaps, TrainableNetwork, Volume
from cascade_bids.models.registry import register
from cascade_bids.models.training_data import TrainingData

BLOCK = 2
"""Voxels a side of the blocks that become one voxel with more channels."""

WINDOW = (64, 64, 64)
"""Voxels of the crops that it learns from."""

CROSS_ENTROPY = 10.0
"""Weight of the cross-entropy beside the Dice loss, which alone says 0 where a lesion is less than
likely, as small ones are."""

SLOPE = 0.01
"""Of the rectifier below 0."""

GAIN = math.sqrt(2 / (1 + SLOPE**2 - (1 - SLOPE) ** 2 / math.pi))
"""Restores the standard deviation of 1 that the rectifier takes from normal values."""


@register("CascadeUNet")
class CascadeUNet(TrainableNetwork):
    """A residual 3D U-Net (Çiçek et al., 2016, doi 10.1007/978-3-319-46723-8_49) on blocks of 2³.

    No feature is normalised over space, so a crop and a whole brain give the same values. The
    weights are standardised instead (Brock et al., ICLR 2021, arXiv 2101.08692), which takes no
    pass over the features.

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    cascaded
        Whether the probability after the stage before is a further channel.
    widths
        Feature channels of each resolution, from that of the blocks on.
    """

    stored_in_half_precision = True
    gains_from_bfloat16 = True
    goes_on = True
    adapts_whole = True

    def __init__(
        self, channels_in: int, cascaded: bool, widths: Sequence[int] = (32, 64, 128, 192)
    ) -> None:
        super().__init__()
        self.channels_in, self.cascaded = channels_in, cascaded
        # The brain mask tells what lies outside from what is as bright as the mean.
        self.first = _Convolution((channels_in + 1 + cascaded) * BLOCK**3, widths[0], gain=1.0)
        self.down = nn.ModuleList(_Convolution(a, b, stride=2) for a, b in pairwise(widths))
        self.before = nn.ModuleList(_Residual(width) for width in widths)
        self.up = nn.ModuleList(_Convolution(b, a, size=1, gain=0.5) for a, b in pairwise(widths))
        self.after = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.head = nn.Conv3d(widths[0], BLOCK**3, 1)
        self.divisor = BLOCK * 2 ** (len(widths) - 1)
        nn.init.normal_(self.head.weight, std=0.01)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -4.0)  # few voxels are lesion

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        return (
            f"a cascade of {len(card.stages)} residual 3D U-Nets [6]: the first proposes "
            "candidates, the second learned from what the first wrongly finds, and decides among "
            "them"
        )

    @classmethod
    def build(cls, data: TrainingData, **arguments: Any) -> Self:
        """Build a network to train; a later stage starts as the one before, and sees it."""
        network = super().build(data, cascaded=data.stage > 1, **arguments)
        source = data.start or data.previous
        if source is not None:
            weights = source.state_dict()
            # What the stage before says, the last channel, has no part at first.
            known = weights["first.weight"]
            whole = torch.zeros_like(network.first.weight)
            whole[:, : known.shape[1]] = known
            network.load_state_dict({**weights, "first.weight": whole})
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Map a crop to logits.

        Parameters
        ----------
        x
            (N, C, X, Y, Z) float32: contrasts, brain mask, and the probability after the stage
            before if `cascaded`; X, Y, Z divisible by `divisor`.

        Returns
        -------
        Tensor
            (N, 1, X, Y, Z).
        """
        x = _split_blocks(x).contiguous(memory_format=torch.channels_last_3d)
        x = self.before[0](self.first(x))
        skips = []
        for down, block in zip(self.down, self.before[1:], strict=True):
            skips.append(x)
            x = block(down(_rectify(x)))
        for up, block in reversed(list(zip(self.up, self.after, strict=True))):
            finer = F.interpolate(up(_rectify(x)), scale_factor=2.0, mode="nearest")
            x = block(finer + skips.pop())
        return _join_blocks(self.head(_rectify(x)))

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Predict the whole volume at once; as of the base class."""
        device = self.head.weight.device
        brain = torch.from_numpy(volume.brain.astype(np.float32))
        parts = [volume.channels[: self.channels_in], brain[None]]
        if self.cascaded:
            parts.append(torch.from_numpy(previous)[None])
        shape = candidates.shape
        beyond = [side for size in reversed(shape) for side in (0, -size % self.divisor)]
        with torch.inference_mode():
            logits = self(F.pad(torch.cat(parts), beyond)[None].to(device))[0, 0]
            found = torch.sigmoid(logits.float()).cpu().numpy()
        inside = found[tuple(slice(0, size) for size in shape)]
        return LesionMaps(np.where(candidates, inside, np.float32(0)))

    def fit(self, data: TrainingData) -> None:
        """Learn from augmented crops by Dice loss and cross-entropy; as of the base class."""
        data.train(self, data.augmented_crops(WINDOW, cascaded=self.cascaded), cascade_loss)

    def adapt(self, data: TrainingData) -> int | None:
        """Go on learning, as `fit`; as of the base class."""
        self.fit(data)
        return None


def cascade_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the sum of cross-entropy and soft Dice loss against partial volumes.

    Parameters
    ----------
    logits
        (N, 1, X, Y, Z) float32.
    target
        (N, 2, X, Y, Z) float32: part of each voxel that is lesion, and its weight.

    Returns
    -------
    Tensor
        Scalar; the Dice loss is that of the whole batch.
    """
    return masked_dice_cross_entropy(
        logits, target[:, :1], target[:, 1:], batch=True, cross_entropy=CROSS_ENTROPY
    )


class _Convolution(nn.Module):
    """A convolution of `size`³ with standardised weights, which begin with a gain."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        size: int = 3,
        stride: int = 1,
        gain: float = GAIN,
    ) -> None:
        super().__init__()
        # Their size has no effect on the output, but the smaller they are the faster they turn.
        weight = torch.randn(channels_out, channels_in, size, size, size)
        self.weight = nn.Parameter(weight / math.sqrt(channels_in * size**3))
        self.gain = nn.Parameter(torch.full((channels_out,), gain))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.stride, self.padding = stride, size // 2

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.flatten(1)
        variance, mean = torch.var_mean(weight, dim=1, keepdim=True, correction=0)
        scale = self.gain[:, None] * torch.rsqrt(variance * weight.shape[1] + 1e-4)
        weight = ((weight - mean) * scale).view_as(self.weight)
        return F.conv3d(x, weight, self.bias, stride=self.stride, padding=self.padding)


class _Residual(nn.Module):
    """Two convolutions whose sum with the input begins as the input alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _Convolution(width, width), _Convolution(width, width, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(_rectify(self.first(_rectify(x))))


def _rectify(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _split_blocks(x: Tensor) -> Tensor:
    """Map (N, C, X, Y, Z) to (N, 8 C, X/2, Y/2, Z/2)."""
    n, c, *size = x.shape
    a, b, d = (side // BLOCK for side in size)
    x = x.view(n, c, a, BLOCK, b, BLOCK, d, BLOCK)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, c * BLOCK**3, a, b, d)


def _join_blocks(x: Tensor) -> Tensor:
    """Map (N, 8, X, Y, Z) to (N, 1, 2 X, 2 Y, 2 Z)."""
    n, _, a, b, d = x.shape
    x = x.reshape(n, BLOCK, BLOCK, BLOCK, a, b, d).permute(0, 4, 1, 5, 2, 6, 3)
    return x.reshape(n, 1, a * BLOCK, b * BLOCK, d * BLOCK)
