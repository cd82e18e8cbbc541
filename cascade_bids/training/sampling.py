"""Which voxels a stage learns from: all lesion voxels and as many others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_bids.files import appearing
from cascade_bids.network.dense import PatchReader
from cascade_bids.training.loop import Batch

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
    """(M, 3) int16, voxels without lesion that the stage is asked about."""


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
    patches: Callable[[], PatchReader], lesions: np.ndarray, asked: np.ndarray, folder: Path
) -> Drawn:
    """Split the voxels of a scan into halves and keep them on disk.

    Parameters
    ----------
    patches
        Opens the scan to cut patches out of it.
    lesions, asked
        (X, Y, Z) bool: lesion voxels, and what the stage is asked about.
    folder
        Where the lists go, one folder for each scan.

    Returns
    -------
    Drawn
        As `load_voxels` gives it.
    """
    found = {"lesions": lesions, "others": asked & ~lesions}
    voxels = {kind: np.argwhere(mask).astype(np.int16) for kind, mask in found.items()}
    slabs = {kind: places[:, 2] // SLAB_MM for kind, places in voxels.items()}
    held_out = hold_out(np.unique(slabs["lesions"]), np.unique(slabs["others"]))
    for kind, places in voxels.items():
        checked = np.isin(slabs[kind], held_out)
        for half, kept in (("learned", places[~checked]), ("checked", places[checked])):
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
    places = rng.choice(total, min(count, total), replace=False, shuffle=False)
    scans = np.searchsorted(ends, places, side="right")
    rows = np.empty((len(places), 4), dtype=np.int64)
    for number, one in enumerate(voxels):
        mine = scans == number
        if not mine.any():
            continue
        rows[mine, 0] = number
        rows[mine, 1:] = one[places[mine] - (ends[number] - len(one))]
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
