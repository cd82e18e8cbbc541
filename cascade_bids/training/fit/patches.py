"""Train a network that classifies patches, on all lesion voxels and as many others."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.models.architectures.patch_classifier import PatchReader
from cascade_bids.models.cases import Case
from cascade_bids.models.network import CandidateRule
from cascade_bids.models.predict import Stage, predict_stages
from cascade_bids.models.training_data import Batch

PATCHES_PER_EPOCH = 16_384
"""After so many patches the validation loss is computed, even if more lesion voxels are left."""

SLAB_MM = 12
"""Thickness of the axial slabs that go to training or to validation as a whole."""

NOTHING_HELD_OUT = (
    f"all lesions lie within {SLAB_MM} mm from top to bottom, so none can be held out to tell when "
    "to stop; add a scan with more lesions"
)
"""What is said when no lesion is left to validate on."""


def hold_out(filled: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Choose the slabs of a scan that are held out for validation.

    Of the slabs that hold lesions the second, then every fourth, and likewise of the others, which
    are all slabs of a healthy scan; none of a scan with lesions in one slab only, which is learned
    from as a whole.

    Parameters
    ----------
    filled, others
        Numbers of the slabs that hold lesions, and of all slabs.

    Returns
    -------
    numpy.ndarray
        Numbers of slabs.
    """
    empty = np.setdiff1d(others, filled)
    return np.concatenate([filled[1::4], empty[:0] if len(filled) == 1 else empty[1::4]])


