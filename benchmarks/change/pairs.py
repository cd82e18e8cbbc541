"""Datasets of sessions whose change is known, and the truth beside them."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.change.heads import Head, Painted, paint, rescan, sample
from benchmarks.change.lesions import draw_lesions, enlarge, measure_contrast

NEW, GONE, ENLARGED = "new", "gone", "enlarged"
GROWTH = 1.5
"""Volume of an enlarged lesion, as a part of what it was."""
RESCANS = 3
SEED = 0


def write_rescans(heads: Sequence[Head], bids: Path) -> None:
    """Write each head as a participant with a session and so many rescans of it."""
    _describe(bids)
    for number, head in enumerate(heads):
        rng = np.random.default_rng([SEED, number])
        _write(head.images, bids, head.name, 1)
        for session in range(2, RESCANS + 2):
            again, _ = rescan(head, rng)
            _write(again.images, bids, head.name, session)


def write_painted(
    heads: Sequence[Head],
    bids: Path,
    shapes: Sequence[np.ndarray],
    counts: Mapping[str, int],
    smallest_mm3: float,
) -> None:
    """Write each head as a participant with two sessions, the second one a rescan.

    Into the first are painted the lesions that will be gone, and those that will be enlarged; into
    the second the latter, larger, and those that are new. ``truth`` holds the lesions of each kind
    on the grids of both FLAIRs, and a table of them.
    """
    _describe(bids)
    rows = []
    for number, head in enumerate(heads):
        rng = np.random.default_rng([SEED + 1, number])
        contrasts = measure_contrast(head)
        drawn = draw_lesions(head, shapes, sum(counts.values()), smallest_mm3, rng)
        rng.shuffle(drawn)
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        lesions = list(zip(kinds, drawn, strict=False))
        before = [one for kind, one in lesions if kind != NEW]
        after = [
            enlarge(one, GROWTH) if kind == ENLARGED else one
            for kind, one in lesions
            if kind != GONE
        ]
        first = paint(head, before, contrasts)
        second, motion = rescan(paint(head, after, contrasts), rng)
        _write(first.images, bids, head.name, 1)
        _write(second.images, bids, head.name, 2)
        for session, to_head in ((1, np.eye(4)), (2, motion)):
            truth = _draw_truth(lesions, head.images["FLAIR"], to_head)
            target = bids / "truth" / f"{head.name}_{session}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            nib.Nifti1Image(truth, head.images["FLAIR"].affine).to_filename(target)
        rows += [
            {"head": head.name, "lesion": index, "kind": kind, "volume_mm3": one.volume_mm3}
            for index, (kind, one) in enumerate(lesions, start=1)
        ]
    pd.DataFrame(rows).to_csv(bids / "truth" / "lesions.tsv", sep="\t", index=False)


def _draw_truth(
    lesions: Sequence[tuple[str, Painted]], grid: nib.Nifti1Image, to_head: np.ndarray
) -> np.ndarray:
    """Draw the numbers of the lesions on a grid: where one fills half of a voxel, or fills most."""
    truth = np.zeros(grid.shape, np.int16)
    for index, (kind, lesion) in enumerate(lesions, start=1):
        whole = enlarge(lesion, GROWTH) if kind == ENLARGED else lesion
        share = sample(whole.share, grid, to_head)
        inside = share >= min(0.5, share.max())
        truth[inside & (share > 0)] = index
    return truth


def _describe(bids: Path) -> None:
    if bids.exists():
        shutil.rmtree(bids)
    bids.mkdir(parents=True)
    about = {"Name": "sessions with known change", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(about))
    (bids / ".bidsignore").write_text("truth\n")


def _write(images: Mapping[str, nib.Nifti1Image], bids: Path, name: str, session: int) -> None:
    folder = bids / f"sub-{name}" / f"ses-{session}" / "anat"
    folder.mkdir(parents=True)
    for contrast, image in images.items():
        image.to_filename(folder / f"sub-{name}_ses-{session}_{contrast}.nii.gz")
