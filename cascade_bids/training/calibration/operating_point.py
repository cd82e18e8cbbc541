"""Choose the operating point of a method on scans whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from cascade_bids.lesions.label import CONNECTED, OperatingPoint, find_peaks, min_voxels
from cascade_bids.metrics.overlap import LesionCounts
from cascade_bids.training.calibration.out_of_fold import Prediction

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
"""From which the threshold is chosen; lower ones make one lesion of many, which L-F1 rewards."""

SIZES_MM3 = (3.0, 5.0, 10.0, 20.0)
"""From which the volume of the smallest lesion is chosen."""

PEAKS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
"""From which the lowest probability of a lesion's surest voxel is chosen."""

HARMLESS_ML = 0.3
"""Load that may be found in a healthy head: it halves the quality there."""


def choose_operating_point(predictions: Sequence[Prediction]) -> OperatingPoint:
    """Choose the threshold, the smallest lesion and the smallest peak.

    They are of `THRESHOLDS`, `SIZES_MM3` and `PEAKS`, and make the mean over scans of Dice, L-F1
    and volumetric similarity [1]_ largest: voxels, lesions and load count alike. Of a scan without
    lesions it is instead 1 / (1 + load found / `HARMLESS_ML`): all or nothing would let few such
    scans decide.

    Returns
    -------
    OperatingPoint
        Its smallest peak is not below the threshold.

    References
    ----------
    .. [1] Taha & Hanbury. Metrics for evaluating 3D medical image segmentation. BMC Medical Imaging
       2015;15:29. doi 10.1186/s12880-015-0068-x
    """
    weights = [one.weight for one in predictions]
    best, chosen = -np.inf, (THRESHOLDS[0], SIZES_MM3[0], PEAKS[0])
    for threshold in THRESHOLDS:
        found = [_measure(one, threshold) for one in predictions]
        for smallest, peak in product(SIZES_MM3, PEAKS):
            values = [one.quality(smallest, peak) for one in found]
            quality = float(np.average(values, weights=weights))
            if quality > best:
                best, chosen = quality, (threshold, smallest, max(peak, threshold))
    return OperatingPoint(*chosen)


@dataclass(frozen=True)
class _Found:
    """Lesions that a threshold gives, and what they share with the true ones."""

    volumes: np.ndarray
    """(N,) voxels."""
    peaks: np.ndarray
    """(N,) highest probability."""
    overlaps: np.ndarray
    """(N,) voxels that are true."""
    pairs: np.ndarray
    """(P, 2) ints: a found lesion, from 0, and a true one that it shares voxels with."""
    true_voxels: int
    true_lesions: int
    voxel_mm3: float

    def quality(self, smallest_mm3: float, peak: float) -> float:
        """Compute how good the lesions that are kept are, 0 to 1."""
        fewest = min_voxels(smallest_mm3, self.voxel_mm3)
        kept = (self.volumes >= fewest) & (self.peaks >= peak)
        volume = int(self.volumes[kept].sum())
        if not self.true_voxels:
            return 1 / (1 + volume * self.voxel_mm3 / 1000 / HARMLESS_ML)
        dice = 2 * int(self.overlaps[kept].sum()) / (volume + self.true_voxels)
        counts = LesionCounts(
            found=len(np.unique(self.pairs[kept[self.pairs[:, 0]], 1])),
            reference=self.true_lesions,
            true=int((self.overlaps[kept] > 0).sum()),
            predicted=int(kept.sum()),
        )
        similarity = 1 - abs(volume - self.true_voxels) / (volume + self.true_voxels)
        return (dice + counts.lf1 + similarity) / 3


def _measure(one: Prediction, threshold: float) -> _Found:
    labels, count = ndimage.label(one.probability >= threshold, structure=CONNECTED)
    true, true_lesions = ndimage.label(one.lesions, structure=CONNECTED)
    both = (labels > 0) & one.lesions
    return _Found(
        volumes=np.bincount(labels.ravel(), minlength=count + 1)[1:],
        peaks=find_peaks(one.probability, labels, count),
        overlaps=np.bincount(labels[both], minlength=count + 1)[1:],
        pairs=np.unique(np.column_stack([labels[both] - 1, true[both]]), axis=0),
        true_voxels=int(one.lesions.sum()),
        true_lesions=true_lesions,
        voxel_mm3=one.voxel_mm3,
    )
