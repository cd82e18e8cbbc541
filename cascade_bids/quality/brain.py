"""Whether the brain is whole."""

import nibabel as nib
import numpy as np

SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Ends of the axes of an image in RAS+."""


def measure_missing(
    template_brain: np.ndarray, affine: np.ndarray, shape: tuple[int, ...]
) -> dict[str, float]:
    """Measure how much of the brain lies beyond each border of an image, by that of the template.

    Parameters
    ----------
    template_brain : (N, 3) float array
        Points spread evenly over the template's brain, mm in the world of the image.
    affine : (4, 4) array
        From voxels of the image to its world, RAS+.
    shape : tuple of int
        (X, Y, Z) of the image.

    Returns
    -------
    dict
        Each of `SIDES` to the part of the points beyond it.
    """
    voxels = nib.affines.apply_affine(np.linalg.inv(affine), template_brain)
    missing = {}
    for axis, (low, high) in enumerate(SIDES):
        missing[low] = float((voxels[:, axis] < -0.5).mean())
        missing[high] = float((voxels[:, axis] > shape[axis] - 0.5).mean())
    return missing


def measure_asymmetry(brain: np.ndarray) -> float:
    """Compute how much larger one half of the brain is than the other.

    Parameters
    ----------
    brain : (X, Y, Z) bool array
        The brain mask in RAS+, on a grid whose middle along X is that of the template's brain.

    Returns
    -------
    float
        Difference of the volumes of both halves as a part of their sum: 0 to 1.
    """
    half = brain.shape[0] // 2
    left, right = (int(np.count_nonzero(part)) for part in (brain[:half], brain[-half:]))
    return abs(left - right) / max(left + right, 1)
