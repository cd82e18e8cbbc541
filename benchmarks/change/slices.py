"""Labelled heads at 1 mm, cut into slices as clinical scans have them."""

from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.change.heads import Head
from cascade_bids.preprocess.images import make_image

SLICE_VOXELS = 3
"""Voxels of 1 mm that make a slice."""

DATASETS = ("openms-mni", "mslesseg-mni")
"""Of `../shared/data`: brains in the space of the template, with manual masks."""


def read_sliced(data: Path) -> list[Head]:
    """Read the labelled heads of `DATASETS` that have a FLAIR and a T1w, cut into axial slices."""
    heads = []
    for name in DATASETS:
        for flair in sorted((data / name).rglob("*_desc-preproc_FLAIR.nii.gz")):
            session = flair.parts[-3] if flair.parts[-3].startswith("ses-") else ""
            subject = flair.relative_to(data / name).parts[0].removeprefix("sub-")
            label = name.partition("-")[0] + subject + session.replace("ses-", "x")
            heads.append(_read_head(flair, label))
    return heads


def _read_head(flair: Path, label: str) -> Head:
    stem = flair.name.removesuffix("_desc-preproc_FLAIR.nii.gz")
    images = {
        contrast: _slice(flair.with_name(f"{stem}_desc-preproc_{contrast}.nii.gz"))
        for contrast in ("FLAIR", "T1w")
    }
    brain = np.asarray(images["FLAIR"].dataobj) > 0
    return Head(
        label,
        images,
        dict.fromkeys(images, np.eye(4)),
        make_image(brain.astype(np.float32), images["FLAIR"].affine),
        _slice(flair.with_name(f"{stem}_label-lesion_mask.nii.gz")),
        np.eye(4),
    )


def _slice(path: Path) -> nib.Nifti1Image:
    """Average slices of 1 mm to thick ones."""
    image = nib.load(path)
    data = np.maximum(np.asarray(image.dataobj, np.float32), 0)
    count = data.shape[2] // SLICE_VOXELS
    thick = (
        data[:, :, : count * SLICE_VOXELS].reshape(*data.shape[:2], count, SLICE_VOXELS).mean(-1)
    )
    scale = np.diag([1, 1, SLICE_VOXELS, 1.0])
    scale[2, 3] = (SLICE_VOXELS - 1) / 2
    return make_image(thick.astype(np.float32), image.affine @ scale)
