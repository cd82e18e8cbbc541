"""Network architectures, as plain modules that know nothing of images on disk."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class UNet(nn.Module):
    """A small 3D U-Net (Çiçek et al., MICCAI 2016, doi 10.1007/978-3-319-46723-8_49).

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    widths
        Feature channels of each resolution, finest first.
    """

    def __init__(self, channels_in: int = 1, widths: Sequence[int] = (8, 16, 32, 64, 96)) -> None:
        super().__init__()
        sources = [channels_in, *widths[:-1]]
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in zip(sources, widths, strict=True))
        self.up = nn.ModuleList(
            _convolutions(deep + fine, fine)
            for deep, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv3d(widths[0], 1, 1)
        self.divisor = 2 ** (len(widths) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, X, Y, Z) to logits (N, 1, X, Y, Z); X, Y, Z divisible by `divisor`."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], dim=1))
        return self.head(x)


class PatchNetwork(nn.Module):
    """The 7-layer network of Valverde et al. 2017 (NeuroImage 155:159, section 2.3).

    Convolution, pooling, convolution, pooling, a dense layer with dropout and the softmax layer,
    written without a flattening step so that `network.dense` can evaluate it on whole volumes.

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    widths
        Feature channels of the two convolutions.
    hidden
        Units of the dense layer.

    Notes
    -----
    The authors' code pads the patch with zeros before each convolution. Here nothing is padded, so
    a voxel's value depends only on the image around it, and evaluating patch by patch or a whole
    volume at once is the same. The 9³ map behind the first convolution pools to 4³, so the last
    slice of each axis of the patch is not seen: 10³ of the 11³ voxels count.
    """

    patch_size = 11

    def __init__(
        self, channels_in: int, widths: Sequence[int] = (32, 64), hidden: int = 256
    ) -> None:
        super().__init__()
        first, second = widths
        self.layers = nn.Sequential(
            nn.Conv3d(channels_in, first, 3),
            nn.BatchNorm3d(first),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(first, second, 3),
            nn.BatchNorm3d(second),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Dropout3d(0.5),
            nn.Conv3d(second, hidden, 1),
            nn.ReLU(),
            nn.Dropout3d(0.5),
            nn.Conv3d(hidden, 2, 1),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, C, 11, 11, 11) to logits (N, 2): no lesion, lesion."""
        return self.layers(patches).flatten(1)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"UNet": UNet, "PatchNetwork": PatchNetwork}
"""The names that cards use."""
