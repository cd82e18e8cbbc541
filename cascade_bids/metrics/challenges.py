"""Scores of three public challenges on MS lesion segmentation.

Lesions are 26-connected in all of them, as everywhere in this package; the challenges' own programs
differ in that. The scores therefore compare methods with each other, and only roughly with the
published results of the challenges.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cascade_bids.lesions.label import CONNECTED
from cascade_bids.metrics.overlap import lesion_f1

ISBI2015_INTER_RATER = 0.647
"""Score of one human rater against the other, derived from the challenge's published results."""


MICCAI2008_INTER_RATER = {
    "volume_difference_percent": 68.0,
    "assd_mm": 4.9,
    "missed_lesions": 0.32,
    "false_lesions": 0.32,
}
"""Error of a second human rater in each component; an error of this size scores 90 points."""


def isbi2015_score(
    *, dsc: float, ppv: float, ltpr: float, lfpr: float, volume_correlation: float
) -> float:
    """Compute the ISBI-2015 score from five measures [1]_.

    ``DSC/8 + PPV/8 + (1 − LFPR)/4 + LTPR/4 + VC/4``. The challenge averages the first four measures
    over all scans; the volume correlation is computed over the cohort.

    Parameters
    ----------
    dsc, ppv, ltpr, lfpr : float
        Dice coefficient, positive predictive value, lesion-wise true and false positive rate, of
        one scan or their means over a cohort, each in [0, 1].
    volume_correlation : float
        Pearson correlation of predicted and reference loads over the cohort, in [-1, 1].

    Returns
    -------
    float
        1 is perfect; NaN if a measure is NaN.

    References
    ----------
    .. [1] Carass et al. Longitudinal multiple sclerosis lesion segmentation: resource and
       challenge. NeuroImage 2017;148:77-102. doi 10.1016/j.neuroimage.2016.12.064

    Examples
    --------
    >>> isbi2015_score(dsc=1, ppv=1, ltpr=1, lfpr=0, volume_correlation=1)
    1.0
    """
    return dsc / 8 + ppv / 8 + (1 - lfpr) / 4 + ltpr / 4 + volume_correlation / 4


def isbi2015_normalised(score: float, inter_rater: float = ISBI2015_INTER_RATER) -> float:
    """Normalise an ISBI-2015 score to the scale on which a second human rater has 90 points.

    ``100 − 10 (1 − score) / (1 − inter_rater)``: 100 is perfect, 90 as good as a second rater. The
    challenge does not publish its own constants. The default reproduces the published results of
    two methods [1]_ to within 0.11 points.

    Parameters
    ----------
    score : float
        From `isbi2015_score`.
    inter_rater : float
        Score of one rater against the other, below 1.

    Returns
    -------
    float
        At most 100.

    Raises
    ------
    ValueError
        If `inter_rater` is not below 1.

    References
    ----------
    .. [1] Zhang et al. ALL-Net: Anatomical information lesion-wise loss function integrated into
       neural network for multiple sclerosis lesion segmentation. NeuroImage: Clinical
       2021;32:102854. doi 10.1016/j.nicl.2021.102854
    """
    if inter_rater >= 1:
        raise ValueError(f"raters that agree by {inter_rater} give no scale; below 1 is needed")
    return 100 - 10 * (1 - score) / (1 - inter_rater)


def volume_difference_percent(pred_ml: float, ref_ml: float) -> float:
    """Compute the absolute volume difference, ``100 |pred − ref| / ref`` [1]_.

    Parameters
    ----------
    pred_ml, ref_ml : float
        Predicted and reference load, ml (or any other common unit), at least 0.

    Returns
    -------
    float
        Percent of the reference; 0 for two empty masks, infinite if only the reference is empty.

    References
    ----------
    .. [1] Styner et al. 3D segmentation in the clinic: a grand challenge II: MS lesion
       segmentation. MIDAS Journal 2008. https://www.midasjournal.org/browse/publication/638
    """
    if not ref_ml:
        return math.inf if pred_ml else 0.0
    return 100 * abs(pred_ml - ref_ml) / ref_ml


def miccai2008_score(
    *, volume_difference_percent: float, assd_mm: float, ltpr: float, lfpr: float
) -> float:
    """Compute the MICCAI-2008 score of a segmentation against one rater [1]_.

    Each component scores ``max(0, 100 − 10 · error / inter-rater error)`` points: 100 without
    error, 90 for the error of a second rater (`MICCAI2008_INTER_RATER`). The errors are the volume
    difference, the average symmetric surface distance, the fraction of the reference lesions that
    is missed (1 − TPR) and the fraction of the predicted lesions that is false (FPR).

    Parameters
    ----------
    volume_difference_percent : float
        Absolute, percent of the reference; may be infinite.
    assd_mm : float
        Average symmetric surface distance, mm.
    ltpr, lfpr : float
        Lesion-wise true and false positive rate, in [0, 1].

    Returns
    -------
    float
        Mean of the four components, in [0, 100].

    References
    ----------
    .. [1] Styner et al. 3D segmentation in the clinic: a grand challenge II: MS lesion
       segmentation. MIDAS Journal 2008. https://www.midasjournal.org/browse/publication/638

    Examples
    --------
    >>> round(
    ...     miccai2008_score(volume_difference_percent=68, assd_mm=4.9, ltpr=0.68, lfpr=0.32), 6
    ... )
    90.0
    """
    errors = {
        "volume_difference_percent": volume_difference_percent,
        "assd_mm": assd_mm,
        "missed_lesions": 1 - ltpr,
        "false_lesions": lfpr,
    }
    points = [
        max(0.0, 100 - 10 * error / MICCAI2008_INTER_RATER[name]) for name, error in errors.items()
    ]
    return sum(points) / len(points)


