"""From a probability map to numbered lesions."""

import numpy as np
from scipy import ndimage

CONNECTED = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner are one lesion (26-connected)."""


def label_lesions(
    probability: np.ndarray,
    *,
    threshold: float,
    min_lesion_mm3: float,
    voxel_mm3: float,
    peak: float = 0.0,
    highest: np.ndarray | None = None,
) -> np.ndarray:
    """Threshold a probability map and number its lesions.

    A lesion is a 26-connected component of the voxels at or above the threshold. Lesions smaller
    than the minimum, and those that are nowhere as sure as the peak, are dropped; the others are
    numbered from 1 by descending volume, and among equals by the first voxel in array order, so the
    same map gives the same numbers.

    Parameters
    ----------
    probability : (X, Y, Z) float array
        Lesion probability, in [0, 1].
    threshold : float
        Lowest probability of a lesion voxel, above 0 and at most 1.
    min_lesion_mm3 : float
        Smallest volume of a lesion that is kept, mm³, at least 0.
    voxel_mm3 : float
        Volume of a voxel, mm³, above 0.
    peak : float
        Lowest probability of the surest voxel of a lesion that is kept, in [0, 1].
    highest : (X, Y, Z) float array
        What the peak is looked for in: of a map that was resampled, the highest probability in each
        voxel before; the map itself when None.

    Returns
    -------
    (X, Y, Z) int32 array
        0 outside lesions, else the lesion's number.

    Raises
    ------
    ValueError
        If the map is not 3D, holds a value outside [0, 1] or NaN, or a setting is out of range.
    """
    if probability.ndim != 3:
        raise ValueError(f"a probability map has 3 axes, this one {probability.ndim}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("the probability map holds NaN or values outside [0, 1]")
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold must be above 0 and at most 1, not {threshold}")
    if not (min_lesion_mm3 >= 0 and voxel_mm3 > 0):
        raise ValueError(f"impossible volumes: {min_lesion_mm3=}, {voxel_mm3=}")
    if not 0 <= peak <= 1:
        raise ValueError(f"the peak must be in [0, 1], not {peak}")

    components, count = ndimage.label(probability >= threshold, structure=CONNECTED)
    if peak > threshold:
        peaks = find_peaks(probability if highest is None else highest, components, count)
        sure = peaks >= peak
        components[~np.append(False, sure)[components]] = 0
    return number_lesions(components, min_lesion_mm3=min_lesion_mm3, voxel_mm3=voxel_mm3)


def find_peaks(probability: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Give the highest probability in each lesion.

    Parameters
    ----------
    probability : float array
        In [0, 1], of any shape.
    labels : int array of the same shape
        Numbers of lesions from 1; 0 outside of them.
    count : int
        How many there are.

    Returns
    -------
    (count,) float array
    """
    highest = np.zeros(count + 1)
    inside = labels > 0
    np.maximum.at(highest, labels[inside], probability[inside])
    return highest[1:]


def number_lesions(
    components: np.ndarray, *, min_lesion_mm3: float, voxel_mm3: float
) -> np.ndarray:
    """Drop small lesions and number the others from 1 by descending volume.

    Parameters
    ----------
    components : (X, Y, Z) int array
        A number of its own for each lesion, in any order; 0 outside lesions.
    min_lesion_mm3 : float
        Smallest volume of a lesion that is kept, mm³, at least 0.
    voxel_mm3 : float
        Volume of a voxel, mm³, above 0.

    Returns
    -------
    (X, Y, Z) int32 array
        0 outside the lesions that are kept, else the lesion's number; of equals, the one with the
        first voxel in array order comes first.
    """
    found, first, counts = np.unique(
        components[components > 0], return_index=True, return_counts=True
    )
    numbers = np.zeros(components.max(initial=0) + 1, dtype=np.int32)
    large = np.flatnonzero(counts >= min_voxels(min_lesion_mm3, voxel_mm3))
    order = large[np.lexsort((first[large], -counts[large]))]
    numbers[found[order]] = np.arange(1, len(order) + 1)
    return numbers[components]


def min_voxels(min_lesion_mm3: float, voxel_mm3: float) -> float:
    """Give the least number of voxels that has a volume.

    Affines are often stored in single precision: ten voxels of 0.9999999 mm³ are 10 mm³.
    """
    return min_lesion_mm3 / voxel_mm3 * (1 - 1e-6)
