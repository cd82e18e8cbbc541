"""Gaussian-derivative features of voxels: what an image shows around them at several widths.

Gaussian filters and their first and second derivatives at several widths, of which only what does
not depend on the direction is taken: values, slope, and the three principal curvatures (structured
receptive fields, Jacobsen et al., CVPR 2016, doi 10.1109/CVPR.2016.286). Beside these stand the
images with bright spots opened away, and what the other side of the head shows (symmetry features,
Geremia et al., NeuroImage 2011, doi 10.1016/j.neuroimage.2011.03.080).
"""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

WIDTHS_MM = (0, 1, 2, 4, 8)
"""Standard deviations of the Gaussians; the first stands for the image as it is."""

DERIVED_MM = (1, 2, 4)
"""Widths at which slope and curvatures are computed too."""

MIRRORED_MM = (2, 4)
"""Widths at which the other side of the head is sampled too: for narrower ones its middle would
have to be known better."""

OPENED_MM = (5, 11)
"""Sides of the cubes that images are opened with: a bright spot that holds no such cube turns as
dark as what is around it."""

_OPENED_AT_MM = 1
"""Width of the image that is opened."""

COUNT = len(WIDTHS_MM) + 4 * len(DERIVED_MM) + len(OPENED_MM) + len(MIRRORED_MM)
"""Features of one image."""

_AXES = np.eye(3, dtype=int)


def smooth(values: np.ndarray, width_mm: float) -> np.ndarray:
    """Smooth an image (X, Y, Z) of 1 mm voxels by a Gaussian, 0 beyond its border."""
    return ndimage.gaussian_filter(values, width_mm, mode="constant", truncate=3.0)


def image_features(
    values: np.ndarray,
    norms: Mapping[int, np.ndarray],
    at: tuple[np.ndarray, ...],
    across: np.ndarray,
) -> np.ndarray:
    """Compute the features of one image at voxels.

    Parameters
    ----------
    values
        (X, Y, Z) float32, 0 outside the brain.
    norms
        Width to the brain mask smoothed with it: what lies outside the brain has no part in the
        filters, and is 0 to openings.
    at
        Three arrays (N,), indices of the voxels.
    across
        (3, N), where their mirrored coordinates lie, in voxels.

    Returns
    -------
    numpy.ndarray
        (N, `COUNT`) float32; 0 for an image that is missing.
    """
    if not values.any():
        return np.zeros((len(at[0]), COUNT), np.float32)
    found, opened, mirrored = [], [], []
    for width in WIDTHS_MM:
        # The image is 0 outside the brain, as its smoothed mask is.
        smoothed = values if not width else smooth(values, width) / np.maximum(norms[width], 0.05)
        found.append(smoothed[at])
        if width in DERIVED_MM:
            found += list(_derive(smoothed, width, at).T)
        if width == _OPENED_AT_MM:
            opened = [ndimage.grey_opening(smoothed, (side,) * 3)[at] for side in OPENED_MM]
        if width in MIRRORED_MM:
            mirrored.append(ndimage.map_coordinates(smoothed, across, order=1))
    return np.stack([*found, *opened, *mirrored], axis=1)


def _derive(smoothed: np.ndarray, width: float, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Compute slope and principal curvatures (N, 4) in widths (Lindeberg, IJCV 1998)."""

    def beside(step: np.ndarray) -> np.ndarray:
        x, y, z = (index + int(part) for index, part in zip(at, step, strict=True))
        return smoothed[x, y, z]

    middle = smoothed[at]
    slopes, curvature = [], np.empty((len(middle), 3, 3), np.float32)
    for i, along in enumerate(_AXES):
        after, before = beside(along), beside(-along)
        slopes.append((after - before) / 2)
        curvature[:, i, i] = after + before - 2 * middle
        for j, across in enumerate(_AXES[:i]):
            mixed = beside(along + across) + beside(-along - across)
            mixed -= beside(along - across) + beside(across - along)
            curvature[:, i, j] = curvature[:, j, i] = mixed / 4
    slope = width * np.linalg.norm(slopes, axis=0)
    return np.column_stack([slope, width**2 * np.linalg.eigvalsh(curvature)])