class Msseg2016Detection(NamedTuple):
    """Lesion detection by the rule of MSSEG-2016."""

    sensitivity: float
    """Detected reference lesions over all reference lesions."""
    precision: float
    """Predicted lesions that are detected in the reference over all predicted lesions."""
    f1: float
    """Harmonic mean of sensitivity and precision."""


def msseg2016_detection(
    pred: np.ndarray,
    ref: np.ndarray,
    *,
    voxel_mm3: float,
    alpha: float = 0.10,
    beta: float = 0.70,
    gamma: float = 0.65,
    ignored_mm3: float = 3.0,
) -> Msseg2016Detection:
    """Score the detection of lesions by the rule of the MSSEG-2016 challenge [1]_.

    A reference lesion is detected if predicted lesions cover more than ``alpha`` of it, and if none
    of the predicted lesions that cover most of it, added in descending order until they make up
    ``gamma`` of the covered part, lies by more than ``beta`` outside all reference lesions. For the
    precision, the two masks are exchanged. The default thresholds and smallest lesion are those of
    the challenge's program, animaSegPerfAnalyzer [2]_.

    Parameters
    ----------
    pred, ref : (X, Y, Z) arrays
        Predicted and reference mask; non-zero is lesion.
    voxel_mm3 : float
        Volume of a voxel, mm³.
    alpha, beta, gamma : float
        Thresholds, in [0, 1].
    ignored_mm3 : float
        Lesions up to this volume are removed first, mm³.

    Returns
    -------
    Msseg2016Detection
        Each in [0, 1]. The sensitivity is 1 without reference lesions, and the precision is 1
        without predicted ones, so the F1 is 1 if both masks are empty and 0 if only one is.

    Raises
    ------
    ValueError
        If the shapes differ or voxels have no volume.

    References
    ----------
    .. [1] Commowick et al. Objective evaluation of multiple sclerosis lesion segmentation using a
       data management and processing infrastructure. Scientific Reports 2018;8:13650.
       doi 10.1038/s41598-018-31911-7
    .. [2] https://anima.readthedocs.io/en/latest/segmentation.html
    """
    if pred.shape != ref.shape:
        raise ValueError(f"masks on different grids: {pred.shape} and {ref.shape}")
    if not voxel_mm3 > 0:
        raise ValueError(f"voxels of {voxel_mm3} mm³")
    reference, references = _label_above(ref, ignored_mm3 / voxel_mm3)
    predicted, predictions = _label_above(pred, ignored_mm3 / voxel_mm3)
    # Voxels shared by each pair of lesions; row and column 0 are the background.
    shape = (references + 1, predictions + 1)
    pairs = np.ravel_multi_index((reference.ravel(), predicted.ravel()), shape)
    overlap = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    found = _count_detected(overlap, alpha, beta, gamma)
    true = _count_detected(overlap.T, alpha, beta, gamma)
    sensitivity = found / references if references else 1.0
    precision = true / predictions if predictions else 1.0
    return Msseg2016Detection(sensitivity, precision, lesion_f1(sensitivity, precision))


def _label_above(mask: np.ndarray, voxels: float) -> tuple[np.ndarray, int]:
    """Label the lesions of more than a number of voxels, and count them."""
    components, count = ndimage.label(np.asarray(mask) != 0, structure=CONNECTED)
    # Affines are often stored in single precision: three voxels of 1.0000001 mm³ are 3 mm³.
    large = np.bincount(components.ravel(), minlength=count + 1) > voxels * (1 + 1e-6)
    large[0] = False
    numbers = np.cumsum(large) * large
    return numbers[components], int(large.sum())


def _count_detected(overlap: np.ndarray, alpha: float, beta: float, gamma: float) -> int:
    """Count the lesions of the rows that are detected by the lesions of the columns."""
    sizes, outside = overlap.sum(axis=0), overlap[0]
    detected = 0
    for row in overlap[1:]:
        covered = row[1:].sum()
        if covered <= alpha * row.sum():
            continue
        # Largest overlap first; ties by number, so that the result does not depend on the sort.
        order = np.argsort(-row[1:], kind="stable") + 1
        enough = np.searchsorted(np.cumsum(row[order]), gamma * covered) + 1
        chosen = order[:enough]
        detected += bool((outside[chosen] <= beta * sizes[chosen]).all())
    return detected
