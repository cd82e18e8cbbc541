"""BIDS datasets that rows are measured on, made of public scans or of empty files."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

CONTRASTS = ("FLAIR", "T1w", "T2w")


def write_description(folder: Path) -> None:
    """Write dataset_description.json."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"Name": "benchmark", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(about))


def find_sessions(dataset: Path, participant: str = "*") -> list[Path]:
    """Return the anat folders of a raw dataset, or of one of its participants, sorted."""
    return sorted(dataset.glob(f"sub-{participant}/**/anat"))


def copy_sessions(sessions: Sequence[Path], folder: Path) -> Path:
    """Copy sessions into a new dataset, each as a participant: sub-1, sub-2, …; return it."""
    write_description(folder)
    for number, session in enumerate(sessions, start=1):
        target = folder / f"sub-{number}" / "anat"
        target.mkdir(parents=True)
        for path in session.glob("*.nii.gz"):
            shutil.copy(path, target / f"sub-{number}_{path.name.rsplit('_', 1)[1]}")
    return folder


def resample_in_plane(session: Path, factor: float, folder: Path) -> Path:
    """Write a session with as many times the voxels in each slice, as a dataset of sub-1."""
    write_description(folder)
    target = folder / "sub-1" / "anat"
    target.mkdir(parents=True)
    for path in session.glob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        sizes = np.array(image.header.get_zooms()[:3])
        in_plane = np.arange(3) != sizes.argmax()
        shape = np.where(in_plane, np.round(np.array(image.shape) * factor**0.5), image.shape)
        step = np.array(image.shape) / shape
        # The edges of the image stay where they are.
        grid = image.affine @ nib.affines.from_matvec(np.diag(step), (step - 1) / 2)
        resampled = resample_from_to(image, (tuple(shape.astype(int)), grid), order=1)
        resampled.to_filename(target / f"sub-1_{path.name.rsplit('_', 1)[1]}")
    return folder


def write_empty_dataset(folder: Path, participants: int) -> Path:
    """Write a dataset of empty images with sidecars, unless it is there; return it."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_description(partial)
        for number in range(1, participants + 1):
            anat = partial / f"sub-{number:05}" / "anat"
            anat.mkdir(parents=True)
            for contrast in CONTRASTS:
                (anat / f"sub-{number:05}_{contrast}.nii.gz").touch()
                (anat / f"sub-{number:05}_{contrast}.json").write_text("{}")
        partial.rename(folder)
    return folder
