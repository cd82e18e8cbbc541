"""A T1w of the small head, with MUSE labels on the same grid."""

from pathlib import Path

import nibabel as nib
import numpy as np

from cascade_bids.training.data.healthy import HealthyScan
from cascade_bids.training.data.tissues import LEVELS, TISSUES

from ..tiny_anatomy import TO_TEMPLATE, make_anatomy

LABEL = {"ventricle": 51, "white": 81, "cortex": 100, "fluid": 1}
LEVEL = 230.0
"""Of white matter; the scanner's own scale."""


def make_t1w() -> nib.Nifti1Image:
    """Draw the head as T1w shows it, its scalp brightest."""
    tissues = make_anatomy().tissues.numpy()
    levels = np.array([LEVELS["T1w"].get(name, 0.0) for name in TISSUES])
    data = LEVEL * levels[tissues] + np.random.default_rng(0).normal(0, 3, tissues.shape)
    return nib.Nifti1Image(np.clip(data, 0, None).astype(np.float32), TO_TEMPLATE)


def make_labels() -> nib.Nifti1Image:
    tissues = make_anatomy().tissues.numpy()
    labels = np.zeros(tissues.shape, np.int16)
    for name, label in LABEL.items():
        labels[tissues == TISSUES.index(name)] = label
    return nib.Nifti1Image(labels, TO_TEMPLATE)


def write_scan(
    dataset: Path, label: str, t1w: nib.Nifti1Image, labels: nib.Nifti1Image | None
) -> HealthyScan:
    """Write a scan, and its labels where they are to be found."""
    folder = Path(*label.split("_")) / "anat"
    paths = (
        dataset / folder / f"{label}_T1w.nii.gz",
        dataset / "derivatives" / "dlmuse" / folder / f"{label}_desc-dlmuse_dseg.nii.gz",
    )
    for image, path in zip((t1w, labels), paths, strict=True):
        if image is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, path)
    return HealthyScan(label, *paths)
