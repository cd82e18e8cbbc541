"""What a method says of a scan that it has not learned from, beside the truth."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import ndimage

from cascade_bids.lesions.postprocess import label_lesions
from cascade_bids.network.cascade import scale_temperature

VOXEL_MM3 = 1.0
"""On the network grid."""


class Rule(Protocol):
    """What makes lesions of probabilities; see `label_lesions`."""

    @property
    def threshold(self) -> float:
        """Lowest probability of a lesion voxel."""

    @property
    def min_lesion_mm3(self) -> float:
        """Volume of the smallest lesion."""

    @property
    def peak(self) -> float:
        """Lowest probability of a lesion's surest voxel."""


@dataclass(frozen=True)
class HeldOut:
    """What a method says of a scan that it has not learned from, beside the truth."""

    probability: np.ndarray
    """(X, Y, Z) float in [0, 1]."""
    lesions: np.ndarray
    """(X, Y, Z) bool."""
    weight: float = 1.0
    """How much the scan counts for a rule."""

    def scale(self, temperature: float) -> "HeldOut":
        """Apply `scale_temperature` to the probability."""
        return replace(self, probability=scale_temperature(self.probability, temperature))

    def label(self, rule: Rule) -> np.ndarray:
        """Apply `label_lesions`."""
        return label_lesions(
            self.probability,
            threshold=rule.threshold,
            min_lesion_mm3=rule.min_lesion_mm3,
            peak=rule.peak,
            voxel_mm3=VOXEL_MM3,
        )

    def load_ml(self, rule: Rule) -> float:
        """Measure the load that a rule gives."""
        return int((self.label(rule) > 0).sum()) * VOXEL_MM3 / 1000

    def crop(self) -> "HeldOut":
        """Leave out what lies around all lesions, found and true; nothing else changes."""
        box = ndimage.find_objects(((self.probability > 0) | self.lesions).astype(np.uint8))
        near = box[0] if box else (slice(0, 1),) * 3
        return replace(
            self, probability=self.probability[near].copy(), lesions=self.lesions[near].copy()
        )

    @property
    def true_load_ml(self) -> float:
        """The load of the true lesions."""
        return int(self.lesions.sum()) * VOXEL_MM3 / 1000
