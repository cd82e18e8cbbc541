"""The common space of a participant: halfway between the sessions, so that none is favoured.

Reuter et al. 2012 (doi 10.1016/j.neuroimage.2012.02.084) showed that resampling only one of two
sessions makes changes where there are none. Transforms are as in `cascade_bids.transforms`.
"""

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from cascade_bids.preprocess.masks import centre_of
from cascade_bids.transforms import mean_rigid

VOXEL_MM = 1.0
"""Voxel size of the common grid."""

MARGIN_MM = 5.0
"""Margin of the common grid around the brains."""


def find_common_space(
    from_first: Sequence[np.ndarray], brains: Sequence[nib.Nifti1Image]
) -> list[np.ndarray]:
    """Find the space halfway between the sessions.

    Parameters
    ----------
    from_first
        (4, 4) rigid, world of the first session to world of each session; the identity first.
    brains
        (X, Y, Z) brain mask of each session.

    Returns
    -------
    list of numpy.ndarray
        (4, 4) world of the common space to world of each session, rigid. Their rotations have the
        identity as their mean, and so have their translations at the centre of the brain. The order
        of two sessions does not matter.
    """
    own = [
        apply_affine(np.linalg.inv(one), centre_of(brain))
        for one, brain in zip(from_first, brains, strict=True)
    ]
    to_common = mean_rigid(from_first, np.mean(own, axis=0))
    return [one @ np.linalg.inv(to_common) for one in from_first]


def common_grid(
    brains: Sequence[nib.Nifti1Image], from_common: Sequence[np.ndarray]
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return a grid that holds the brains of all sessions.

    Parameters
    ----------
    brains
        (X, Y, Z) brain mask of each session.
    from_common
        (4, 4) world of the common space to world of each session.

    Returns
    -------
    shape : tuple of int
        (X, Y, Z).
    affine : numpy.ndarray
        (4, 4), `VOXEL_MM` isotropic, RAS+.
    """
    points = []
    for brain, transform in zip(brains, from_common, strict=True):
        voxels = np.argwhere(np.asarray(brain.dataobj) > 0)
        box = np.stack([voxels.min(axis=0) - 0.5, voxels.max(axis=0) + 0.5], axis=1)
        corners = np.stack(np.meshgrid(*box, indexing="ij"), -1).reshape(-1, 3)
        points.append(apply_affine(np.linalg.inv(transform) @ brain.affine, corners))
    low, high = np.min(np.concatenate(points), 0), np.max(np.concatenate(points), 0)
    start = np.floor(low - MARGIN_MM)
    x, y, z = np.ceil((high + MARGIN_MM - start) / VOXEL_MM).astype(int) + 1
    return (int(x), int(y), int(z)), nib.affines.from_matvec(np.eye(3) * VOXEL_MM, start)
