"""Networks that map a crop of a scan to a map: ALL-Net on a 3D U-Net or a 2.5D Tiramisu.

ALL-Net is Zhang et al., NeuroImage: Clinical 2021 (doi 10.1016/j.nicl.2021.102854). Its AnaConv
tells the last convolutions where in the head a voxel lies; its lesion-wise loss trains a second
output, the sphere head.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models.architectures.losses import segmentation_loss
from cascade_bids.models.architectures.unet import UNetBackbone
from cascade_bids.models.card import MethodCard
from cascade_bids.models.network import LesionMaps, TrainableNetwork, Volume
from cascade_bids.models.registry import register
from cascade_bids.models.training_data import TrainingData

CPU_WINDOW = (64, 64, 48)
"""Voxels of a crop without a GPU; the published ones are six times as large."""

ANATOMY_CHANNELS = 6
"""Channels that say where a voxel lies: its position (3) and its distances (3)."""


class CropNetwork(TrainableNetwork):
    """A network that maps a crop to logits on the same grid.

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    anatomy
        Whether `ANATOMY_CHANNELS` further channels, all of order 1, follow the contrasts.
    spheres
        Whether there is a second output channel, the sphere head.
    window
        Voxels of the crop along each axis, in training and in use.
    """

    published = True
    gains_from_bfloat16 = True
    anatomy: bool
    spheres: bool
    window: tuple[int, int, int]

    def __init__(
        self, channels_in: int, anatomy: bool, spheres: bool, window: Sequence[int]
    ) -> None:
        super().__init__()
        x, y, z = window
        self.channels_in, self.anatomy, self.spheres = channels_in, anatomy, spheres
        self.window = (x, y, z)

    @classmethod
    def build(cls, data: TrainingData, **arguments: Any) -> Self:
        """Build an untrained network; without a GPU on smaller crops than published."""
        if data.device.type == "cpu":
            arguments["window"] = list(CPU_WINDOW)
        return super().build(data, **arguments)

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Predict window by window; as of the base class."""
        maps = evaluate_windows(self, volume.channels, candidates)
        return LesionMaps(maps[0], maps[1] if self.spheres else None)

    def fit(self, data: TrainingData) -> None:
        """Learn from crops by `segmentation_loss`; as of the base class."""
        data.train(self, data.crops(self.window), segmentation_loss)

    def _require_divisible(self, divisor: int, resolutions: int) -> None:
        if any(size % divisor for size in self.window):
            raise ValueError(
                f"with {resolutions} resolutions each side of the window must be divisible by "
                f"{divisor}, not {self.window}"
            )

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map a crop to logits.

        Parameters
        ----------
        x
            (N, C, X, Y, Z) float32: the contrasts, then the anatomy channels if `anatomy`.

        Returns
        -------
        Tensor
            (N, 1 or 2, X, Y, Z) float32: lesion, and sphere if `spheres`.
        """


@register("LesionUNet")
class LesionUNet(CropNetwork):
    """A 3D U-Net with the last convolutions of ALL-Net; other parameters as the base class.

    Parameters
    ----------
    widths
        Feature channels of each resolution, finest first. Each but the first halves the crop.

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
        window: Sequence[int] = (128, 128, 48),
        widths: Sequence[int] = (16, 32, 64, 128),
    ) -> None:
        super().__init__(channels_in, anatomy, spheres, window)
        self.backbone = UNetBackbone(channels_in, widths)
        self._require_divisible(self.backbone.divisor, len(widths))
        self.last = _last_convolutions(
            nn.Conv3d, widths[0], widths[0], anatomy=anatomy, spheres=spheres
        )

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        count = len(card.stages)
        voted = "s, of whose probabilities the median was taken" if count > 1 else ""
        return f"{count} 3D U-Net{voted} [6]"

    def forward(self, x: Tensor) -> Tensor:
        """As the base class; the sides must be divisible by ``backbone.divisor``."""
        features = self.backbone.features(x[:, : self.channels_in])
        return self.last(torch.cat([features, x[:, self.channels_in :]], dim=1))


