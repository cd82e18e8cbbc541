"""Real scans as samples: changed at random, lesions taken from them and given to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.files import appearing
from cascade_bids.models.cases import Case
from cascade_bids.models.training_data import ScanKind
from cascade_bids.preprocess.tissue import CSF, GREY, WHITE, classify_tissue
from cascade_bids.training.data.donors import Donor
from cascade_bids.training.data.tissues import TISSUES
from cascade_bids.training.synthesis import augment
from cascade_bids.training.synthesis.augment import smooth_noise, uniform
from cascade_bids.training.synthesis.contrasts import scan
from cascade_bids.training.synthesis.painting import (
    Painted,
    find_host,
    place_lesions,
)
from cascade_bids.training.synthesis.sample import (
    POSE,
    WINDOW,
    Sample,
    draw_contrasts,
    finish,
    world_points,
)

DIFFERENCE = {"FLAIR": (1.6, 3.8), "T1w": (-2.2, -0.4), "T2w": (1.2, 3.2), "PDw": (0.8, 2.0)}
"""Lowest and highest difference of a painted lesion from what was there, in z-scores."""

UNEVEN = 0.5
"""Highest logarithmic standard deviation of what a contrast shows of painted lesions."""

SHADES = 0.2
"""Highest standard deviation of what varies over centimetres, in z-scores."""

CLEARED, KEPT = 0.5, 0.2
"""How often all lesions of a scan are taken away, and how often none is."""

PREPARED = ("tissues", "spread", "cleared")
"""Arrays that `prepare_real` keeps beside those of a case."""

RIM_MM = 2.0
"""Around lesions as outlined, which goes with them when they are taken away."""


@dataclass(frozen=True)
class RealScan:
    """A scan on the network grid with what changing it needs; its arrays stay on disk."""

    case: Case
    """The scan."""
    kind: ScanKind = ScanKind.LABELLED
    """`LABELLED`, or `UNLABELLED` if nobody outlined its lesions."""
    ignore_mask: Path | None = None
    """(X, Y, Z) bool, what may be a lesion in an unlabelled scan; see `find_ignore_masks`."""

    @property
    def spread(self) -> np.ndarray:
        """(C, X, Y, Z) float32, the contrasts, each carried on beyond the brain's rim."""
        return np.load(self.case.folder / "spread.npy", mmap_mode="r")

    @property
    def cleared(self) -> np.ndarray:
        """(C, X, Y, Z) float32, the same with white matter in the place of lesions."""
        return np.load(self.case.folder / "cleared.npy", mmap_mode="r")

    @property
    def tissues(self) -> np.ndarray:
        """(X, Y, Z) uint8, indices in `TISSUES` within the brain; lesions are white matter."""
        return np.load(self.case.folder / "tissues.npy", mmap_mode="r")

    @property
    def donor(self) -> Donor:
        """Its lesions."""
        to_voxel = torch.from_numpy(np.linalg.inv(self.case.to_template)).float()
        mask = torch.from_numpy(np.array(self.case.lesions, dtype=np.uint8))
        return Donor(self.case.participant, mask, to_voxel)


def prepare_real(case: Case) -> RealScan:
    """Find the tissues of a case that has a T1w, and clear its contrasts of lesions.

    Takes half a minute; the folder of the case keeps what is found until the case changes.

    Raises
    ------
    ScanError
        When the T1w shows no tissues.
    """
    if _is_prepared(case):
        return RealScan(case)
    brain, lesions = np.asarray(case.brain), np.asarray(case.lesions)
    contrasts = case.channels[: len(case.contrasts)].numpy()
    classes = classify_tissue(contrasts[case.contrasts.index("T1w")], brain)
    tissues = _name_tissues(classes, lesions)
    white = (tissues == TISSUES.index("white")) & ~lesions
    # The 0 outside is that of tissue: it must not leak into the fluid at the brain's rim.
    nearest = ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
    spread = contrasts[(slice(None), *nearest)]
    fluid = tissues == TISSUES.index("fluid")
    cleared = np.stack([_clear(image, lesions, white, fluid) for image in spread])
    for name, values in zip(PREPARED, (tissues, spread, cleared), strict=True):
        # Another process may have the file mapped.
        with appearing(case.folder / f"{name}.npy") as part, part.open("wb") as handle:
            np.save(handle, values)
    return RealScan(case)


def _is_prepared(case: Case) -> bool:
    kept = [case.folder / f"{name}.npy" for name in PREPARED]
    if not all(path.exists() for path in kept):
        return False
    since = max((case.folder / name).stat().st_mtime_ns for name in ("volume.npy", "lesions.npy"))
    return all(path.stat().st_mtime_ns >= since for path in kept)


