"""Small volumes with known content."""

import numpy as np


def box(shape, corner, size):
    """Return (X, Y, Z) bool, True in a box of so many voxels."""
    volume = np.zeros(shape, bool)
    volume[
        tuple(slice(a, a + n) for a, n in zip(corner, np.broadcast_to(size, 3), strict=True))
    ] = 1
    return volume


def ball(shape, centre, radius):
    """Return (X, Y, Z) bool, True within the radius, in voxels."""
    offsets = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return np.linalg.norm(offsets, axis=0) <= radius