class StoredVoxels:
    """A list (N, 3) int16 of voxels on disk that is opened only while rows are read.

    So neither memory nor the number of open files grows with the number of scans.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = len(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        return np.array(np.load(self._path, mmap_mode="r")[rows])


@dataclass(frozen=True)
class VoxelSet:
    """The voxels of one scan that a stage may learn from."""

    patches: Callable[[], PatchReader]
    """Opens the scan to cut patches out of it."""
    lesions: StoredVoxels | np.ndarray
    """(N, 3) int16, lesion voxels."""
    others: StoredVoxels | np.ndarray
    """(M, 3) int16, candidates without lesion."""


@dataclass(frozen=True)
class Drawn:
    """The voxels of one scan, in two halves that share no slab.

    Neighbouring patches overlap, so voxels drawn at random for validation would have been seen in
    training; whole slabs are not. `hold_out` chooses them.
    """

    learned: VoxelSet
    """To train on."""
    checked: VoxelSet
    """To validate on."""


def save_voxels(
    patches: Callable[[], PatchReader], lesions: np.ndarray, candidates: np.ndarray, folder: Path
) -> Drawn:
    """Split the voxels of a scan into halves and keep them on disk.

    Parameters
    ----------
    patches
        Opens the scan to cut patches out of it.
    lesions, candidates
        (X, Y, Z) bool: lesion voxels, and the candidates of the stage.
    folder
        Where the lists go, one folder for each scan.

    Returns
    -------
    Drawn
        As `load_voxels` gives it.
    """
    masks = {"lesions": lesions, "others": candidates & ~lesions}
    voxels = {kind: np.argwhere(mask).astype(np.int16) for kind, mask in masks.items()}
    slabs = {kind: found[:, 2] // SLAB_MM for kind, found in voxels.items()}
    held_out = hold_out(np.unique(slabs["lesions"]), np.unique(slabs["others"]))
    for kind, found in voxels.items():
        checked = np.isin(slabs[kind], held_out)
        for half, kept in (("learned", found[~checked]), ("checked", found[checked])):
            with appearing(folder / f"{half}_{kind}.npy") as part:
                np.save(part, kept)
    return _open_lists(patches, folder)


def load_voxels(patches: Callable[[], PatchReader], folder: Path) -> Drawn | None:
    """Open what an earlier run kept of a scan, if all of it is there.

    Parameters
    ----------
    patches
        Opens the scan to cut patches out of it.
    folder
        Of the scan.

    Returns
    -------
    Drawn or None
        Both halves.
    """
    return _open_lists(patches, folder) if len(list(folder.glob("[!.]*.npy"))) == 4 else None


def _open_lists(patches: Callable[[], PatchReader], folder: Path) -> Drawn:
    halves = []
    for half in ("learned", "checked"):
        lists = (folder / f"{half}_{kind}.npy" for kind in ("lesions", "others"))
        halves.append(VoxelSet(patches, *(StoredVoxels(path) for path in lists)))
    return Drawn(*halves)


def draw_voxels(
    cases: Sequence[Case],
    rule: CandidateRule,
    folder: Path,
    combination: str,
    before: Sequence[Stage],
    patch_size: int,
) -> list[Drawn]:
    """Find the voxels that a stage learns from; they are kept on disk.

    Those of a broken run are taken again: to predict with the stages before takes minutes for each
    scan.

    Parameters
    ----------
    cases
        Scans to learn from.
    rule
        Where the voxels without lesion come from.
    folder
        Of this stage.
    combination
        Of the recipe.
    before
        The stages that are trained already.
    patch_size
        Of the network.

    Returns
    -------
    list of Drawn
        One for each case.
    """
    drawn = []
    for case in cases:
        patches, kept = functools.partial(case.patches, patch_size), folder / case.label
        voxels = load_voxels(patches, kept)
        if voxels is None:
            flair, brain, lesions = case.flair, case.brain, case.lesions
            previous = np.zeros(brain.shape, dtype=np.float32)
            if before:
                previous = predict_stages(before, case.volume, combination).probability
            voxels = save_voxels(patches, lesions, rule.select(flair, brain, previous), kept)
        drawn.append(voxels)
    return drawn


class PatchBatches:
    """Batches of patches, half of them around lesion voxels; see `training_data.Batches`.

    About every fourth slab of each scan is held out for validation; see `hold_out`.

    Parameters
    ----------
    drawn
        From `draw_voxels`.
    batch_size
        Patches in a batch.
    seed
        Of what is drawn and of the augmentation.
    augment
        Changes patches (N, C, S, S, S) at random in training; None for no change.

    Raises
    ------
    UsageError
        When no lesion can be held out, or there are no voxels without lesion.
    """

    def __init__(
        self,
        drawn: Sequence[Drawn],
        batch_size: int,
        seed: int,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None,
    ) -> None:
        self._learned = [voxels.learned for voxels in drawn]
        self._checked = [voxels.checked for voxels in drawn]
        self._batch_size, self._seed, self._augment = batch_size, seed, augment
        if not any(len(voxels.lesions) for voxels in self._checked):
            raise UsageError(NOTHING_HELD_OUT)
        halves = (self._learned, self._checked)
        if not all(any(len(voxels.others) for voxels in half) for half in halves):
            raise UsageError(
                "the stage before finds nothing that is no lesion, so there is nothing to learn "
                "from; train it longer or on more scans"
            )

    @property
    def lesion_voxels(self) -> int:
        """How many lesion voxels there are, to learn from and to validate on."""
        return sum(len(voxels.lesions) for voxels in (*self._learned, *self._checked))

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        return balanced_batches(
            self._learned,
            patches=PATCHES_PER_EPOCH,
            batch_size=self._batch_size,
            seed=100_003 * self._seed + epoch,
            augment=self._augment,
        )

    def validate(self) -> Iterator[Batch]:
        """Yield the batches whose mean loss is the validation loss, the same every time."""
        return balanced_batches(
            self._checked,
            patches=PATCHES_PER_EPOCH // 4,
            batch_size=self._batch_size,
            seed=self._seed,
            augment=None,
        )


def balanced_batches(
    sets: Sequence[VoxelSet],
    *,
    patches: int,
    batch_size: int,
    seed: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None,
) -> Iterator[Batch]:
    """Draw lesion voxels and as many others, anew for every epoch.

    Only the patches of one batch are in memory.

    Parameters
    ----------
    sets
        One for each scan.
    patches
        How many patches at the most; all lesion voxels and as many others when there are fewer.
    batch_size
        Patches in a batch.
    seed
        Of what is drawn and of the augmentation.
    augment
        Changes patches (N, C, S, S, S) at random; None for validation.

    Yields
    ------
    tuple of Tensor
        Patches (N, C, S, S, S) float32 and targets (N,) int64, 1 for lesion.
    """
    rng = np.random.default_rng(seed)
    lesions = _draw([voxels.lesions for voxels in sets], patches // 2, rng)
    others = _draw([voxels.others for voxels in sets], len(lesions), rng)
    drawn = np.concatenate([lesions, others])
    target = np.arange(len(drawn)) < len(lesions)
    order = rng.permutation(len(drawn))
    noise = torch.Generator().manual_seed(seed)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        inputs = _read(sets, drawn[chosen])
        if augment is not None:
            inputs = augment(inputs, noise)
        yield inputs, torch.from_numpy(target[chosen]).long()


def _draw(
    voxels: Sequence[StoredVoxels | np.ndarray], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw rows (K, 4) of all scans together: number of the scan and voxel."""
    ends = np.cumsum([len(one) for one in voxels])
    total = int(ends[-1])
    numbers = rng.choice(total, min(count, total), replace=False, shuffle=False)
    scans = np.searchsorted(ends, numbers, side="right")
    rows = np.empty((len(numbers), 4), dtype=np.int64)
    for number, one in enumerate(voxels):
        mine = scans == number
        if not mine.any():
            continue
        rows[mine, 0] = number
        rows[mine, 1:] = one[numbers[mine] - (ends[number] - len(one))]
    return rows


def _read(sets: Sequence[VoxelSet], rows: np.ndarray) -> Tensor:
    parts = []
    order = np.argsort(rows[:, 0], kind="stable")
    for number in np.unique(rows[:, 0]):
        mine = order[rows[order, 0] == number]
        parts.append(sets[number].patches().read(torch.from_numpy(rows[mine, 1:])))
    inputs = torch.empty((len(rows), *parts[0].shape[1:]))
    inputs[torch.from_numpy(order)] = torch.cat(parts)
    return inputs


def axial_flips(patches: Tensor, rng: torch.Generator) -> Tensor:
    """Turn half of the patches by 180° in the axial plane, mirror them, or both, as published.

    Valverde et al. 2017, section 2.4. Patches are (N, C, X, Y, Z) in RAS+.
    """
    changed = patches.clone()
    kinds = torch.randint(6, (len(patches),), generator=rng)
    for kind, axes in enumerate(((2, 3), (2,), (3,))):
        mine = kinds == kind
        changed[mine] = patches[mine].flip(axes)
    return changed
