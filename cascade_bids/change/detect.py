"""Find the voxels that changed between two sessions, from their images and probability maps."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cascade_bids.change.intensity import robust_deviation
from cascade_bids.lesions.label import CONNECTED, min_voxels

SMOOTH_MM = 1.0
"""Standard deviation of the filter on differences, mm."""

EDGE_MM = 1.0
"""Standard deviation of the filter on edges, mm."""

BINS = 20
"""Bins of edge strength, each with a noise level."""

GAIN = 0.02
"""Part of the intensity that counts as noise, however little noise there is."""


@dataclass(frozen=True)
class ChangeCriterion:
    """What counts as change of a voxel.

    The evidence of a voxel is the difference of the images in units of the noise, plus the
    difference of the lesion probabilities, up to `ENOUGH`, times a weight. A group of 26-connected
    voxels with enough of both is change if it is large enough, and the evidence of one of its
    voxels reaches the peak. Of the group, what is changed by less than a part of what most of it is
    changed by is its blurred rim, and no change.
    """

    weight: float
    """Of the difference of the lesion probabilities, in units of the noise."""
    grow: float
    """Smallest evidence."""
    peak: float
    """Evidence that one voxel reaches."""
    rise: float
    """Smallest difference of the lesion probabilities."""
    rim: float
    """Part of the difference of the images, as most of the group has it, that a voxel needs."""
    min_mm3: float
    """Smallest volume."""


CRITERION = ChangeCriterion(10.0, 3.0, 8.0, 0.05, 0.5, 3.0)
"""As `benchmarks.change fit` chose it on lesions painted into thick slices."""

ENOUGH = 0.3
"""Difference of lesion probabilities beyond which a larger one is no further evidence: maps alone
make no change."""

MOST = 90
"""Percentile of the differences in a group that stands for most of it."""


def score_difference(first: np.ndarray, second: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Compute how much brighter the second of two images is, in units of the noise.

    The noise is the robust standard deviation of the differences in normal-appearing tissue, among
    voxels with edges of the same strength: at an edge, a small rest of motion, or another mixture
    of tissues in a slice, makes large differences. It is at least a part `GAIN` of the intensity.

    Parameters
    ----------
    first, second
        (X, Y, Z) float matched intensities on one grid of 1 mm.
    normal
        (X, Y, Z) bool, normal-appearing tissue.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32; exchanging the images changes the sign.
    """
    difference = ndimage.gaussian_filter(second - first, SMOOTH_MM)
    edges = ndimage.gaussian_gradient_magnitude((first + second) / 2, EDGE_MM)
    limits = np.unique(np.quantile(edges[normal], np.linspace(0, 1, BINS + 1)))
    middles = (limits[:-1] + limits[1:]) / 2
    which = np.digitize(edges[normal], limits[1:-1])
    levels = [robust_deviation(difference[normal][which == bin_]) for bin_ in range(len(middles))]
    # Stronger edges are never less noisy.
    noise = np.interp(edges, middles, np.maximum.accumulate(levels))
    noise = np.maximum(noise, GAIN * (first + second) / 2)
    return np.divide(
        difference, noise, out=np.zeros(noise.shape, np.float32), where=noise > 0, dtype=np.float32
    )


def find_appeared(
    score: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    threshold: float,
    criterion: ChangeCriterion,
    *,
    voxel_mm3: float,
) -> np.ndarray:
    """Find the voxels that became lesion.

    Parameters
    ----------
    score
        (X, Y, Z) from `score_difference`, later minus earlier session; with its sign turned and the
        sessions exchanged, what is found is what was lesion before.
    before, after
        (X, Y, Z) lesion probability in both sessions.
    threshold
        Lowest probability of a lesion voxel: what reached it before has not become lesion.
    criterion
        What counts as change.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool.
    """
    rise = after - before
    evidence = score + criterion.weight * np.minimum(rise, ENOUGH)
    grown = (evidence >= criterion.grow) & (score > 0) & (rise >= criterion.rise)
    grown &= before < threshold
    smallest = min_voxels(criterion.min_mm3, voxel_mm3)
    groups, count = ndimage.label(grown, structure=CONNECTED)
    peaks = grown & (evidence >= criterion.peak)
    is_kept = np.bincount(groups.ravel(), minlength=count + 1) >= smallest
    has_peak = np.zeros(count + 1, bool)
    has_peak[groups[peaks]] = True
    is_kept &= has_peak
    is_kept[0] = False
    found = np.zeros(score.shape, bool)
    boxes = ndimage.find_objects(groups)
    for number in np.flatnonzero(is_kept):
        box = boxes[number - 1]
        group = groups[box] == number
        core = group & (score[box] >= criterion.rim * np.percentile(score[box][group], MOST))
        # Without its rim, a group may be several.
        parts, count = ndimage.label(core, structure=CONNECTED)
        large = np.bincount(parts.ravel(), minlength=count + 1) >= smallest
        large[0] = False
        found[box] |= large[parts]
    return found
