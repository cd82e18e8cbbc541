"""Evaluate a segmentation network on a whole volume, window by window."""

import numpy as np
import torch
from torch import Tensor

from cascade_bids.network.segmenters import SegmentationNetwork

OVERLAP = 0.5
"""Part of a window that the next one sees again. With 0.25 a voxel's best window may show as little
as an eighth of its side around it, 6 of 48 slices, which is less than the networks look at."""


def evaluate_windows(network: SegmentationNetwork, volume: Tensor, brain: np.ndarray) -> np.ndarray:
    """Give each brain voxel its probabilities: the mean over all windows that show it.

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
    """Give the brain's bounding box, widened to the window as far as the volume goes."""
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
