"""Real labelled scans as samples: changed at random, and given further lesions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.preprocess.tissue import WHITE, classify_tissue
from cascade_bids.training import augment
from cascade_bids.training.augment import uniform
from cascade_bids.training.cases import Case
from cascade_bids.training.contrasts import scan
from cascade_bids.training.heads import Donor
from cascade_bids.training.painting import place_lesions
from cascade_bids.training.sample import POSE, WINDOW, Sample, draw_contrasts, finish, world_points

DIFFERENCE = {"FLAIR": (1.5, 6.0), "T1w": (-3.0, 0.1), "T2w": (1.0, 5.0), "PDw": (0.8, 3.0)}
"""Lowest and highest difference of a painted lesion from what was there, in z-scores."""


@dataclass(frozen=True)
class RealScan:
    """A labelled scan on the network grid with what changing it needs; its arrays stay on disk."""

    case: Case
    """The scan."""

    @property
    def spread(self) -> np.ndarray:
        """(C, X, Y, Z) float32, the contrasts, each carried on beyond the brain's rim."""
        return np.load(self.case.folder / "spread.npy", mmap_mode="r")

    @property
    def white(self) -> np.ndarray:
        """(X, Y, Z) bool, white matter without lesions."""
        return np.load(self.case.folder / "white.npy", mmap_mode="r")

    @property
    def donor(self) -> Donor:
        """Its lesions; the network grid is the template's, moved rigidly to the head."""
        to_voxel = torch.from_numpy(np.linalg.inv(self.case.affine)).float()
        mask = torch.from_numpy(np.array(self.case.lesions, dtype=np.uint8))
        return Donor(self.case.scan.subject, mask, to_voxel)


def prepare_real(case: Case) -> RealScan:
    """Find the white matter of a case that has a T1w, and carry its contrasts beyond the brain.

    Raises
    ------
    ScanError
        When the T1w shows no tissues.
    """
    brain = np.asarray(case.brain)
    contrasts = case.volume[: len(case.contrasts)].numpy()
    classes = classify_tissue(contrasts[case.contrasts.index("T1w")], brain)
    np.save(case.folder / "white.npy", ndimage.binary_opening(classes == WHITE) & ~case.lesions)
    # The 0 outside is that of tissue: it must not leak into the fluid at the brain's rim.
    nearest = ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
    np.save(case.folder / "spread.npy", contrasts[(slice(None), *nearest)])
    return RealScan(case)


def change_scan(real: RealScan, donors: Sequence[Donor], rng: torch.Generator) -> Sample:
    """Change a real labelled scan at random, and mostly give it further lesions.

    Parameters
    ----------
    real
        The scan.
    donors
        Whose lesions it may get.
    rng
        Source of randomness.

    Returns
    -------
    Sample
        Of `WINDOW` voxels.
    """
    case = real.case
    box = ndimage.find_objects(np.asarray(case.brain, dtype=np.uint8))[0]
    centre = torch.tensor([(side.start + side.stop - 1) / 2 for side in box])
    grid = augment.random_grid(WINDOW, case.brain.shape, centre, rng, **POSE)

    def sample(values: np.ndarray) -> Tensor:
        return augment.sample(torch.from_numpy(values.astype(np.float32)), grid, "bilinear")

    brain, lesions = sample(case.brain) >= 0.5, sample(case.lesions) >= 0.5
    points = world_points(grid, case.brain.shape, torch.from_numpy(case.affine).float())
    painted = place_lesions(sample(real.white), points, donors, rng)
    present = draw_contrasts(case.contrasts, rng)
    images = {}
    for contrast, values in zip(case.contrasts, real.spread, strict=True):
        if contrast not in present:
            continue
        step = uniform(*DIFFERENCE[contrast], rng) * painted.strength
        image = sample(values) + painted.share * (~lesions) * step
        images[contrast] = scan(contrast, _raise(image, brain), rng)
    return finish(images, case.contrasts, brain, lesions | painted.lesions)


def _raise(scores: Tensor, brain: Tensor) -> Tensor:
    """Map z-scores to intensities from 0 to about 1: the scanner's faults are those of such."""
    low, high = torch.quantile(scores[brain][::50], torch.tensor([0.002, 0.998]))
    return ((scores - low) / (high - low)).clamp(min=0)
