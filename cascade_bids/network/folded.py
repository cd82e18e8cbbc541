"""A U-Net that sees voxels of 1 mm and works at 2 mm."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cascade_bids.network.segmenters import ANATOMY_CHANNELS, SegmentationNetwork
from cascade_bids.network.unet import UNetBackbone

FINE = 8
"""Features of each voxel of 1 mm that come back from the U-Net."""


class FoldedUNet(SegmentationNetwork):
    """A 3D U-Net on cubes of 2³ voxels; other parameters as the base class.

    The voxels of a cube are folded into channels, so nothing of them is lost, and unfolded behind
    the U-Net, where two convolutions see them beside the images (sub-voxel convolution, Shi et al.
    2016, doi 10.1109/CVPR.2016.207). So nearly all of its work is done on an eighth of the voxels.

    Parameters
    ----------
    widths
        Feature channels of each resolution, from 2 mm on. Each but the first halves the crop.

    Raises
    ------
    ValueError
        When the window cannot be halved that often.
    """

    def __init__(
        self,
        channels_in: int,
        anatomy: bool,
        spheres: bool,
        window: Sequence[int] = (96, 96, 96),
        widths: Sequence[int] = (32, 64, 96, 128),
    ) -> None:
        super().__init__(channels_in, anatomy, spheres, window)
        channels = channels_in + (ANATOMY_CHANNELS if anatomy else 0)
        self.backbone = UNetBackbone(8 * channels, widths)
        self._require_divisible(2 * self.backbone.divisor, len(widths))
        self.unfolded = nn.Conv3d(widths[0], 8 * FINE, 1)
        self.last = nn.Sequential(
            nn.Conv3d(FINE + channels, 2 * FINE, 3, padding=1),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Conv3d(2 * FINE, 2 if spheres else 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """As the base class; the sides must be divisible by twice ``backbone.divisor``."""
        features = self.unfolded(self.backbone.features(fold(x)))
        return self.last(torch.cat([unfold(features), x], dim=1))


def fold(x: Tensor) -> Tensor:
    """Map (N, C, X, Y, Z) to (N, 8 C, X / 2, Y / 2, Z / 2)."""
    n, c, *sides = x.shape
    a, b, d = (side // 2 for side in sides)
    cubes = x.reshape(n, c, a, 2, b, 2, d, 2)
    return cubes.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * c, a, b, d)


def unfold(x: Tensor) -> Tensor:
    """Map (N, 8 C, X, Y, Z) to (N, C, 2 X, 2 Y, 2 Z); the inverse of `fold`."""
    n, c, a, b, d = x.shape
    cubes = x.reshape(n, c // 8, 2, 2, 2, a, b, d)
    return cubes.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // 8, 2 * a, 2 * b, 2 * d)
