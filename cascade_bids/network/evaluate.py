"""Ask a network about a whole volume, in the way that suits it."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from cascade_bids.network.architectures import PatchClassifier, PatchNetwork
from cascade_bids.network.context import ContextNetwork
from cascade_bids.network.dense import evaluate_dense, evaluate_patches
from cascade_bids.network.jets import JetNetwork
from cascade_bids.network.segmenters import SegmentationNetwork
from cascade_bids.network.windows import evaluate_windows

LesionNetwork = PatchClassifier | SegmentationNetwork | ContextNetwork | JetNetwork
"""What finds lesions."""


class LesionMaps(NamedTuple):
    """What networks say of every voxel."""

    probability: np.ndarray
    """(X, Y, Z) float32 in [0, 1], of a lesion; 0 outside the candidates."""
    spheres: np.ndarray | None
    """The same of a sphere around a lesion's centre, from networks with a sphere head, or None."""


def evaluate(
    network: PatchClassifier | SegmentationNetwork, volume: Tensor, candidates: np.ndarray
) -> LesionMaps:
    """Give each candidate what the network says of it.

    Networks on crops see window by window, patch networks that don't pad the volume at once, and
    the others patch by patch.

    Parameters
    ----------
    network
        In evaluation mode.
    volume
        (C, X, Y, Z) float32, what the network takes.
    candidates
        (X, Y, Z) bool.

    Returns
    -------
    LesionMaps
        0 where no candidate is.
    """
    if isinstance(network, SegmentationNetwork):
        maps = evaluate_windows(network, volume, candidates)
        return LesionMaps(maps[0], maps[1] if network.spheres else None)
    if isinstance(network, PatchNetwork):
        return LesionMaps(evaluate_dense(network, volume, candidates), None)
    return LesionMaps(evaluate_patches(network, volume, candidates), None)
