"""Painted scans: made once, and kept as cases of which crops are drawn as of real ones."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.bids.scan import Scan
from cascade_bids.models.cases import Case, save_case
from cascade_bids.training.synthesis.generator import ScanGenerator, make_synthetic_scan
from cascade_bids.training.synthesis.real_scans import change_scan
from cascade_bids.training.synthesis.sample import Sample

log = logging.getLogger(__name__)

PER_SCAN = 2
"""Painted scans of each scan or head."""

SYNTHETIC = "synthetic"
"""Source of those of label maps and of healthy heads."""


def paint_scans(
    generator: ScanGenerator, cases: Sequence[Case], folder: Path, seed: int
) -> ScanGenerator:
    """Paint lesions into the labelled scans that have a T1w, and into label maps and healthy heads.

    The lesions are those of masks whose scans are not there, so that a painted scan holds nothing
    of any participant but the one whose scan it is.

    Parameters
    ----------
    generator
        With the scans, the anatomies and the donors.
    cases
        All labelled scans; anatomies are laid on the grid of the first.
    folder
        Keeps the painted scans, which take some seconds each.
    seed
        Of what is drawn.

    Returns
    -------
    ScanGenerator
        With those donors alone, and with the painted scans; none if there is no such donor.
    """
    people = {case.participant for case in cases}
    donors = tuple(one for one in generator.donors if one.participant not in people)
    contrasts = generator.contrasts
    wanted: list[tuple[Case, Case, Callable[..., Sample]]] = []
    for number in range(PER_SCAN):
        for real in generator.real:
            like = real.case
            own = folder / like.source / f"{like.scan.label}_{number}"
            change = partial(change_scan, real, donors, contrasts, whole=True)
            wanted.append((replace(like, folder=own), like, change))
        for head in generator.to_learn().anatomies:
            own = folder / SYNTHETIC / f"{head.name}_{number}"
            painted = Case(Scan(head.name, None, None), own, contrasts, SYNTHETIC)
            make = partial(make_synthetic_scan, head, donors, contrasts, whole=True)
            wanted.append((painted, cases[0], make))
    if not donors:
        wanted = []
    for number, (painted, like, draw) in enumerate(wanted):
        if not (painted.folder / "volume.npy").exists():
            # Far from the seeds of other drawings.
            rng = torch.Generator().manual_seed(2 * 10**9 + 10**6 * seed + number)
            _keep(painted, draw(rng=rng), like)
    log.info("%d painted scans, with lesions of %d masks", len(wanted), len(donors))
    return replace(generator, donors=donors, painted=tuple(painted for painted, *_ in wanted))


def _keep(painted: Case, sample: Sample, like: Case) -> None:
    """Store a sample on the grid of another case, where that has its brain."""
    target, source = _centre(np.asarray(like.brain)), _centre(sample.brain.numpy())
    shift = np.round(target - source).astype(int)
    shape: tuple[int, ...] = like.brain.shape

    def place(values: Tensor) -> nib.Nifti1Image:
        laid = np.zeros(shape, np.float32)
        inner, outer = [], []
        for start, size, whole in zip(shift, values.shape, shape, strict=True):
            low, high = max(start, 0), min(start + size, whole)
            inner.append(slice(low - start, high - start))
            outer.append(slice(low, high))
        laid[tuple(outer)] = values.numpy()[tuple(inner)]
        return nib.Nifti1Image(laid, like.affine)

    save_case(
        painted.folder,
        [place(image) for image in sample.channels],
        place(sample.brain),
        place(sample.lesions),
        anatomy=None,
        reference=nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), like.reference_affine),
    )


def _centre(brain: np.ndarray) -> np.ndarray:
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    return np.array([(side.start + side.stop) / 2 for side in box])
