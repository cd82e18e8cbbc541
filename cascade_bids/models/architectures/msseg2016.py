"""The network of the NIC-VICOROB team in the MSSEG 2016 challenge."""

from torch import nn

from cascade_bids.models.architectures.patch_classifier import PatchClassifier
from cascade_bids.models.card import MethodCard
from cascade_bids.models.registry import register


@register("Msseg2016Network")
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

    published = True
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

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        return (
            "two 3D convolutional neural networks on patches of 15 × 15 × 15 voxels [6], whose "
            "probabilities were multiplied"
        )
