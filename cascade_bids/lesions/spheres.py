"""Sphere maps, in which every lesion has the same size."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cascade_bids.lesions.label import CONNECTED

SPHERE_MM = 10.0
"""Diameter of a sphere, mm."""


def lesion_spheres(lesions: np.ndarray, voxel_mm: Sequence[float]) -> np.ndarray:
    """Draw a sphere of 10 mm diameter at the centre of mass of every lesion.

    With this map the lesion-wise loss of ALL-Net (Zhang et al. 2021,
    doi 10.1016/j.nicl.2021.102854) weights small and large lesions equally. The paper's "10 mm" is
    interpreted as the diameter.

    Parameters
    ----------
    lesions : (X, Y, Z) bool array
        Lesion mask; a lesion is a 26-connected component.
    voxel_mm : sequence of float
        Voxel size along each axis, mm.

    Returns
    -------
    (X, Y, Z) bool array
        Voxels with their centre in a sphere, on the same grid.

    Raises
    ------
    ValueError
        If the mask is not 3D or a voxel size is not above 0.
    """
    spacing = np.asarray(voxel_mm, dtype=np.float64)
    if lesions.ndim != 3 or spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"no 3D mask with voxels in mm: {lesions.ndim} axes, {voxel_mm=}")
    spheres = np.zeros(lesions.shape, dtype=bool)
    labels, count = ndimage.label(lesions, structure=CONNECTED)
    centres = ndimage.center_of_mass(lesions, labels, range(1, count + 1))
    radius = SPHERE_MM / 2
    for centre in np.reshape(centres, (-1, 3)):
        first = np.maximum(np.ceil(centre - radius / spacing), 0).astype(int)
        last = np.floor(centre + radius / spacing).astype(int)
        box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
        block = spheres[box]
        voxels = np.moveaxis(np.indices(block.shape), 0, -1) + first
        offset_mm = (voxels - centre) * spacing
        block |= (offset_mm**2).sum(-1) <= radius**2
    return spheres
