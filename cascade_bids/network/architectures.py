"""Network architectures, as plain modules that know nothing of images on disk."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cascade_bids.network.context import ContextNetwork
from cascade_bids.network.jets import JetNetwork
from cascade_bids.network.segmenters import LesionTiramisu, LesionUNet
from cascade_bids.network.unet import UNet


class PatchClassifier(nn.Module):
    """A network that says of the patch around a voxel whether that voxel lies in a lesion."""

    patch_size: int
    """Voxels along each side of the patch; odd."""
    dense_layers: tuple[tuple[str, ...], ...]
    """Names in `layers` of each dense layer and its rectifier, the one before the output first."""

    layers: nn.Sequential
    channels_in: int
    """Contrasts of the input."""

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, C, S, S, S) to logits (N, 2): no lesion, lesion."""
        return self.layers(patches).flatten(1)


class PatchNetwork(PatchClassifier):
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
    dense_layers = (("9",),)

    def __init__(
        self, channels_in: int, widths: Sequence[int] = (32, 64), hidden: int = 256
    ) -> None:
        super().__init__()
        self.channels_in = channels_in
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


class ElementwisePReLU(nn.Module):
    """A rectifier with a slope of its own for every element (He et al., ICCV 2015), as in Keras.

    Parameters
    ----------
    shape
        Of one sample.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, *shape) to the same shape."""
        return torch.where(x > 0, x, self.slope * x)


class NicmslesionsNetwork(PatchClassifier):
    """The network of nicMSlesions (Valverde et al. 2019, doi 10.1016/j.nicl.2018.101638).

    Two pairs of padded convolutions, each pair followed by pooling, and three dense layers of 256,
    128 and 64 units; every layer has its own rectifier for every element. Modules bear the names of
    the authors' Keras layers.

    Parameters
    ----------
    channels_in
        Contrasts of the input.

    Notes
    -----
    Because it pads inside the patch, a voxel's value depends on where the patch ends, and only
    patch-by-patch evaluation gives the published values.
    """

    patch_size = 11
    dense_layers = (("d3", "prelu_d3"), ("d2", "prelu_d2"), ("d1", "prelu_d1"))

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.channels_in = channels_in
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        side, source = self.patch_size, channels_in
        for level, width in (("1", 32), ("2", 64)):
            for part in ("1", "2"):
                layers[f"conv{level}_{part}"] = nn.Conv3d(source, width, 3, padding=1)
                layers[f"bn_{level}_{part}"] = nn.BatchNorm3d(width, eps=1e-3, momentum=0.01)
                layers[f"prelu_conv{level}_{part}"] = ElementwisePReLU((width, side, side, side))
                source = width
            layers[f"pool{level}"] = nn.MaxPool3d(2)
            side //= 2
        layers["flatten"] = nn.Flatten()
        source *= side**3
        for number, width in (("1", 256), ("2", 128), ("3", 64)):
            layers[f"dr_d{number}"] = nn.Dropout(0.5)
            layers[f"d{number}"] = nn.Linear(source, width)
            layers[f"prelu_d{number}"] = ElementwisePReLU((width,))
            source = width
        layers["out"] = nn.Linear(source, 2)
        self.layers = nn.Sequential(layers)


class Msseg2016Network(PatchClassifier):
    """The network of the NIC-VICOROB team in MSSEG 2016 (Valverde et al., its proceedings).

    Parameters
    ----------
    channels_in
        Contrasts of the input.

    Notes
    -----
    The convolutions are padded and the poolings average, as in the authors' code; the paper leaves
    both open. Evaluated patch by patch, see `NicmslesionsNetwork`.
    """

    patch_size = 15
    dense_layers = (("8",),)

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.channels_in = channels_in
        self.layers = nn.Sequential(
            nn.Conv3d(channels_in, 32, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool3d(2),
            nn.Conv3d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool3d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(64 * 3**3, 256),
            nn.ReLU(),
            nn.Linear(256, 2),
        )


ARCHITECTURES: dict[str, type[nn.Module]] = {
    network.__name__: network
    for network in (
        UNet,
        PatchNetwork,
        NicmslesionsNetwork,
        Msseg2016Network,
        LesionUNet,
        LesionTiramisu,
        ContextNetwork,
        JetNetwork,
    )
}
"""The names that cards use."""
