"""Measure lesions: the lesion table and its summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from cascade_bids.lesions.label import find_peaks
from cascade_bids.lesions.location import LOCATIONS
from cascade_bids.lesions.uncertainty import lesion_confidence

COLUMNS = (
    "index",
    "name",
    "volume_mm3",
    "location",
    "centroid_x_mm",
    "centroid_y_mm",
    "centroid_z_mm",
    "mean_probability",
    "max_probability",
    "confidence",
)
"""Columns of the lesion table, in order."""


def voxel_volume_mm3(affine: np.ndarray) -> float:
    """Compute the volume of a voxel, the absolute determinant of the affine's linear part.

    Parameters
    ----------
    affine : (4, 4) array
        From voxels to world coordinates, mm.

    Returns
    -------
    float
        Volume in mm³, to six significant digits.

    Raises
    ------
    ValueError
        If the volume is not finite or not above 0.

    Examples
    --------
    >>> voxel_volume_mm3(np.diag([-1.0, 2.0, 3.0, 1.0]))
    6.0
    """
    volume = float(abs(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])))
    if not (np.isfinite(volume) and volume > 0):
        raise ValueError(f"the affine gives voxels a volume of {volume} mm³")
    # Headers store float32: without rounding, 4743 mm³ would become 4742.9999 mm³.
    return float(f"{volume:.6g}")


def lesion_table(
    labels: np.ndarray,
    probability: np.ndarray,
    affine: np.ndarray,
    *,
    locations: Mapping[int, str] | None,
    world_to_mni: np.ndarray | None,
    confidence: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Build the lesion table, with one row per lesion.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        Lesion numbers on any grid, 0 outside lesions.
    probability : (X, Y, Z) float array
        Lesion probability on the same grid.
    affine : (4, 4) array
        From voxels of that grid to world coordinates (RAS+, mm).
    locations : mapping of int to str
        Lesion number to one of `cascade_bids.lesions.location.LOCATIONS`; None if nothing is known
        of the orientation of the head, and all locations are None.
    world_to_mni : (4, 4) array
        From that world to MNI152NLin2009aSym, mm. It is used for the centroids only: volumes are
        measured on the given grid. None if it is not known, and the centroids are NaN.
    confidence : sequence of float
        Weights for `cascade_bids.lesions.uncertainty.lesion_confidence`; None for no confidence.

    Returns
    -------
    DataFrame
        The columns `COLUMNS`, sorted by index; no rows without lesions.

    Raises
    ------
    ValueError
        If the arrays are not 3D or differ in shape, or if a lesion has no known location.
    """
    if labels.ndim != 3 or labels.shape != probability.shape:
        raise ValueError(f"label map {labels.shape} and probability {probability.shape} differ")
    voxels = np.argwhere(labels > 0)
    values = probability[tuple(voxels.T)].astype(np.float64)
    index, lesion, counts = np.unique(
        labels[tuple(voxels.T)], return_inverse=True, return_counts=True
    )
    numbers = index.tolist()
    places = [None if locations is None else locations.get(number) for number in numbers]
    unknown = [n for n, place in zip(numbers, places, strict=True) if place not in LOCATIONS]
    if unknown and locations is not None:
        raise ValueError(f"no known location for the lesions {unknown}")

    def mean(per_voxel: np.ndarray) -> np.ndarray:
        return np.bincount(lesion, per_voxel, len(index)) / counts

    centre = np.stack([mean(axis) for axis in voxels.T], axis=1)
    to_mni = np.full((4, 4), np.nan) if world_to_mni is None else np.asarray(world_to_mni)
    centroid = apply_affine(to_mni @ np.asarray(affine), centre)
    peaks = find_peaks(values, lesion + 1, len(index))
    volumes = counts * voxel_volume_mm3(affine)
    columns = (
        index.astype(np.int64),
        [f"lesion-{number}" for number in index],
        volumes,
        places,
        *centroid.T,
        mean(values),
        peaks,
        np.full(len(index), np.nan)
        if confidence is None
        else lesion_confidence(peaks, volumes, confidence),
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def summarise(
    table: pd.DataFrame, *, brain_mask: np.ndarray, affine: np.ndarray, located: bool = True
) -> dict[str, Any]:
    """Summarise a lesion table: load, number of lesions, locations and intracranial volume.

    The load is the total volume of the lesions; ``load_percent_icv = 100 * load_ml / icv_ml``.

    Parameters
    ----------
    table : DataFrame
        From `lesion_table`.
    brain_mask : (X, Y, Z) bool array
        The intracranial volume (ICV), on any grid of the same head.
    affine : (4, 4) array
        From voxels of the mask to world coordinates, mm.
    located : bool
        Whether the lesions have locations.

    Returns
    -------
    dict
        ``load_ml``, ``count``, ``by_location`` (each of `LOCATIONS` with its ``load_ml`` and
        ``count``; None if they are not located), ``icv_ml`` and ``load_percent_icv``, which is None
        when the mask is empty.
    """
    icv_ml = int(np.count_nonzero(brain_mask)) * voxel_volume_mm3(affine) / 1000
    total = _load_and_count(table)
    return {
        **total,
        "by_location": {
            location: _load_and_count(table[table["location"] == location])
            for location in LOCATIONS
        }
        if located
        else None,
        "icv_ml": icv_ml,
        "load_percent_icv": 100 * total["load_ml"] / icv_ml if icv_ml else None,
    }


def _load_and_count(table: pd.DataFrame) -> dict[str, Any]:
    return {"load_ml": float(table["volume_mm3"].sum()) / 1000, "count": len(table)}
