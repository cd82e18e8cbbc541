"""Out-of-fold predictions: what a method predicts for scans that it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.files import appearing
from cascade_bids.lesions.label import OperatingPoint, label_lesions
from cascade_bids.lesions.measure import voxel_volume_mm3
from cascade_bids.models.cases import Case
from cascade_bids.models.device import choose_precision
from cascade_bids.models.predict import Stage, predict_stages
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.resample import resample
from cascade_bids.training.folds import Fold
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.synthesis.generator import ScanGenerator, make_synthetic_scan

SCANS_OF_FOLD = 10
"""Synthetic scans for each fold."""

SCANS_TO_CALIBRATE = 100
"""Synthetic scans for the interval of the load: fewer do not show how rare those are whose lesions
hardly differ from what lies around, which are the ones that make it wide."""


@dataclass(frozen=True)
class Prediction:
    """What a method predicts for a scan that it has not learned from, beside the truth."""

    probability: np.ndarray
    """(X, Y, Z) float32 in [0, 1]."""
    lesions: np.ndarray
    """(X, Y, Z) bool, the true ones."""
    voxel_mm3: float = 1.0
    """Volume of a voxel, mm³."""
    weight: float = 1.0
    """How much the scan counts in a calibration."""

    def label(self, operating_point: OperatingPoint) -> np.ndarray:
        """Apply `label_lesions`."""
        return label_lesions(self.probability, operating_point, voxel_mm3=self.voxel_mm3)

    def load_ml(self, operating_point: OperatingPoint) -> float:
        """Measure the load at an operating point."""
        return int((self.label(operating_point) > 0).sum()) * self.voxel_mm3 / 1000

    def crop(self) -> "Prediction":
        """Return it cropped to all lesions, found and true; nothing else changes."""
        box = ndimage.find_objects(((self.probability > 0) | self.lesions).astype(np.uint8))
        near = box[0] if box else (slice(0, 1),) * 3
        return replace(
            self,
            probability=self.probability[near].copy(),
            lesions=self.lesions[near].copy(),
        )

    @property
    def true_load_ml(self) -> float:
        """The load of the true lesions."""
        return int(self.lesions.sum()) * self.voxel_mm3 / 1000


def bring_to_flair(probability: np.ndarray, case: Case) -> Prediction:
    """Bring what was predicted on the network grid to the grid of the FLAIR, as a run does.

    Parameters
    ----------
    probability
        (X, Y, Z) float32 on the network grid.
    case
        The scan.

    Returns
    -------
    Prediction
        On the grid of the FLAIR, beside its reference.
    """
    image = make_image(probability, case.affine)
    to_network = np.linalg.inv(case.to_flair)
    lesions, affine = np.array(case.reference), case.reference_affine
    found = resample(image, lesions.shape, affine, to_network, order=1)
    return Prediction(np.asarray(found.dataobj), lesions, voxel_volume_mm3(affine))


def write_prediction(one: Prediction, path: Path) -> None:
    """Write a prediction, whole or not at all."""
    with appearing(path) as part, part.open("wb") as handle:
        np.savez_compressed(
            handle,
            probability=one.probability,
            lesions=one.lesions,
            voxel_mm3=one.voxel_mm3,
        )


def read_prediction(path: Path) -> Prediction:
    """Read a prediction that `write_prediction` wrote."""
    with np.load(path) as arrays:
        return Prediction(arrays["probability"], arrays["lesions"], float(arrays["voxel_mm3"]))


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


def predict_left_out(
    fold: Fold,
    stages: Sequence[Stage],
    recipe: Recipe,
    contrasts: Sequence[str],
    device: torch.device,
) -> None:
    """Predict the scans that a fold leaves out, once for each of `contrast_subsets`.

    What the stages say until each but the last is kept too, to tell what the next is good for.
    """
    precision = choose_precision("auto", device.type)

    def predict(case: Case, until: int, channels: Tensor, path: Path) -> None:
        volume = replace(case.volume, channels=channels)
        maps = predict_stages(stages[:until], volume, recipe.combination, precision=precision)
        write_prediction(bring_to_flair(maps.probability, case), path)

    for case in fold.tested:
        for until in range(1, len(stages)):
            path = fold.prediction(case, stage=until)
            predict(case, until, stack_channels(case, contrasts), path)
        for hidden in contrast_subsets(case.contrasts, recipe):
            path = fold.prediction(case, hidden)
            predict(case, len(stages), stack_channels(case, contrasts, hidden), path)


def stack_channels(case: Case, contrasts: Sequence[str], hidden: Sequence[str] = ()) -> Tensor:
    """Stack the channels of a case as a network takes them.

    Parameters
    ----------
    case
        The scan.
    contrasts
        Of the network, in this order; 0 where the scan lacks one.
    hidden
        Contrasts that are set to 0 too.

    Returns
    -------
    torch.Tensor
        (C, X, Y, Z) float32; anatomical coordinates of the case follow the contrasts.
    """
    channels, known = case.channels, case.contrasts
    nothing = torch.zeros(channels.shape[1:])
    return torch.stack(
        [
            channels[known.index(name)] if name in known and name not in hidden else nothing
            for name in contrasts
        ]
        + list(channels[len(known) :])
    )


def contrast_subsets(contrasts: Sequence[str], recipe: Recipe) -> list[tuple[str, ...]]:
    """Return what is hidden in turn: nothing, then every choice of contrasts that may be missing.

    The operating point is to hold for patients of whom there are fewer contrasts too.
    """
    optional = recipe.may_lack(contrasts)
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
