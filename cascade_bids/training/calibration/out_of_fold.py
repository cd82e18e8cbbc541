"""Out-of-fold predictions: what a method predicts for scans that it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cascade_bids.files import appearing
from cascade_bids.lesions.label import OperatingPoint, label_lesions
from cascade_bids.models.predict import Stage, predict_stages
from cascade_bids.models.probabilities import scale_temperature
from cascade_bids.training.folds import Fold
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.synthesis.generator import ScanGenerator, make_synthetic_scan
from cascade_bids.training.synthesis.sample import optional_contrasts

VOXEL_MM3 = 1.0
"""On the network grid."""

SCANS_OF_FOLD = 10
"""Synthetic scans for each fold."""

SCANS_TO_CALIBRATE = 100
"""Synthetic scans for the interval of the load: fewer do not show how rare those are whose lesions
hardly differ from what lies around, which are the ones that make it wide."""


@dataclass(frozen=True)
class Prediction:
    """What a method predicts for a scan that it has not learned from, beside the truth."""

    probability: np.ndarray
    """(X, Y, Z) float in [0, 1]."""
    lesions: np.ndarray
    """(X, Y, Z) bool, the true ones."""
    weight: float = 1.0
    """How much the scan counts in a calibration."""

    def scale(self, temperature: float) -> "Prediction":
        """Apply `scale_temperature` to the probability."""
        return replace(self, probability=scale_temperature(self.probability, temperature))

    def label(self, operating_point: OperatingPoint) -> np.ndarray:
        """Apply `label_lesions`."""
        return label_lesions(self.probability, operating_point, voxel_mm3=VOXEL_MM3)

    def load_ml(self, operating_point: OperatingPoint) -> float:
        """Measure the load at an operating point."""
        return int((self.label(operating_point) > 0).sum()) * VOXEL_MM3 / 1000

    def crop(self) -> "Prediction":
        """Return it cropped to all lesions, found and true; nothing else changes."""
        box = ndimage.find_objects(((self.probability > 0) | self.lesions).astype(np.uint8))
        near = box[0] if box else (slice(0, 1),) * 3
        return replace(
            self, probability=self.probability[near].copy(), lesions=self.lesions[near].copy()
        )

    @property
    def true_load_ml(self) -> float:
        """The load of the true lesions."""
        return int(self.lesions.sum()) * VOXEL_MM3 / 1000


def write_prediction(one: Prediction, path: Path) -> None:
    """Write a prediction, whole or not at all."""
    with appearing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, probability=one.probability, lesions=one.lesions)


def read_prediction(path: Path) -> Prediction:
    """Read a prediction that `write_prediction` wrote."""
    with np.load(path) as arrays:
        return Prediction(arrays["probability"], arrays["lesions"])


def predict_synthetic(
    stages: Sequence[Stage],
    generator: ScanGenerator,
    folder: Path,
    *,
    combination: str,
    seed: int,
    count: int = SCANS_OF_FOLD,
) -> list[Prediction]:
    """Predict synthetic scans of the anatomies that are kept for checking.

    Label maps of whole heads are preferred to healthy scans, whose labels are of the brain alone.

    Parameters
    ----------
    stages
        The method, of all contrasts of the generator.
    generator
        Draws the scans; its lesions may have been learned from.
    folder
        Keeps the predictions, which take some seconds each.
    combination
        See `probabilities.combine`.
    seed
        Of what is drawn.
    count
        How many scans.

    Returns
    -------
    list of Prediction
        Cropped; none without anatomies.
    """
    checking = generator.to_check()
    anatomies = checking.label_maps or checking.healthy
    found = []
    for number in range(count if anatomies else 0):
        path = folder / f"{number}.npz"
        if not path.exists():
            anatomy = anatomies[number % len(anatomies)]
            # Far from the seeds of the training.
            rng = torch.Generator().manual_seed(10**9 + 1000 * seed + number)
            sample = make_synthetic_scan(anatomy, generator.donors, generator.contrasts, rng)
            maps = predict_stages(stages, sample.to_volume(generator.contrasts), combination)
            write_prediction(Prediction(maps.probability, sample.lesions.numpy()), path)
        # A hundred whole ones would take gigabytes.
        found.append(read_prediction(path).crop())
    return found


def predict_left_out(fold: Fold, stages: Sequence[Stage], recipe: Recipe) -> None:
    """Predict the scans that a fold leaves out, once for each of `contrast_subsets`."""
    for case in fold.tested:
        for hidden in contrast_subsets(case.contrasts, recipe):
            channels = case.channels.clone()
            channels[[case.contrasts.index(name) for name in hidden]] = 0
            volume = replace(case.volume, channels=channels)
            maps = predict_stages(stages, volume, recipe.combination)
            write_prediction(
                Prediction(maps.probability, case.reference), fold.prediction(case, hidden)
            )


def contrast_subsets(contrasts: Sequence[str], recipe: Recipe) -> list[tuple[str, ...]]:
    """Return what is hidden in turn: nothing, then every choice of contrasts that may be missing.

    The operating point is to hold for patients of whom there are fewer contrasts too.
    """
    optional = optional_contrasts(contrasts) if recipe.learns_from_synthetic else []
    return [
        chosen for count in range(len(optional) + 1) for chosen in combinations(optional, count)
    ]


def is_done(fold: Fold, recipe: Recipe) -> bool:
    """Return whether all scans that a fold leaves out have been predicted."""
    return all(
        fold.prediction(case, hidden).exists()
        for case in fold.tested
        for hidden in contrast_subsets(case.contrasts, recipe)
    )
