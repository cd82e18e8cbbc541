"""Label the lesions of a probability map."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

CONNECTED = np.ones((3, 3, 3), dtype=bool)
"""Neighbourhood of a lesion: voxels that share a face, an edge or a corner (26-connected)."""


@dataclass(frozen=True)
class OperatingPoint:
    """Settings that turn a probability map into lesions.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    threshold: float
    """Lowest probability of a lesion voxel, above 0 and at most 1."""
    min_lesion_mm3: float
    """Smallest lesion: volume that a lesion must reach to be kept, mm³, at least 0."""
    min_peak: float = 0.0
    """Smallest peak: value that the highest probability of a kept lesion must reach, 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"the threshold must be above 0 and at most 1, not {self.threshold}")
        if not self.min_lesion_mm3 >= 0:
            raise ValueError(f"impossible volumes: {self.min_lesion_mm3=}")
        if not 0 <= self.min_peak <= 1:
            raise ValueError(f"the smallest peak must be in [0, 1], not {self.min_peak}")


def label_lesions(
    probability: np.ndarray,
    operating_point: OperatingPoint,
    *,
    voxel_mm3: float,
) -> np.ndarray:
    """Threshold a probability map and number its lesions.

    A lesion is a 26-connected component of the voxels at or above the threshold. Lesions that are
    smaller than the smallest lesion, or have a highest probability below the smallest peak, are
    dropped. The others are numbered from 1 by descending volume; lesions of equal volume are
    numbered by their first voxel in array order.

    Parameters
    ----------
    probability : (X, Y, Z) float array
        Lesion probability, in [0, 1].
    operating_point : OperatingPoint
        Threshold, smallest lesion and smallest peak.
    voxel_mm3 : float
        Volume of a voxel, mm³, above 0.

    Returns
    -------
    (X, Y, Z) int32 array
        0 outside lesions, else the number of the lesion.

    Raises
    ------
    ValueError
        If the map is not 3D, holds NaN or values outside [0, 1], or if voxels have no volume.
    """
    candidates = _find_candidates(probability, operating_point, voxel_mm3=voxel_mm3)
    kept = np.where(candidates.is_sure[candidates.components], candidates.components, 0)
    return number_lesions(kept, min_lesion_mm3=operating_point.min_lesion_mm3, voxel_mm3=voxel_mm3)


def measure_dropped(
    probability: np.ndarray, operating_point: OperatingPoint, *, voxel_mm3: float
) -> dict[str, dict[str, float]]:
    """Measure what each rule of the operating point drops of all that reaches the threshold.

    Parameters, errors
        As of `label_lesions`.

    Returns
    -------
    dict
        ``smallest_peak`` and ``smallest_lesion``, each with the ``count`` of what was dropped, and
        its ``load_ml``. What both rules drop counts as dropped by the first.
    """
    found = _find_candidates(probability, operating_point, voxel_mm3=voxel_mm3)
    counts = np.bincount(found.components.ravel(), minlength=len(found.is_sure))
    small = counts < min_voxels(operating_point.min_lesion_mm3, voxel_mm3)
    rules = {"smallest_peak": ~found.is_sure, "smallest_lesion": found.is_sure & small}
    return {
        rule: {
            "count": int(np.count_nonzero(dropped[1:])),
            "load_ml": float(counts[1:][dropped[1:]].sum() * voxel_mm3 / 1000),
        }
        for rule, dropped in rules.items()
    }


class _Candidates(NamedTuple):
    """Groups of voxels at or above the threshold."""

    components: np.ndarray
    """(X, Y, Z) int; a number for each from 1, 0 outside."""
    is_sure: np.ndarray
    """(count + 1,) bool; by number, whether it reaches the smallest peak."""


def _find_candidates(
    probability: np.ndarray, operating_point: OperatingPoint, *, voxel_mm3: float
) -> _Candidates:
    if probability.ndim != 3:
        raise ValueError(f"a probability map has 3 axes, this one {probability.ndim}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("the probability map holds NaN or values outside [0, 1]")
    if not voxel_mm3 > 0:
        raise ValueError(f"impossible volumes: {voxel_mm3=}")

    threshold, min_peak = operating_point.threshold, operating_point.min_peak
    components, count = ndimage.label(probability >= threshold, structure=CONNECTED)
    is_sure = np.ones(count + 1, bool)
    if min_peak > threshold:
        is_sure[1:] = find_peaks(probability, components, count) >= min_peak
    return _Candidates(components, is_sure)


def find_peaks(probability: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the highest probability in each lesion.

    Parameters
    ----------
    probability : float array
        In [0, 1], of any shape.
    labels : int array of the same shape
        Lesion numbers from 1 to `count`, 0 outside lesions.
    count : int
        Number of lesions.

    Returns
    -------
    (count,) float array
        Of the lesions 1 to `count`; 0 where a number has no voxel.
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
        A number for each lesion, in any order; 0 outside lesions.
    min_lesion_mm3 : float
        Smallest volume of a lesion that is kept, mm³, at least 0.
    voxel_mm3 : float
        Volume of a voxel, mm³, above 0.

    Returns
    -------
    (X, Y, Z) int32 array
        0 outside the lesions that are kept, else the number of the lesion. Lesions of equal volume
        are numbered by their first voxel in array order.
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
    """Return the smallest number of voxels that reaches a volume.

    Affines are often stored in single precision, so that the volume may fall short by one part in a
    million: ten voxels of 0.9999999 mm³ count as 10 mm³.

    Parameters
    ----------
    min_lesion_mm3 : float
        Volume, mm³, at least 0.
    voxel_mm3 : float
        Volume of a voxel, mm³, above 0.

    Returns
    -------
    float
        Number of voxels, not rounded.
    """
    return min_lesion_mm3 / voxel_mm3 * (1 - 1e-6)
