"""Small datasets of images with a few voxels each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from cascade_bids.bids.scan import Scan

MakeDataset = Callable[..., Path]


def write_image(path: Path, voxel_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([*voxel_mm, 1.0]))
    nib.save(image, path)


def path_of(root: Path, name: str) -> Path:
    """Where an image of this name belongs: sub-<label>/[ses-<label>/]anat."""
    folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    return root.joinpath(*folders, "anat", name)


def names(scan: Scan) -> dict[str, str]:
    return {contrast: path.name.removesuffix(".nii.gz") for contrast, path in scan.images.items()}
