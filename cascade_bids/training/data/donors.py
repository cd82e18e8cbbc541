"""Lesion masks in template space, from which lesions are painted into other heads."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from cascade_bids.bids.scan import name_participant
from cascade_bids.preprocess.load import load_mask
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.data.masks import is_prediction


@dataclass(frozen=True)
class Donor:
    """A participant whose lesions are painted into other heads."""

    participant: str
    """See `bids.scan.name_participant`."""
    mask: Tensor
    """(X, Y, Z) uint8."""
    to_voxel: Tensor
    """(4, 4) float32, template mm to voxel; of a scan that lies there rigidly, within some mm."""


def load_donors(dataset: LabelledDataset) -> list[Donor]:
    """Read the lesion masks of a dataset that lie in the space of an MNI template.

    Their scans need not be there. Masks of changes, empty masks, predictions, and participants who
    were not named are left out.

    Parameters
    ----------
    dataset
        With ``sub-*_space-MNI152*_label-lesion_mask.nii.gz`` at any depth of its masks.

    Returns
    -------
    list of Donor
        By name.
    """
    found = []
    for path in sorted(dataset.masks_dir.rglob("sub-*_space-MNI152*_label-lesion_mask.nii.gz")):
        subject = path.name.split("_")[0].removeprefix("sub-")
        if "_desc-change_" in path.name or dataset.leaves_out(subject) or is_prediction(path):
            continue
        image = nib.as_closest_canonical(load_mask(path))
        mask = np.asarray(image.dataobj)
        if mask.any():
            to_voxel = torch.from_numpy(np.linalg.inv(image.affine)).float()
            participant = name_participant(dataset.source, subject)
            found.append(Donor(participant, torch.from_numpy(mask.copy()), to_voxel))
    return found
