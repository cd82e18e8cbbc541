"""Curves over the threshold of a probability map, of one scan or of a cohort."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cascade_bids.metrics.overlap import count_lesions

VOXEL_THRESHOLDS = np.linspace(0.001, 1, 1000)
"""Thresholds of the precision-recall curve, ascending."""

LESION_THRESHOLDS = np.linspace(0.05, 0.95, 19)
"""Thresholds of the lesion-wise ROC curve, ascending; fewer, as lesions are labelled at each."""


@dataclass(frozen=True)
class CurveCounts:
    """Counts of voxels and lesions at each threshold, of a scan or summed over several."""

    true_voxels: np.ndarray
    """(1000,) int, reference voxels at or above each of `VOXEL_THRESHOLDS`."""
    predicted_voxels: np.ndarray
    """(1000,) int, voxels at or above each of `VOXEL_THRESHOLDS`."""
    reference_voxels: int
    """Number of reference voxels."""
    lesions: np.ndarray
    """(19, 4) int, `LesionCounts` at each of `LESION_THRESHOLDS`: found, reference, true,
    predicted."""

    def __add__(self, other: "CurveCounts") -> "CurveCounts":
        return CurveCounts(
            self.true_voxels + other.true_voxels,
            self.predicted_voxels + other.predicted_voxels,
            self.reference_voxels + other.reference_voxels,
            self.lesions + other.lesions,
        )


def count_at_thresholds(probability: np.ndarray, ref: np.ndarray) -> CurveCounts:
    """Count voxels and lesions at each threshold of a probability map.

    A voxel is predicted at a threshold when its probability is at least the threshold.

    Parameters
    ----------
    probability : (X, Y, Z) float array
        Lesion probability, in [0, 1].
    ref : (X, Y, Z) array
        Reference mask; non-zero is lesion.

    Returns
    -------
    CurveCounts
        Counts of this scan, which can be added to those of others.

    Raises
    ------
    ValueError
        If the shapes differ, or the map holds NaN or values outside [0, 1].
    """
    if probability.shape != ref.shape:
        raise ValueError(f"map and mask on different grids: {probability.shape} and {ref.shape}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("the probability map holds NaN or values outside [0, 1]")
    reference = np.asarray(ref) != 0
    # Compared in the precision of the map, in which a stored 0.7 is not below the threshold 0.7.
    edges = VOXEL_THRESHOLDS.astype(probability.dtype)
    near = _box_around(reference | (probability >= edges[0]))
    probability, reference = probability[near], reference[near]
    return CurveCounts(
        true_voxels=_at_least(probability[reference], edges),
        predicted_voxels=_at_least(probability.ravel(), edges),
        reference_voxels=int(reference.sum()),
        lesions=np.array(
            [
                (counts.found, counts.reference, counts.true, counts.predicted)
                for counts in (
                    count_lesions(probability >= threshold, reference)
                    for threshold in LESION_THRESHOLDS.astype(probability.dtype)
                )
            ]
        ),
    )


def precision_recall(counts: CurveCounts) -> tuple[np.ndarray, np.ndarray]:
    """Compute the voxel-wise precision-recall curve.

    Parameters
    ----------
    counts : CurveCounts
        Counts of a scan, or their sum over several.

    Returns
    -------
    recall, precision : (1000,) arrays
        At `VOXEL_THRESHOLDS`, from the highest to the lowest, so that the recall increases. The
        precision is 1 where nothing is predicted. All recalls are NaN if the reference is empty.
    """
    true, predicted = counts.true_voxels[::-1], counts.predicted_voxels[::-1]
    return _ratio(true, counts.reference_voxels, np.nan), _ratio(true, predicted, 1.0)


def average_precision(counts: CurveCounts) -> float:
    """Compute the average precision, the area under the precision-recall curve [1]_.

    ``Σ_k (R_k − R_(k−1)) P_k`` over the thresholds from high to low, with ``R_0 = 0``. Reference
    voxels below the lowest threshold, 0.001, count as missed.

    Parameters
    ----------
    counts : CurveCounts
        Counts of a scan, or their sum over several.

    Returns
    -------
    float
        In [0, 1]; NaN if the reference is empty.

    References
    ----------
    .. [1] Boyd et al. Area under the precision-recall curve: point estimates and confidence
       intervals. ECML PKDD 2013, LNCS 8190:451-466. doi 10.1007/978-3-642-40994-3_29
    """
    recall, precision = precision_recall(counts)
    return float((np.diff(recall, prepend=0) * precision).sum())


def lesion_roc(counts: CurveCounts) -> tuple[np.ndarray, np.ndarray]:
    """Compute the lesion-wise ROC curve: the highest LTPR at each LFPR.

    Lesion-wise rates need not increase together when the threshold falls, since lesions merge. Each
    point therefore has the highest LTPR of all thresholds with an LFPR up to its own.

    Parameters
    ----------
    counts : CurveCounts
        Counts of a scan, or their sum over several.

    Returns
    -------
    lfpr, ltpr : (N,) arrays
        Corners of the step function, from LFPR 0 to 1; both increase. Two points of NaN if the
        reference is empty.
    """
    found, reference, true, predicted = counts.lesions.T
    if not reference[0]:
        return np.full(2, np.nan), np.full(2, np.nan)
    # A threshold above all probabilities predicts nothing.
    lfpr = np.append(_ratio(predicted - true, predicted, 0.0), 0.0)
    ltpr = np.append(found / reference, 0.0)
    order = np.lexsort((ltpr, lfpr))
    best = np.maximum.accumulate(ltpr[order])
    # Of several points with the same LFPR, the last is the highest.
    edges, last = np.unique(lfpr[order][::-1], return_index=True)
    heights = best[::-1][last]
    if edges[-1] < 1:
        edges, heights = np.append(edges, 1.0), np.append(heights, heights[-1])
    return edges, heights


def lesion_roc_area(counts: CurveCounts) -> float:
    """Compute the area under the lesion-wise ROC curve: the mean LTPR over LFPR 0 to 1.

    Parameters
    ----------
    counts : CurveCounts
        Counts of a scan, or their sum over several.

    Returns
    -------
    float
        In [0, 1]; NaN if the reference is empty.
    """
    lfpr, ltpr = lesion_roc(counts)
    return float((np.diff(lfpr) * ltpr[:-1]).sum())


def _at_least(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count the values at or above each of the ascending edges."""
    reached = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return reached[::-1].cumsum()[::-1][1:]


def _ratio(part: np.ndarray, whole: np.ndarray | int, otherwise: float) -> np.ndarray:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole > 0)


def _box_around(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the bounding box of a mask; a single voxel if the mask is empty."""
    box = ndimage.find_objects(mask.astype(np.uint8))
    return box[0] if box else (slice(0, 1),) * mask.ndim
