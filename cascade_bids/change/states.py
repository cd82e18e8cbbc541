"""Judge all sessions of a participant together: where there is lesion in each of them."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cascade_bids.change.detect import Changes
from cascade_bids.lesions.label import CONNECTED, OperatingPoint, label_lesions

REST = 0.05
"""Part of a lesion that is too small for a lesion that was there before, or stays."""


def judge_together(
    probabilities: np.ndarray,
    changes: Sequence[Changes],
    point: OperatingPoint,
    *,
    voxel_mm3: float,
) -> np.ndarray:
    """Decide for each session which voxels are lesion, so that they differ only where change is.

    A voxel that never changes is lesion in all sessions or in none, by its mean probability. One
    that changes is lesion from where it appeared, and no longer from where it is gone. What touches
    a change is part of it if it is no lesion by the session's own map, or less than `REST` of what
    it becomes or was, so that a new lesion is not called an enlarged one for a few voxels.

    Parameters
    ----------
    probabilities
        (N, X, Y, Z) lesion probability of each session, in the order of time.
    changes
        What changed in each of the N - 1 intervals.
    point
        Threshold, smallest lesion and smallest peak, applied to the mean probability.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    numpy.ndarray
        (N, X, Y, Z) bool.
    """
    mean = label_lesions(probabilities.mean(axis=0), point, voxel_mm3=voxel_mm3) > 0
    lasting = np.logical_or.reduce([one.lasting for one in changes])
    # Before its first change, a voxel was what the change ends.
    first = mean | lasting
    undecided = np.ones(mean.shape, bool)
    for up, down, _ in changes:
        first = np.where(undecided & (up | down), down, first)
        undecided &= ~(up | down)
    states = np.empty(probabilities.shape, bool)
    states[0] = first
    for number, (up, down, _) in enumerate(changes, start=1):
        states[number] = (states[number - 1] | up) & ~down
    own = [label_lesions(one, point, voxel_mm3=voxel_mm3) > 0 for one in probabilities]
    for number, (up, down, _) in enumerate(changes, start=1):
        before, after = states[number - 1].copy(), states[number].copy()
        states[:number] &= ~_find_rest(before, after, up, own[number - 1] | lasting)
        states[number:] &= ~_find_rest(after, before, down, own[number] | lasting)
    return states


def _find_rest(
    state: np.ndarray, other: np.ndarray, changed: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Find what counts as lesion in a session, touches a change to another one, and is part of it.

    `own` is lesion by the session's own map, or by its images.
    """
    groups, count = ndimage.label(state, structure=CONNECTED)
    is_rest = np.zeros(count + 1, bool)
    is_rest[groups[ndimage.binary_dilation(changed, structure=CONNECTED)]] = True
    volumes = np.bincount(groups.ravel(), minlength=count + 1)
    wholes, number = ndimage.label(other, structure=CONNECTED)
    whole_volumes = np.bincount(wholes.ravel(), minlength=number + 1)
    whole_volumes[0] = 0
    becomes = ndimage.maximum(whole_volumes[wholes], groups, np.arange(count + 1))
    is_rest &= ~np.isin(np.arange(count + 1), groups[own]) | (volumes < REST * becomes)
    is_rest[0] = False
    return is_rest[groups]