def change_scan(
    real: RealScan,
    donors: Sequence[Donor],
    contrasts: Sequence[str],
    rng: torch.Generator,
    *,
    whole: bool = False,
) -> Sample:
    """Change a real scan at random: fewer lesions of its own, and further ones.

    What the ignore mask covers stays as it is, and nothing is painted there.

    Parameters
    ----------
    real
        The scan.
    donors
        Whose lesions it may get.
    contrasts
        Channels of the sample, FLAIR among them.
    rng
        Source of randomness.
    whole
        Whether no contrast is left out.

    Returns
    -------
    Sample
        Of `WINDOW` voxels.
    """
    case = real.case
    shape = case.brain.shape
    box = ndimage.find_objects(np.asarray(case.brain, dtype=np.uint8))[0]
    centre = torch.tensor([(side.start + side.stop - 1) / 2 for side in box])
    grid = augment.random_grid(WINDOW, shape, centre, rng, **POSE)

    def sample(values: np.ndarray) -> Tensor:
        return augment.sample(torch.from_numpy(values.astype(np.float32)), grid, "bilinear")

    kept = _draw_kept(np.asarray(case.lesions), rng)
    rim = _widen(kept)
    own = case.lesions & (rim > 0.5)
    brain, lesions = sample(case.brain) >= 0.5, sample(own) >= 0.5
    coordinates = world_points(grid, shape, torch.from_numpy(case.to_template))
    tissues = augment.sample(torch.from_numpy(np.array(real.tissues)), grid, "nearest").byte()
    ignore = None if real.ignore_mask is None else sample(np.load(real.ignore_mask)) > 0
    taken = lesions if ignore is None else lesions | ignore
    # Lesions reach a little beyond where they may lie.
    painted = place_lesions(find_host(tissues) * ~taken, coordinates, donors, rng).within(~taken)
    present = set(case.contrasts) if whole else draw_contrasts(case.contrasts, rng)
    images = {}
    for number, contrast in enumerate(case.contrasts):
        if contrast in present:
            cleared = real.cleared[number]
            image = sample(cleared + rim * (real.spread[number] - cleared))
            image = _recolour(image, contrast, painted, rng)
            images[contrast] = scan(contrast, _to_intensities(image, brain), rng)
    labels = lesions | painted.lesions
    return finish(images, contrasts, brain, labels, coordinates, kind=real.kind, ignore=ignore)


def _name_tissues(classes: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    """Convert classes to indices in `TISSUES` (X, Y, Z): all grey matter is cortex."""
    tissues = np.zeros(classes.shape, np.uint8)
    tissues[classes == GREY] = TISSUES.index("cortex")
    tissues[(classes == WHITE) | lesions] = TISSUES.index("white")
    tissues[(classes == CSF) & ~lesions] = TISSUES.index("fluid")
    return tissues


def _recolour(image: Tensor, contrast: str, painted: Painted, rng: torch.Generator) -> Tensor:
    """Paint lesions, and add shades."""
    shape = tuple(image.shape)
    uneven = smooth_noise(shape, (10, 12, 10), rng)[0] + smooth_noise(shape, (40, 48, 40), rng)[0]
    strength = painted.strength * torch.exp(uniform(0.1, UNEVEN, rng) * uneven)
    image = image + uniform(*DIFFERENCE[contrast], rng) * strength * painted.share
    return image + uniform(0, SHADES, rng) * smooth_noise(shape, (24, 28, 24), rng)[0]


def _draw_kept(lesions: np.ndarray, rng: torch.Generator) -> np.ndarray:
    """Draw which lesion voxels stay (X, Y, Z) bool: none, all, or those of some regions."""
    choice = uniform(0, 1, rng)
    if choice < CLEARED or not lesions.any():
        return np.zeros_like(lesions)
    if choice < CLEARED + KEPT:
        return lesions
    field = smooth_noise(lesions.shape, (14, 14, 14), rng)[0].numpy()
    return lesions & (field < np.quantile(field[lesions], uniform(0, 1, rng)))


def _clear(
    image: np.ndarray, lesions: np.ndarray, white: np.ndarray, fluid: np.ndarray
) -> np.ndarray:
    """Replace lesions by what white matter around them looks like, its texture included."""
    around = white & (_widen(lesions) < 0.01)
    if not around.any():
        return image
    weight = ndimage.gaussian_filter(around.astype(np.float32), 6)
    level = ndimage.gaussian_filter(image * around, 6) / np.maximum(weight, 1e-3)
    level = np.where(weight < 1e-3, np.median(image[around]), level)
    drawn = np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)
    texture = ndimage.gaussian_filter(drawn, 0.6)
    texture *= 0.8 * (image - level)[around].std() / texture.std()
    cleared = image + _widen(lesions) * (level + texture - image)
    return np.where(fluid, image, cleared).astype(np.float32)


def _widen(lesions: np.ndarray) -> np.ndarray:
    """Return a soft mask (X, Y, Z) float32 of lesions and `RIM_MM` around them."""
    near = ndimage.distance_transform_edt(~lesions) <= RIM_MM if lesions.any() else lesions
    return ndimage.gaussian_filter(near.astype(np.float32), 0.8)


def _to_intensities(scores: Tensor, brain: Tensor) -> Tensor:
    """Map z-scores to intensities from 0 to about 1: the scanner's faults are those of such."""
    low, high = torch.quantile(scores[brain][::50], torch.tensor([0.002, 0.998]))
    return ((scores - low) / (high - low)).clamp(min=0)
