"""The training commands on small labelled datasets."""

from pathlib import Path

import nibabel as nib
import numpy as np

from ...tiny_heads import (
    AFFINE,
    LESION,
    SHAPE,
    call,
    stand_ins,
)


def write_mask(path: Path) -> Path:
    inside = np.zeros(SHAPE, np.uint8)
    inside[LESION] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(inside, AFFINE).to_filename(path)
    return path


def command(name: str, bids: Path, tmp_path: Path, *options: object, out: str = "out"):
    """Call a training command, of a published method unless the options name one."""
    if name != "finetune" and "--method" not in options:
        options = (*options, "--method", "valverde2017")
    paths = (bids, "--out", tmp_path / out, "-w", tmp_path / "work", "--nprocs", 1)
    with stand_ins():
        return call(tmp_path / out, name, *paths, *options)
