"""Template coordinates of the voxels of a brain that is rigidly aligned with the template."""

from collections.abc import Sequence

import numpy as np

ABOVE_MM = -10.0
"""Only the brain above this z is compared, since images may end anywhere in the cerebellum."""

TEMPLATE_MIDDLE_MM = (0.0, -19.2, 25.5)
"""Mean coordinates of the brain voxels above `ABOVE_MM` in MNI152NLin2009aSym."""

TEMPLATE_SPREAD_MM = (33.6, 41.0, 22.1)
"""Standard deviations of those coordinates."""

ATLAS_SHAPE, ATLAS_MM = (46, 55, 46), 4.0
"""Shape and voxel size of the lesion atlas, in the space of the template."""

ATLAS_ORIGIN_MM = (-90.0, -126.0, -72.0)
"""Template coordinates of its first voxel."""

RARE = 1e-3
"""Added to the lesion frequencies of the atlas before the logarithm."""

LARGEST_FACTOR = 1.35
"""Largest ratio of sizes of a head and the template; beyond it, the mask is wrong or cut off."""

_FITTED = 5000
"""Number of voxels to which the transform from the template to the grid is fitted."""


def template_affine(brain: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Compute the affine that scales a brain to the size of the template along each axis.

    Parameters
    ----------
    brain
        (X, Y, Z) bool, on a grid that is rigidly aligned with the template.
    affine
        (4, 4), voxel to world, mm, without rotation.

    Returns
    -------
    numpy.ndarray
        (4, 4) float32, voxel to template, mm.
    """
    axes = [affine[a, a] * np.arange(n) + affine[a, 3] for a, n in enumerate(brain.shape)]
    above = axes[2] > ABOVE_MM
    axes[2], upper = axes[2][above], brain[:, :, above]
    if not upper.any():
        return affine.astype(np.float32)
    middle, spread = np.empty(3), np.empty(3)
    for axis, position in enumerate(axes):
        counts = upper.sum(axis=tuple({0, 1, 2} - {axis}))
        middle[axis] = np.average(position, weights=counts)
        spread[axis] = np.sqrt(np.average((position - middle[axis]) ** 2, weights=counts))
    scale = np.eye(4)
    factors = TEMPLATE_SPREAD_MM / np.maximum(spread, 1.0)
    factors = np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    scale[:3, :3] = np.diag(factors)
    scale[:3, 3] = TEMPLATE_MIDDLE_MM - factors * middle
    return (scale @ affine).astype(np.float32)


def template_coordinates(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Compute the template coordinates of all voxels.

    Parameters
    ----------
    shape
        Shape of the grid.
    affine
        (4, 4) float32, voxel to template, mm, from `template_affine`.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z, 3) float32, mm.
    """
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]


def mirror_voxels(
    voxels: Sequence[np.ndarray], brain: np.ndarray, coordinates: np.ndarray
) -> np.ndarray:
    """Compute the grid positions of voxels mirrored at the mid-sagittal plane of the template.

    Parameters
    ----------
    voxels
        Three arrays (N,), voxel indices.
    brain
        (X, Y, Z) bool.
    coordinates
        (X, Y, Z, 3), template coordinates of each voxel, mm: affine in the voxel indices, apart
        from the few mm by which training deforms heads.

    Returns
    -------
    numpy.ndarray
        (3, N), fractional voxel indices; they may lie outside the grid.
    """
    sample = np.random.default_rng(0).choice(np.argwhere(brain), _FITTED)
    known = np.column_stack([coordinates[tuple(sample.T)], np.ones(len(sample))])
    to_voxel, *_ = np.linalg.lstsq(known, sample, rcond=None)
    mirrored = coordinates[tuple(voxels)] * (-1, 1, 1)
    return (mirrored @ to_voxel[:3] + to_voxel[3]).T
