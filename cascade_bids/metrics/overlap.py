"""Agreement of two lesion masks, or of two transforms."""

from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from cascade_bids.lesions.label import CONNECTED


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the Dice coefficient of two masks, ``2 |a ∩ b| / (|a| + |b|)`` [1]_.

    Parameters
    ----------
    a, b : (X, Y, Z) arrays
        Masks; non-zero is inside.

    Returns
    -------
    float
        0 without overlap, 1 for equal masks, also for two empty ones.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    .. [1] Dice. Measures of the amount of ecologic association between species.
       Ecology 1945;26:297-302. doi 10.2307/1932409

    Examples
    --------
    >>> dice(np.array([1, 1, 0]), np.array([0, 1, 0]))
    0.6666666666666666
    """
    inside_a, inside_b = _pair(a, b)
    total = int(inside_a.sum() + inside_b.sum())
    return 2 * int((inside_a & inside_b).sum()) / total if total else 1.0


def positive_predictive_value(pred: np.ndarray, ref: np.ndarray) -> float:
    """Compute the positive predictive value of voxels, ``|pred ∩ ref| / |pred|`` [1]_.

    Parameters
    ----------
    pred, ref : (X, Y, Z) arrays
        Predicted and reference mask; non-zero is lesion.

    Returns
    -------
    float
        In [0, 1]; 1 when nothing is predicted (no voxel is false).

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    .. [1] Carass et al. Longitudinal multiple sclerosis lesion segmentation: resource and
       challenge. NeuroImage 2017;148:77-102. doi 10.1016/j.neuroimage.2016.12.064
    """
    predicted, reference = _pair(pred, ref)
    total = int(predicted.sum())
    return int((predicted & reference).sum()) / total if total else 1.0


def sensitivity(pred: np.ndarray, ref: np.ndarray) -> float:
    """Compute the sensitivity of voxels, ``|pred ∩ ref| / |ref|``.

    It is the positive predictive value with the two masks exchanged.

    Parameters
    ----------
    pred, ref : (X, Y, Z) arrays
        Predicted and reference mask; non-zero is lesion.

    Returns
    -------
    float
        In [0, 1]; 1 when the reference is empty (no voxel is missed).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return positive_predictive_value(ref, pred)


@dataclass(frozen=True)
class LesionCounts:
    """Numbers of lesions in two masks, and of those that overlap with the other mask."""

    found: int
    """Reference lesions that share a voxel with the prediction."""
    reference: int
    """Reference lesions."""
    true: int
    """Predicted lesions that share a voxel with the reference."""
    predicted: int
    """Predicted lesions."""

    @property
    def ltpr(self) -> float:
        """Lesion-wise true positive rate: found over all reference lesions; 1 without any."""
        return self.found / self.reference if self.reference else 1.0

    @property
    def lfpr(self) -> float:
        """Lesion-wise false positive rate: false over all predicted lesions; 0 without any."""
        return (self.predicted - self.true) / self.predicted if self.predicted else 0.0

    @property
    def lf1(self) -> float:
        """Lesion-wise F1: harmonic mean of ``ltpr`` and ``1 - lfpr``, see `lesion_f1`."""
        return lesion_f1(self.ltpr, 1 - self.lfpr)


def count_lesions(pred: np.ndarray, ref: np.ndarray) -> LesionCounts:
    """Count the lesions of two masks by the any-overlap rule of ISBI-2015 [1]_.

    A reference lesion is found, and a predicted lesion is true, when it shares at least one voxel
    with the other mask. Lesions are 26-connected here as everywhere in this package.

    Parameters
    ----------
    pred, ref : (X, Y, Z) arrays
        Predicted and reference mask; non-zero is lesion.

    Returns
    -------
    LesionCounts
        The four counts, from which the lesion-wise rates follow.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    .. [1] Carass et al. Longitudinal multiple sclerosis lesion segmentation: resource and
       challenge. NeuroImage 2017;148:77-102. doi 10.1016/j.neuroimage.2016.12.064
    """
    predicted, reference = _pair(pred, ref)
    return LesionCounts(
        *_count_touched(reference, predicted), *_count_touched(predicted, reference)
    )


def lesion_detection(pred: np.ndarray, ref: np.ndarray) -> tuple[float, float]:
    """Compute the lesion-wise true and false positive rates by the rule of `count_lesions`.

    Parameters
    ----------
    pred, ref : (X, Y, Z) arrays
        Predicted and reference mask; non-zero is lesion.

    Returns
    -------
    ltpr : float
        Found reference lesions over all reference lesions; 1 without any (none is missed).
    lfpr : float
        False predicted lesions over all predicted lesions; 0 without any.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    counts = count_lesions(pred, ref)
    return counts.ltpr, counts.lfpr


def lesion_f1(sensitivity: float, precision: float) -> float:
    """Compute the harmonic mean of a lesion-wise sensitivity and precision.

    For the L-F1 of the any-overlap rule these are LTPR and 1 − LFPR [1]_.

    Parameters
    ----------
    sensitivity, precision : float
        Both in [0, 1].

    Returns
    -------
    float
        ``2 · sensitivity · precision / (sensitivity + precision)``; 0 when both are 0.

    References
    ----------
    .. [1] Zhang et al. ALL-Net: Anatomical information lesion-wise loss function integrated into
       neural network for multiple sclerosis lesion segmentation. NeuroImage: Clinical
       2021;32:102854. doi 10.1016/j.nicl.2021.102854

    Examples
    --------
    >>> round(lesion_f1(0.533, 1 - 0.122), 3)
    0.663
    """
    total = sensitivity + precision
    return 2 * sensitivity * precision / total if total else 0.0


def mean_displacement_mm(
    transform_a: np.ndarray, transform_b: np.ndarray, points: np.ndarray
) -> float:
    """Compute the mean distance between the same points moved by two transforms.

    Parameters
    ----------
    transform_a, transform_b : (4, 4) arrays
        Affine transforms between the same two world spaces, mm.
    points : (N, 3) array
        World coordinates (mm) of the points, such as those of the brain voxels; N > 0.

    Returns
    -------
    float
        Mean Euclidean distance, mm.

    Raises
    ------
    ValueError
        If there are no points.

    Examples
    --------
    >>> shifted = np.eye(4)
    >>> shifted[:3, 3] = 3, 0, 4
    >>> mean_displacement_mm(np.eye(4), shifted, np.zeros((1, 3)))
    5.0
    """
    if not len(points):
        raise ValueError("a mean displacement needs at least one point")
    difference = apply_affine(transform_a, points) - apply_affine(transform_b, points)
    return float(np.linalg.norm(difference, axis=1).mean())


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.shape != b.shape:
        raise ValueError(f"masks on different grids: {a.shape} and {b.shape}")
    return np.asarray(a) != 0, np.asarray(b) != 0


def _count_touched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Count the lesions of a mask that share a voxel with another mask, and all its lesions."""
    components, count = ndimage.label(mask, structure=CONNECTED)
    return len(np.unique(components[mask & other])), count