@register("LesionTiramisu")
class LesionTiramisu(CropNetwork):
    """A 2.5D Tiramisu with the last convolutions of ALL-Net; other parameters as the base class.

    Each slice of a crop with its neighbours is one image for a `Tiramisu`. One network sees the
    slices of all three planes (Zhang et al., MICCAI 2019, doi 10.1007/978-3-030-32248-9_38): in
    training those of one plane, drawn at random for each pass from torch's global generator; in
    evaluation all, and the logits of the three planes are averaged.

    Parameters
    ----------
    stack
        Slices in one image; odd. Beyond the border of the crop they are 0.
    first, growth, layers
        As of `Tiramisu`.

    Raises
    ------
    ValueError
        When `stack` is even.

    Notes
    -----
    Anatomy channels come from the middle slice, and the last convolutions are 2D like the others.
    """

    def __init__(
        self,
        channels_in: int,
        anatomy: bool,
        spheres: bool,
        window: Sequence[int] = (128, 128, 48),
        stack: int = 3,
        first: int = 16,
        growth: int = 12,
        layers: Sequence[int] = (2, 2, 3, 4),
    ) -> None:
        super().__init__(channels_in, anatomy, spheres, window)
        if stack % 2 == 0:
            raise ValueError(f"a stack has a middle slice, so its size must be odd, not {stack}")
        self.stack = stack
        self.backbone = Tiramisu(stack * channels_in, first, growth, layers)
        self.last = _last_convolutions(
            nn.Conv2d, self.backbone.channels_out, first, anatomy=anatomy, spheres=spheres
        )

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        count = len(card.stages)
        several = "s" if count > 1 else ""
        voted = ", of whose probabilities the median was taken" if count > 1 else ""
        return (
            f"{count} fully convolutional DenseNet{several} on stacks of slices of three "
            f"planes{voted} [6]"
        )

    def forward(self, x: Tensor) -> Tensor:
        """As the base class, for a crop of any size."""
        if self.training:
            return self._plane(x, int(torch.randint(3, ())))
        return (self._plane(x, 0) + self._plane(x, 1) + self._plane(x, 2)) / 3

    def _plane(self, x: Tensor, axis: int) -> Tensor:
        """Return the logits that the slices across one axis lead to."""
        # Slices first; in-plane axes in cyclic order, so that no plane differs from the others.
        order = (0, 2 + axis, 1, 2 + (axis + 1) % 3, 2 + (axis + 2) % 3)
        x = x.permute(order)
        contrasts, anatomy = x[:, :, : self.channels_in], x[:, :, self.channels_in :]
        beyond = self.stack // 2
        padded = F.pad(contrasts, [0] * 6 + [beyond, beyond])
        stacks = padded.unfold(1, self.stack, 1).movedim(-1, 2)
        images = stacks.flatten(2, 3).flatten(0, 1)
        if not self.training:
            # A CPU takes a quarter less time for the same then.
            images = images.contiguous(memory_format=torch.channels_last)
        features = self.backbone(images)
        logits = self.last(torch.cat([features, anatomy.flatten(0, 1)], dim=1))
        back = sorted(range(5), key=order.__getitem__)
        return logits.unflatten(0, x.shape[:2]).permute(back)


