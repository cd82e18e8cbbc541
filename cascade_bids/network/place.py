"""Where a voxel of a brain that is aligned rigidly lies in the template, about."""

from collections.abc import Sequence

import numpy as np

ABOVE_MM = -10.0
"""Only what lies above is compared: images may end anywhere in the cerebellum."""

TEMPLATE_MIDDLE_MM = (0.0, -19.2, 25.5)
"""Mean of the voxels of the template's brain above `ABOVE_MM`: MNI152NLin2009aSym."""

TEMPLATE_SPREAD_MM = (33.6, 41.0, 22.1)
"""Their standard deviation."""

ATLAS_SHAPE, ATLAS_MM = (46, 55, 46), 4.0
"""Of the atlas of lesions, in the space of the template."""

ATLAS_ORIGIN_MM = (-90.0, -126.0, -72.0)
"""Where its first voxel lies."""

RARE = 1e-3
"""What is added to how often lesions are somewhere, before the logarithm."""

LARGEST_FACTOR = 1.35
"""Heads are not smaller or larger than the template by more: then the mask is wrong or cut."""

_FITTED = 5000
"""Voxels that the way from the template to the grid is found from."""


def template_affine(brain: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Scale a brain to the size of the template along each axis.

    Parameters
    ----------
    brain
        (X, Y, Z) bool, on a grid that is aligned with the template rigidly.
    affine
        (4, 4), voxel to world, without rotation.

    Returns
    -------
    numpy.ndarray
        (4, 4) float32, voxel to template, mm.
    """
    spots = np.argwhere(brain) @ affine[:3, :3].T + affine[:3, 3]
    upper = spots[spots[:, 2] > ABOVE_MM]
    if not len(upper):
        return affine.astype(np.float32)
    scale = np.eye(4)
    factors = TEMPLATE_SPREAD_MM / np.maximum(upper.std(axis=0), 1.0)
    factors = np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    scale[:3, :3] = np.diag(factors)
    scale[:3, 3] = TEMPLATE_MIDDLE_MM - factors * upper.mean(axis=0)
    return (scale @ affine).astype(np.float32)


def template_places(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Give the template coordinates of all voxels: (X, Y, Z, 3) float32, mm."""
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]


def mirror_voxels(
    voxels: Sequence[np.ndarray], brain: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Say where on the grid the same place on the other side of the head lies.

    Parameters
    ----------
    voxels
        Three arrays (N,), indices.
    brain
        (X, Y, Z) bool.
    places
        (X, Y, Z, 3), where each voxel lies in the template, mm: affine, but for the few mm by which
        trainings deform heads.

    Returns
    -------
    numpy.ndarray
        (3, N), in voxels, not whole ones; may lie outside the grid.
    """
    some = np.random.default_rng(0).choice(np.argwhere(brain), _FITTED)
    known = np.column_stack([places[tuple(some.T)], np.ones(len(some))])
    to_voxel, *_ = np.linalg.lstsq(known, some, rcond=None)
    mirrored = places[tuple(voxels)] * (-1, 1, 1)
    return (mirrored @ to_voxel[:3] + to_voxel[3]).T
