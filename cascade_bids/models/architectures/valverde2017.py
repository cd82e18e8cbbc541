"""The seven-layer network of Valverde et al. 2017."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from cascade_bids.models.architectures.patch_classifier import PatchClassifier, evaluate_dense
from cascade_bids.models.card import MethodCard
from cascade_bids.models.network import LesionMaps, Volume
from cascade_bids.models.registry import register


@register("PatchNetwork")
class Valverde2017Network(PatchClassifier):
    """The 7-layer network of Valverde et al. 2017 (NeuroImage 155:159, section 2.3).

    Convolution, pooling, convolution, pooling, a dense layer with dropout and the softmax layer,
    written without a flattening step so that `evaluate_dense` can evaluate it on whole volumes.

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

    published = True
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

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        return (
            "a cascade of two seven-layer 3D convolutional neural networks on patches of "
            "11 × 11 × 11 voxels [6]: the first proposes candidates among the voxels that are "
            "bright on FLAIR, the second decides among the candidates"
        )

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Predict a whole volume at once; as of the base class."""
        return LesionMaps(evaluate_dense(self, volume.channels, candidates))