class Tiramisu(nn.Module):
    """A fully convolutional DenseNet (Jégou et al. 2017, doi 10.1109/CVPRW.2017.156) in 2D.

    Parameters
    ----------
    channels_in
        Channels of the input.
    first
        Feature channels of the first convolution.
    growth
        Feature channels that each dense layer adds.
    layers
        Dense layers of each resolution, finest first; the last are those of the bottleneck.

    Notes
    -----
    As published: batch norm, dropout of 0.2, a way up that carries only new features, and a last
    dense block that keeps all. Only the numbers of layers and features are smaller.
    """

    channels_out: int
    """Feature channels of the output."""

    def __init__(self, channels_in: int, first: int, growth: int, layers: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, first, 3, padding=1, bias=False)
        self.divisor = 2 ** (len(layers) - 1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        channels, skips = first, []
        for count in layers[:-1]:
            self.down.append(_DenseBlock(channels, growth, count))
            channels += count * growth
            skips.append(channels)
            self.shrink.append(_dense_layer(channels, channels, 1))
        self.bottleneck = _DenseBlock(channels, growth, layers[-1])
        fresh = layers[-1] * growth
        for skip, count in zip(reversed(skips), reversed(layers[:-1]), strict=True):
            self.grow.append(
                nn.ConvTranspose2d(fresh, fresh, 3, stride=2, padding=1, output_padding=1)
            )
            self.up.append(_DenseBlock(fresh + skip, growth, count))
            self.channels_out = fresh + skip + count * growth
            fresh = count * growth

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, X, Y) of any size to features (N, channels_out, X, Y)."""
        height, width = x.shape[2:]
        x = F.pad(x, [0, -width % self.divisor, 0, -height % self.divisor])
        x, skips = self.first(x), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = torch.cat([x, block(x)], dim=1)
            skips.append(x)
            x = F.max_pool2d(shrink(x), 2)
        fresh = self.bottleneck(x)
        for block, grow in zip(self.up, self.grow, strict=True):
            x = torch.cat([grow(fresh), skips.pop()], dim=1)
            fresh = block(x)
        return torch.cat([x, fresh], dim=1)[:, :, :height, :width]


class _DenseBlock(nn.Module):
    """Layers that each see all features before them; gives only the new ones."""

    def __init__(self, channels_in: int, growth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _dense_layer(channels_in + number * growth, growth, 3) for number in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for layer in self.layers:
            found.append(layer(torch.cat([x, *found], dim=1)))
        return torch.cat(found, dim=1)


def _dense_layer(channels_in: int, channels_out: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(channels_in),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=False),
        nn.Dropout(0.2),
    )


def _last_convolutions(
    convolution: type[nn.Conv2d] | type[nn.Conv3d],
    channels_in: int,
    width: int,
    *,
    anatomy: bool,
    spheres: bool,
) -> nn.Sequential:
    """Make the convolutions behind the backbone, AnaConv if they see anatomy, and the heads.

    Nothing is normalised in them: an instance norm would take away where in the head a crop lies.
    """
    seen = channels_in + (ANATOMY_CHANNELS if anatomy else 0)
    return nn.Sequential(
        convolution(seen, width, 3, padding=1),
        nn.LeakyReLU(0.01, inplace=True),
        convolution(width, width, 3, padding=1),
        nn.LeakyReLU(0.01, inplace=True),
        convolution(width, 2 if spheres else 1, 1),
    )


OVERLAP = 0.5
"""Part of a window that the next one sees again. With 0.25 a voxel's best window may show as little
as an eighth of its side around it, 6 of 48 slices, which is less than the networks look at."""


def evaluate_windows(network: CropNetwork, volume: Tensor, brain: np.ndarray) -> np.ndarray:
    """Predict the probabilities of each brain voxel: the mean over all windows that show it.

    The mean is weighted by a Gaussian around the middle of each window, where a network sees most.
    One window at a time is on the network's device, so memory doesn't grow with the volume.

    Parameters
    ----------
    network
        In evaluation mode.
    volume
        (C, X, Y, Z) float32: the contrasts, then the anatomy channels if the network wants them;
        taken as 0 beyond its border.
    brain
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (K, X, Y, Z) float32 in [0, 1], 0 outside the brain; K is 2 for a network with a sphere
        head, else 1.
    """
    # MONAI takes many seconds to import, and only this method needs it.
    from monai.inferers import sliding_window_inference

    probability = np.zeros((2 if network.spheres else 1, *brain.shape), dtype=np.float32)
    if not brain.any():
        return probability
    box = _box(brain, network.window)
    with torch.inference_mode():
        found = sliding_window_inference(
            volume[(slice(None), *box)][None],
            roi_size=network.window,
            sw_batch_size=1,
            predictor=lambda window: torch.sigmoid(network(window).float()),
            overlap=OVERLAP,
            mode="gaussian",
            sw_device=next(network.parameters()).device,
            device=torch.device("cpu"),
        )
    # Rounding of the weighted means may leave [0, 1] by an ulp.
    inside = np.clip(found[0].numpy(), 0, 1)
    probability[(slice(None), *box)] = np.where(brain[box], inside, np.float32(0))
    return probability


def _box(brain: np.ndarray, window: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the brain's bounding box, widened to the window as far as the volume goes."""
    box = []
    for axis, size in enumerate(window):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(brain.any(axis=others))
        start, stop = int(found[0]), int(found[-1]) + 1
        length = max(stop - start, min(size, brain.shape[axis]))
        start = (start + stop - length) // 2
        start = min(max(start, 0), brain.shape[axis] - length)
        box.append(slice(start, start + length))
    return box[0], box[1], box[2]
