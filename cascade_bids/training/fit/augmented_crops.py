"""Crops of labelled scans, changed at random as scanners and patients differ."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from cascade_bids.lesions.label import CONNECTED
from cascade_bids.models.cases import Case
from cascade_bids.models.training_data import Batch
from cascade_bids.training.synthesis import augment
from cascade_bids.training.synthesis.augment import uniform
from cascade_bids.training.synthesis.sample import draw_contrasts

CROPS_PER_EPOCH = 128
"""After so many crops there is a checkpoint."""

POSE = {"max_degrees": 15.0, "max_scale": 0.15, "max_shift": 24.0, "elastic": 2.0}
"""How far a crop is turned, scaled, shifted and deformed; see `augment.random_grid`."""

THIN_MM = 3.0
"""Thicker slices are not made thicker still."""

WIDEST_MM = 8.0
"""Thickest slices that are imitated."""

BLACK = 5.0
"""Standard deviations of the tissue from its mean down to black."""

FADED = (0.5, 1.2)
"""Lowest and highest part of its difference from the mean tissue that a lesion keeps."""

MIXED = (-0.15, 0.45)
"""Lowest and highest part of the T1w, z-scores, that is taken from the FLAIR: the more, the
brighter the cortex, in which FLAIR sequences differ most."""

LARGE_MM3 = 1000.0
"""Smaller lesions weigh as much as one of this volume, unless they are much smaller."""

HEAVIEST = 30.0
"""Highest weight of a voxel."""

CHANCES = {
    "paint": 0.35,
    "mix": 0.4,
    "carve": 0.5,
    "fade": 0.3,
    "thicken": 0.5,
    "bend": 0.5,
    "shade": 0.5,
    "blur": 0.3,
    "noise": 0.5,
    "strip": 0.5,
}
"""How often a scan is a painted one if there are any, the FLAIR shows more or less of what the T1w
shows, lesions of another scan are set in, lesions are paler or brighter on the FLAIR, thin slices
become thick, contrast curves are bent, a bias field shades, resolution is lost, noise is added, and
the rim of the brain is cut off."""


@dataclass(frozen=True)
class AugmentedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops, by number: the same number is the same crop.

    Parameters
    ----------
    cases
        The scans; of each source about as many are drawn as it has participants to the power of
        one half, so that none is drowned.
    contrasts
        Channels, in this order; those that a scan lacks are 0.
    window
        Voxels of a crop.
    seed
        Of what is drawn.
    painted
        Further scans, on the same grid.
    """

    cases: Sequence[Case]
    contrasts: Sequence[str]
    window: Sequence[int]
    seed: int
    painted: Sequence[Case] = ()

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Draw a crop.

        Returns
        -------
        Tensor
            (C + 1, X, Y, Z) float32: contrasts and brain mask.
        Tensor
            (2, X, Y, Z) float32: part of each voxel that is lesion, and its weight: 0 outside the
            brain, 1 in it, and more in small lesions.
        """
        rng = torch.Generator().manual_seed(1_000_003 * self.seed + number)
        case = self._draw_case(rng)
        other = self._draw_case(rng) if _happens("carve", rng) else None
        return draw_crop(case, other, self.contrasts, self.window, rng, lesion=number % 2 == 0)

    def _draw_case(self, rng: torch.Generator) -> Case:
        people: dict[str, dict[str, list[Case]]] = {}
        for case in self.painted if self.painted and _happens("paint", rng) else self.cases:
            people.setdefault(case.source, {}).setdefault(case.participant, []).append(case)
        weights = torch.tensor([len(found) ** 0.5 for found in people.values()])
        source = list(people.values())[int(torch.multinomial(weights, 1, generator=rng))]
        scans = list(source.values())[int(torch.randint(len(source), (), generator=rng))]
        return scans[int(torch.randint(len(scans), (), generator=rng))]


class AugmentedBatches:
    """Batches of `AugmentedCrops`, which a process beside draws; see `training_data.Batches`.

    Nothing is held out: the scans of a labelled dataset are few, and slabs of the same scans say
    little of others.
    """

    def __init__(self, crops: AugmentedCrops, batch_size: int) -> None:
        self._crops, self._batch_size = crops, batch_size
        for case in (*crops.cases, *crops.painted):
            # Once for all the processes beside: there is a new one in each epoch.
            _list_lesions(case.folder)

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        numbers = range(epoch * CROPS_PER_EPOCH, (epoch + 1) * CROPS_PER_EPOCH)
        return iter(DataLoader(self._crops, self._batch_size, sampler=numbers, num_workers=1))

    def validate(self) -> Iterator[Batch]:
        """Yield nothing."""
        return iter(())


def draw_crop(
    case: Case,
    other: Case | None,
    contrasts: Sequence[str],
    window: Sequence[int],
    rng: torch.Generator,
    *,
    lesion: bool,
) -> tuple[Tensor, Tensor]:
    """Draw a crop of a scan, and change it.

    Parameters
    ----------
    case
        The scan.
    other
        Scan of which lesions are set into it where both have brain; None for none.
    contrasts, window
        As of `AugmentedCrops`.
    rng
        Source of randomness.
    lesion
        Whether it is drawn around a lesion, if there is one.

    Returns
    -------
    tuple of Tensor
        As of `AugmentedCrops`.
    """
    # Only what the crop has is read and sampled.
    present = draw_contrasts(contrasts, rng).intersection(case.contrasts)
    if other is not None:
        # A contrast that only one of them has cannot show the lesion.
        present &= set(other.contrasts)
    names = [name for name in contrasts if name in present]
    centre = _draw_centre(case, rng, lesion=lesion)
    shape = case.brain.shape
    x, y, z = window
    grid = augment.random_grid((x, y, z), shape, centre, rng, **POSE)
    box, grid = _cut_grid(grid, shape)
    scene = _mix(_read(case, names, box), case, names, box, rng)
    if other is not None:
        scene = carve(scene, _mix(_read(other, names, box), other, names, box, rng), rng)
    scene = F.grid_sample(scene[None], grid, padding_mode="zeros", align_corners=True)[0]
    brain, share = _strip(scene[-2] > 0.5, rng), scene[-1]
    thin = case.slice_mm < THIN_MM
    inputs = torch.zeros(len(contrasts) + 1, *window)
    for name, image in zip(names, scene[:-2], strict=True):
        if name == "FLAIR" and _happens("fade", rng):
            image = image * (1 - scene[-1] * (1 - uniform(*FADED, rng)))
        if thin and _happens("thicken", rng):
            state = rng.get_state()
            image = augment.thick_slices(image, rng, WIDEST_MM)
            if name == "FLAIR":
                # As a rater sees it, who draws on the FLAIR.
                share = augment.thick_slices(share, torch.Generator().set_state(state), WIDEST_MM)
        inputs[contrasts.index(name)] = _change(image, rng) * brain
    inputs[-1] = brain
    return inputs, torch.stack([share * brain, _weigh(share) * brain])


def carve(scene: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """Set lesions of one scan, with their surroundings, into another (Zhang et al. 2021) [1]_.

    Parameters
    ----------
    scene, other
        (C + 2, X, Y, Z): contrasts, brain mask and part that is lesion, of the same place.
    rng
        Source of randomness.

    Returns
    -------
    Tensor
        (C + 2, X, Y, Z).

    References
    ----------
    .. [1] Zhang et al. CarveMix: a simple data augmentation method for brain lesion segmentation.
       MICCAI 2021. doi 10.1007/978-3-030-87193-2_19
    """
    reach = 1 + 2 * int(torch.randint(1, 4, (), generator=rng))
    near = _dilate(other[-1], reach) > 0.5
    # Some regions of the brain give, others do not.
    giving = augment.smooth_noise(tuple(near.shape), (4, 4, 4), rng)[0] > uniform(-1, 1, rng)
    taken = near & giving & (other[-2] > 0.5) & (scene[-2] > 0.5)
    return torch.where(taken, other, scene)


def _weigh(share: Tensor) -> Tensor:
    """Return how much the voxels (X, Y, Z) of a crop count: all lesions, not the large ones alone.

    Its voxels have about 1 mm³.
    """
    labels, count = ndimage.label(share.numpy() > 0.1, CONNECTED)
    volumes = np.maximum(np.bincount(labels.ravel(), minlength=count + 1), 1)
    weights = (LARGE_MM3 / volumes).clip(1, HEAVIEST).astype(np.float32)
    weights[0] = 1
    return torch.from_numpy(weights[labels])


def _happens(change: str, rng: torch.Generator) -> bool:
    return uniform(0, 1, rng) < CHANCES[change]


def _draw_centre(case: Case, rng: torch.Generator, *, lesion: bool) -> Tensor:
    """Draw a voxel (3,) of a lesion, small or large, if there is one, or of the brain."""
    lesions = _list_lesions(case.folder) if lesion else []
    if lesions:
        voxels = lesions[int(torch.randint(len(lesions), (), generator=rng))]
    else:
        voxels = np.flatnonzero(case.brain)
    chosen = int(voxels[int(torch.randint(len(voxels), (), generator=rng))])
    return torch.tensor(np.unravel_index(chosen, case.brain.shape), dtype=torch.float32)


@cache
def _list_lesions(folder: Path) -> list[np.ndarray]:
    """Return the voxels of each lesion of a case, as indices into the volume."""
    labels, count = ndimage.label(np.load(folder / "lesions.npy"), CONNECTED)
    voxels = np.flatnonzero(labels)
    numbers = labels.flat[voxels]
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], range(2, count + 1))
    return np.split(voxels[order], ends) if count else []


def _cut_grid(grid: Tensor, shape: Sequence[int]) -> tuple[tuple[slice, ...], Tensor]:
    """Return the box of the volume that a grid samples, and the grid in that box."""
    box, cut = [], torch.empty_like(grid)
    for axis, size in enumerate(shape):
        # The grid has the axes in reverse.
        voxels = (grid[..., 2 - axis] + 1) * ((size - 1) / 2)
        low = min(max(math.floor(voxels.min()), 0), size - 2)
        high = max(min(math.ceil(voxels.max()), size - 1), low + 1)
        box.append(slice(low, high + 1))
        cut[..., 2 - axis] = (voxels - low) * (2 / (high - low)) - 1
    return tuple(box), cut


def _read(case: Case, contrasts: Sequence[str], box: tuple[slice, ...]) -> Tensor:
    """Read a box of a scan: contrasts, brain mask, part that is lesion."""
    brain, share = (
        torch.from_numpy(np.asarray(values[box], np.float32)) for values in (case.brain, case.share)
    )
    channels = case.channels
    images = [channels[case.contrasts.index(name)][box] for name in contrasts]
    return torch.stack([*images, brain, share])


def _mix(
    scene: Tensor,
    case: Case,
    contrasts: Sequence[str],
    box: tuple[slice, ...],
    rng: torch.Generator,
) -> Tensor:
    """Return a box of a scan whose FLAIR shows more or less of what its T1w shows."""
    if "T1w" in case.contrasts and _happens("mix", rng):
        t1w = case.channels[case.contrasts.index("T1w")][box].clamp(-2, 2)
        scene[contrasts.index("FLAIR")] -= uniform(*MIXED, rng) * t1w * scene[-2]
    return scene


def _change(image: Tensor, rng: torch.Generator) -> Tensor:
    """Change the intensities of one contrast, z-scores, as another scanner would."""
    if _happens("bend", rng):
        # Bends the curve, but leaves the mean tissue and the contrast around it.
        bend = uniform(0.02, 0.15, rng) * (1 if uniform(0, 1, rng) < 0.5 else -1)
        image = torch.expm1(bend * image.clamp(-8, 8)) / bend
    if _happens("shade", rng):
        image = augment.bias_field(image + BLACK, rng, 0.12) - BLACK
    if _happens("blur", rng):
        image = augment.thick_slices(image, rng, 2.0)
    if _happens("noise", rng):
        image = image + uniform(0, 0.4, rng) * torch.randn(image.shape, generator=rng)
    return image * uniform(0.8, 1.25, rng) + uniform(-0.3, 0.3, rng)


def _dilate(values: Tensor, size: int) -> Tensor:
    """Return the highest value (X, Y, Z) in the cube of `size` voxels, odd, around each voxel."""
    found = values[None, None]
    for axis in range(3):
        # One axis after the other: a cube at once takes many times as long.
        kernel = [size if axis == other else 1 for other in range(3)]
        found = F.max_pool3d(found, kernel, 1, [side // 2 for side in kernel])
    return found[0, 0]


def _strip(brain: Tensor, rng: torch.Generator) -> Tensor:
    """Return the brain as an imperfect extraction does: parts of its rim are cut off."""
    if not _happens("strip", rng):
        return brain
    inner = _dilate((~brain).float(), 5) < 0.5
    cut = augment.smooth_noise(tuple(brain.shape), (5, 5, 5), rng)[0] > uniform(0, 2, rng)
    return inner | (brain & ~cut)
