"""Whether the brain is whole."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np

DARK = 0.3
"""Part of the median signal of the brain above which a voxel belongs to the head."""

FEW = 0.01
"""Part of the voxels of the head in its largest plane; where there are fewer, they are noise."""

SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Ends of the axes of an image in RAS+."""


def find_box(image: np.ndarray, brain: np.ndarray) -> list[tuple[int, int]]:
    """Find the box that holds the head: planes beyond it are air, or were never measured.

    Parameters
    ----------
    image : (X, Y, Z) float array
        The bias-corrected image.
    brain : (X, Y, Z) bool array
        Its brain mask.

    Returns
    -------
    list of tuple of int
        First and last plane of the head along each axis; those of the image without a brain or
        signal.
    """
    signal = float(np.median(image[brain])) if brain.any() else 0.0
    head = image > DARK * signal
    box = []
    for axis, size in enumerate(image.shape):
        counts = head.sum(axis=tuple({0, 1, 2} - {axis}))
        planes = np.flatnonzero(counts > FEW * counts.max()) if signal > 0 else np.arange(size)
        box.append((int(planes[0]), int(planes[-1])))
    return box


def measure_missing(
    template_brain: np.ndarray, affine: np.ndarray, box: Sequence[tuple[int, int]]
) -> dict[str, float]:
    """Measure how much of the brain lies beyond each border of a box, by that of the template.

    Parameters
    ----------
    template_brain : (N, 3) float array
        Points spread evenly over the template's brain, mm in the world of the image.
    affine : (4, 4) array
        From voxels of the image to its world, RAS+.
    box
        From `find_box`.

    Returns
    -------
    dict
        Each of `SIDES` to the part of the points beyond it.
    """
    voxels = nib.affines.apply_affine(np.linalg.inv(affine), template_brain)
    missing = {}
    for axis, ((low, high), (first, last)) in enumerate(zip(SIDES, box, strict=True)):
        missing[low] = float((voxels[:, axis] < first - 0.5).mean())
        missing[high] = float((voxels[:, axis] > last + 0.5).mean())
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
