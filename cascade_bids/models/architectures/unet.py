"""The 3D U-Net, with its head and without."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models.registry import Architecture, register


def _convolutions(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two 3³ convolutions, each with instance norm, so that contrast and gain don't matter."""
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [
            nn.Conv3d(source, channels_out, 3, padding=1, bias=False),
            nn.InstanceNorm3d(channels_out, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNetBackbone(Architecture):
    """A small 3D U-Net without its head (Çiçek et al., 2016, doi 10.1007/978-3-319-46723-8_49).

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    widths
        Feature channels of each resolution, finest first.
    """

    def __init__(self, channels_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        sources = [channels_in, *widths[:-1]]
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in zip(sources, widths, strict=True))
        self.up = nn.ModuleList(
            _convolutions(deep + fine, fine)
            for deep, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.divisor = 2 ** (len(widths) - 1)

    def features(self, x: Tensor) -> Tensor:
        """Map (N, C, X, Y, Z) to (N, widths[0], X, Y, Z); X, Y, Z divisible by `divisor`."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], dim=1))
        return x


@register("UNet")
class UNet(UNetBackbone):
    """A small 3D U-Net that gives one logit a voxel; parameters as `UNetBackbone`."""

    def __init__(self, channels_in: int = 1, widths: Sequence[int] = (8, 16, 32, 64, 96)) -> None:
        super().__init__(channels_in, widths)
        self.head = nn.Conv3d(widths[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, X, Y, Z) to logits (N, 1, X, Y, Z); X, Y, Z divisible by `divisor`."""
        return self.head(self.features(x))
