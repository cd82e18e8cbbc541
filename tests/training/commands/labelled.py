"""The training commands on small labelled datasets."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from cascade_bids.config import InputConfig
from cascade_bids.training.data.datasets import LabelledDataset

from ...tiny_heads import (
    AFFINE,
    LESION,
    SHAPE,
    call,
    image_path,
    make_dataset,
    stand_ins,
)


def write_mask(path: Path, lesion: tuple[slice, ...] = LESION) -> Path:
    inside = np.zeros(SHAPE, np.uint8)
    inside[lesion] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(inside, AFFINE).to_filename(path)
    return path


def make_labelled(root: Path, *labels: str) -> Path:
    """Write a dataset whose scans have a lesion mask each."""
    bids = make_dataset(root, *labels)
    for label in labels:
        write_mask(mask_path(bids, label))
    return bids


def mask_path(bids: Path, label: str) -> Path:
    return image_path(bids, label, "FLAIR").with_name(f"{label}_label-lesion_mask.nii.gz")


def take(bids: Path, *labels: str, masks: Path | None = None) -> LabelledDataset:
    """Take some participants of a dataset, or all."""
    return LabelledDataset(InputConfig(bids, participant_labels=labels), masks or bids)


def command(
    name: str, bids: Path | Sequence[Path], tmp_path: Path, *options: object, out: str = "out"
):
    """Call a training command, of a published method unless the options name one."""
    if name != "finetune" and "--method" not in options:
        options = (*options, "--method", "valverde2017")
    datasets = [bids] if isinstance(bids, Path) else bids
    paths = (*datasets, "--out", tmp_path / out, "-w", tmp_path / "work", "--nprocs", 1)
    with stand_ins():
        return call(tmp_path / out, name, *paths, *options)
