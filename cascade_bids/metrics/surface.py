"""Distances in mm between the surfaces of two lesion masks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


class SurfaceDistances(NamedTuple):
    """Distances between two surfaces, mm."""

    hd95_mm: float
    """95 % Hausdorff distance: the larger of the 95th percentiles of both directions."""
    assd_mm: float
    """Average symmetric surface distance: mean over the voxels of both surfaces."""
    asd_mm: float
    """Average distance from the predicted surface to that of the reference."""


def surface_distances(
    pred: np.ndarray, ref: np.ndarray, spacing_mm: Sequence[float]
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks [1]_ [2]_.

    The surface of a mask consists of its voxels that share a face with a voxel outside it, or with
    the border of the image. Let ``d(a, B)`` be the distance from the centre of a voxel ``a`` to the
    nearest voxel of the surface ``B``. For the surfaces ``P`` and ``R``, the average symmetric
    surface distance is ``(Σ_p d(p, R) + Σ_r d(r, P)) / (|P| + |R|)``, the average surface distance
    is ``Σ_p d(p, R) / |P|``, and the 95 % Hausdorff distance is the larger of the 95th percentiles
    (with linear interpolation) of ``d(p, R)`` and ``d(r, P)``.

    Parameters
    ----------
    pred, ref : (X, Y, Z) arrays
        Predicted and reference mask; non-zero is lesion.
    spacing_mm : sequence of 3 floats
        Voxel size along each axis, mm.

    Returns
    -------
    SurfaceDistances
        In mm. Two empty masks have the distance 0. If only one is empty, all three are the
        distance between opposite corners of the grid, the largest that is possible, so that a
        missing segmentation is penalised and does not drop out of a mean.

    Raises
    ------
    ValueError
        If the shapes differ, or the spacing is not three positive numbers.

    References
    ----------
    .. [1] Styner et al. 3D segmentation in the clinic: a grand challenge II: MS lesion
       segmentation. MIDAS Journal 2008. https://www.midasjournal.org/browse/publication/638
    .. [2] Commowick et al. Objective evaluation of multiple sclerosis lesion segmentation using a
       data management and processing infrastructure. Scientific Reports 2018;8:13650.
       doi 10.1038/s41598-018-31911-7

    Examples
    --------
    >>> pred, ref = np.zeros((2, 5, 5, 5))
    >>> pred[1, 1, 1] = ref[1, 1, 3] = 1
    >>> surface_distances(pred, ref, (1, 1, 2)).assd_mm
    4.0
    """
    if pred.shape != ref.shape:
        raise ValueError(f"masks on different grids: {pred.shape} and {ref.shape}")
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (pred.ndim,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"voxels of {spacing_mm} mm; three positive numbers are needed")
    surfaces = [_surface(mask) * spacing for mask in (pred, ref)]
    if not all(map(len, surfaces)):
        far = float(np.linalg.norm((np.array(pred.shape) - 1) * spacing))
        return SurfaceDistances(*[far if any(map(len, surfaces)) else 0.0] * 3)
    predicted, reference = surfaces
    to_reference, _ = cKDTree(reference).query(predicted)
    to_predicted, _ = cKDTree(predicted).query(reference)
    return SurfaceDistances(
        hd95_mm=float(max(np.percentile(to_reference, 95), np.percentile(to_predicted, 95))),
        assd_mm=float(np.concatenate([to_reference, to_predicted]).mean()),
        asd_mm=float(to_reference.mean()),
    )


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the indices of the surface voxels, (N, 3)."""
    inside = np.asarray(mask) != 0
    return np.argwhere(inside & ~ndimage.binary_erosion(inside))
