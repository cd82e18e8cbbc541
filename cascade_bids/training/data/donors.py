"""Lesion masks in template space, from which lesions are painted into other heads."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from cascade_bids.preprocess.load import load_mask
from cascade_bids.training.data.masks import is_prediction


@dataclass(frozen=True)
class Donor:
    """A participant whose lesions are painted into other heads."""

    subject: str
    mask: Tensor
    """(X, Y, Z) uint8."""
    to_voxel: Tensor
    """(4, 4) float32, template mm to voxel; of a scan that lies there rigidly, within some mm."""


def load_donors(folder: Path) -> list[Donor]:
    """Read the lesion masks of a dataset that lie in the space of an MNI template.

    Their scans need not be there. Masks of changes, empty masks, and predictions are left out.

    Parameters
    ----------
    folder
        Of ``sub-*_space-MNI152*_label-lesion_mask.nii.gz``, at any depth.

    Returns
    -------
    list of Donor
        By name.
    """
    found = []
    for path in sorted(folder.rglob("sub-*_space-MNI152*_label-lesion_mask.nii.gz")):
        if "_desc-change_" in path.name or is_prediction(path):
            continue
        image = nib.as_closest_canonical(load_mask(path))
        mask = np.asarray(image.dataobj)
        if mask.any():
            to_voxel = torch.from_numpy(np.linalg.inv(image.affine)).float()
            subject = path.name.split("_")[0].removeprefix("sub-")
            found.append(Donor(subject, torch.from_numpy(mask.copy()), to_voxel))
    return found
