"""A small head with every tissue, and donors with lesions in its white matter."""

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from cascade_bids.training.data.donors import Donor
from cascade_bids.training.data.label_maps import Anatomy
from cascade_bids.training.data.tissues import TISSUES

SHAPE = (40, 44, 36)
CENTRE = (np.array(SHAPE) - 1) / 2
TO_TEMPLATE = nib.affines.from_matvec(np.eye(3), -CENTRE)


def make_anatomy() -> Anatomy:
    """Draw shells: ventricle, white matter, cortex, fluid, bone and soft tissue."""
    coordinates = np.moveaxis(np.indices(SHAPE), 0, -1) - CENTRE
    radius = np.linalg.norm(coordinates / (1, 1.1, 0.9), axis=-1)
    names = ("ventricle", "white", "cortex", "fluid", "bone", "soft tissue")
    ends = (4, 11, 14, 15, 16, 18)
    tissues = np.zeros(SHAPE, np.uint8)
    for name, end in reversed(list(zip(names, ends, strict=True))):
        tissues[radius < end] = TISSUES.index(name)
    inside = (tissues > 0) & (radius < 14)
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return Anatomy(
        "head01",
        torch.from_numpy(tissues),
        torch.from_numpy(depth.astype(np.float16)),
        torch.from_numpy(TO_TEMPLATE).float(),
    )


def make_donor(participant: str = "sub-1") -> Donor:
    """Draw two lesions in the white matter, in front and behind."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[17:22, 27:31, 16:20] = 1
    mask[18:21, 13:16, 16:20] = 1
    to_voxel = torch.from_numpy(np.linalg.inv(TO_TEMPLATE)).float()
    return Donor(participant, torch.from_numpy(mask), to_voxel)
