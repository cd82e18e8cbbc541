"""Voxels of scans that a generator draws, to learn from."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.errors import UsageError
from cascade_bids.files import appearing, write_text
from cascade_bids.models.network import CandidateRule, Volume
from cascade_bids.models.predict import Stage, predict_stages
from cascade_bids.models.training_data import DescribeVoxels, ScanKind, Voxels
from cascade_bids.preprocess.coordinates import (
    ATLAS_MM,
    ATLAS_ORIGIN_MM,
    ATLAS_SHAPE,
    template_coordinates,
)
from cascade_bids.training.data.donors import Donor
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.synthesis.sample import Sample

log = logging.getLogger(__name__)

SCANS = 80
"""Scans of each kind that a network learns from."""

MOST_TOGETHER = 4
"""Scans that are drawn side by side: each takes about a GB."""

SCANS_TO_VALIDATE = 4
"""Scans that the validation loss is the mean of."""

LESION_VOXELS, OTHER_VOXELS = 8_000, 24_000
"""Voxels of one scan, at the most."""

ATLAS_BLUR_MM = 3.0
"""Standard deviation: how far from a lesion others are likely."""


@dataclass(frozen=True)
class VoxelDrawing:
    """Draws scans and chooses voxels of them, which are kept on disk."""

    generator: ScanGenerator
    """Draws the scans."""
    describe: DescribeVoxels
    """Computes the features of voxels."""
    learn: CandidateRule
    """Which voxels are learned from."""
    before: Sequence[Stage]
    """The stages that are trained already."""
    folder: Path
    """Keeps the voxels of each scan."""
    needed: Sequence[ScanKind]
    """Kinds of scans of which there must be lesion voxels."""
    until: float | None
    """Monotonic time from which fewer scans are enough; None for all."""

    def draw(self, seed: int) -> tuple[Voxels, Voxels]:
        """Draw voxels to learn from and to validate on.

        Parameters
        ----------
        seed
            Of the first scan to learn from; the next have the next.

        Returns
        -------
        tuple of Voxels
            Of all scans together.

        Raises
        ------
        UsageError
            When no voxel counts, or none of a lesion in one of the kinds that are needed.
        """
        kinds = self.generator.kinds
        count = len(kinds) * SCANS
        checked = self._draw(self.generator.to_check(), "checked", SCANS_TO_VALIDATE, seed + 50_000)
        learned = self._draw(self.generator.to_learn(), "learned", count, seed)
        if not len(checked.target) or not _have_lesions([learned], self.needed):
            raise UsageError(
                "the stage before finds nothing of the lesions, so there is nothing to learn from; "
                "train it longer"
            )
        return learned, checked

    def _draw(self, source: ScanGenerator, name: str, count: int, seed: int) -> Voxels:
        kinds = self.generator.kinds

        def choose(number: int) -> Voxels:
            rng = torch.Generator().manual_seed(seed + number)
            sample = source.draw(rng, kinds[number % len(kinds)])
            volume = sample.to_volume(source.contrasts)
            return choose_voxels(self.describe, sample, volume, self.learn, self.before, rng)

        return _gather(choose, self.folder / name, count, self.until, self.needed)


def _gather(
    choose: Callable[[int], Voxels],
    folder: Path,
    count: int,
    until: float | None,
    needed: Sequence[ScanKind],
) -> Voxels:
    """Choose the voxels of so many scans, or of fewer when time is up; what is there is taken.

    When it is done again there are as many, however much time there is.
    """
    ended = folder / "count.txt"
    if ended.exists():
        count, until = int(ended.read_text()), None

    def provide(number: int) -> Voxels:
        path = folder / f"{number}.npz"
        if not path.exists():
            found = choose(number)
            with appearing(path) as beside, beside.open("wb") as handle:
                np.savez(handle, **found._asdict())
            log.info("drew scan %d of %d (%s)", number + 1, count, folder.name)
        with np.load(path) as arrays:
            return Voxels(**arrays)

    parts: list[Voxels] = []
    with side_by_side() as (together, pool):
        for first in range(0, count, together):
            # Experts need lesions, however short the time is.
            late = until is not None and time.monotonic() > until
            if late and _have_lesions(parts, needed):
                break
            parts += pool.map(provide, range(first, min(first + together, count)))
    if len(parts) < count:
        write_text(ended, str(len(parts)))
    return Voxels(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@contextmanager
def side_by_side() -> Iterator[tuple[int, ThreadPoolExecutor]]:
    """Share the threads among scans: much of what is done for one takes a single thread.

    Yields
    ------
    tuple of int and ThreadPoolExecutor
        How many scans are drawn at once, and what draws them.
    """
    threads = torch.get_num_threads()
    together = min(threads, MOST_TOGETHER)
    each = threads // together
    try:
        with ThreadPoolExecutor(together, "draw", torch.set_num_threads, (each,)) as pool:
            yield together, pool
    finally:
        torch.set_num_threads(threads)


def _have_lesions(parts: Sequence[Voxels], kinds: Sequence[ScanKind]) -> bool:
    """Return whether there are lesion voxels of each of these kinds."""
    lesions = [part.target[part.target[:, 0] > 0, 2] for part in parts]
    return all(any((one == kind).any() for one in lesions) for kind in kinds)


def choose_voxels(
    describe: DescribeVoxels,
    sample: Sample,
    volume: Volume,
    learn: CandidateRule,
    before: Sequence[Stage],
    rng: torch.Generator,
) -> Voxels:
    """Choose voxels of a sample at random, some of its lesions and some others, and describe them.

    Parameters
    ----------
    describe
        Computes their features.
    sample, volume
        The drawn scan, and the same as networks see it.
    learn
        Which voxels are learned from; never those of the ignore mask.
    before
        The stages that are trained already.
    rng
        Source of randomness.

    Returns
    -------
    Voxels
        Each stands for as many voxels of its kind as there are for one that was chosen, so that
        what is learned is how likely lesions are.
    """
    brain, lesions = volume.brain, sample.lesions.numpy().ravel()
    previous = np.zeros(brain.shape, np.float32)
    if before:
        previous = predict_stages(before, volume, "last").probability
    candidates = learn.select(volume.flair, brain, previous)
    if sample.ignore is not None:
        candidates &= ~sample.ignore.numpy()
    numbers = np.flatnonzero(candidates)
    chosen, targets = [], []
    for is_lesion, most in ((True, LESION_VOXELS), (False, OTHER_VOXELS)):
        there = numbers[lesions[numbers] == is_lesion]
        some = there[torch.randperm(len(there), generator=rng)[:most].numpy()]
        chosen.append(some)
        stands_for = len(there) / max(len(some), 1)
        targets.append(
            np.tile(np.array([is_lesion, stands_for, sample.kind], np.float32), (len(some), 1))
        )
    voxels = np.unravel_index(np.concatenate(chosen), brain.shape)
    return Voxels(describe(volume, voxels, previous), np.concatenate(targets))


def draw_atlas(donors: Sequence[Donor]) -> Tensor:
    """Compute how often lesions are where in the template, on both sides alike.

    Parameters
    ----------
    donors
        Participants with lesions; none for an empty atlas.

    Returns
    -------
    Tensor
        `ATLAS_SHAPE` float32, 0 to 1.
    """
    affine = np.diag([ATLAS_MM, ATLAS_MM, ATLAS_MM, 1.0])
    affine[:3, 3] = ATLAS_ORIGIN_MM
    coordinates = template_coordinates(ATLAS_SHAPE, affine)
    total = np.zeros(ATLAS_SHAPE, np.float32)
    for donor in donors:
        to_voxel = donor.to_voxel.numpy()
        width = ATLAS_BLUR_MM / nib.affines.voxel_sizes(np.linalg.inv(to_voxel))
        mask = ndimage.gaussian_filter(donor.mask.numpy().astype(np.float32), width)
        for side in (1, -1):
            index = (coordinates * (side, 1, 1)) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
            total += ndimage.map_coordinates(mask, np.moveaxis(index, -1, 0), order=1)
    return torch.from_numpy(total / max(2 * len(donors), 1)).float()
