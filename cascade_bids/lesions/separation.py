"""Confluent lesions told apart by the sphere map, the second output of some networks."""

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from cascade_bids.lesions.postprocess import CONNECTED, min_voxels, number_lesions
from cascade_bids.lesions.spheres import SPHERE_MM

SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian that turns the flat top of a sphere into a peak."""
PEAK_HEIGHT = 0.3
"""Lowest smoothed sphere probability of a peak; a perfect sphere has about 0.9."""
PEAK_DROP = 0.05
"""By which part of its height the map must fall from a peak on every way to a higher one.

Perfect spheres are then told apart if their centres are about 8 mm apart.
"""
PEAK_DISTANCE_MM = 5.0
"""Two peaks of one lesion lie at least this far apart: nearer spheres are mostly the same."""


def separate_lesions(
    labels: np.ndarray, spheres: np.ndarray, *, affine: np.ndarray, min_lesion_mm3: float
) -> np.ndarray:
    """Split confluent lesions at the peaks of the sphere map.

    The sphere map gives the probability that a voxel lies in a sphere of 10 mm around a lesion's
    centre [1]_. It is smoothed by a Gaussian of `SMOOTHING_MM`. A peak is where it reaches at least
    `PEAK_HEIGHT` and falls by `PEAK_DROP` on every way to a higher place; it belongs to the lesions
    that its top, the voxels within that drop, reaches. Peaks nearer to a higher one of the same
    lesion than `PEAK_DISTANCE_MM` are passed over. A lesion with several peaks is split by a
    watershed that starts at them. Its height is the smoothed map plus the depth within the lesion
    in units of `SPHERE_MM`: the map alone would cut half-way between a large and a small lesion,
    the depth alone says little on thick slices. A lesion with one peak or none stays whole.

    Where a piece would be too small, its peak is taken away and the watershed runs again, so that
    its voxels go to the pieces beside it.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        Lesion numbers as `postprocess.label_lesions` gives them, 0 outside lesions.
    spheres : (X, Y, Z) float array
        Sphere map in [0, 1] on the same grid, with voxels of any size.
    affine : (4, 4) array
        From voxels to world (RAS+, mm). The lesions are split in the same way however the image is
        stored.
    min_lesion_mm3 : float
        Smallest volume of a piece, mm³, at least 0.

    Returns
    -------
    (X, Y, Z) int32 array
        0 where `labels` is 0, else the lesion's number, in the order of `number_lesions`.

    Raises
    ------
    ValueError
        If the shapes differ or are not 3D, the sphere map holds NaN or a value outside [0, 1],
        voxels have no volume, or the smallest volume is negative.

    References
    ----------
    .. [1] Zhang et al. ALL-Net: Anatomical information lesion-wise loss function integrated into
       neural network for multiple sclerosis lesion segmentation. NeuroImage: Clinical
       2021;32:102854. doi 10.1016/j.nicl.2021.102854
    """
    voxel_mm3 = _check(labels, spheres, affine, min_lesion_mm3)
    # Equal peaks and voxels are taken in array order, so all is done in one orientation.
    stored = nib.orientations.io_orientation(affine)
    pieces = nib.orientations.apply_orientation(labels, stored).astype(np.int32)
    sphere_map = nib.orientations.apply_orientation(spheres, stored).astype(np.float32)
    voxel_mm = _voxel_mm(affine)[np.argsort(stored[:, 0])]
    fewest = max(min_voxels(min_lesion_mm3, voxel_mm3), 1)
    _split_all(pieces, sphere_map, voxel_mm, fewest)
    back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], stored)
    return number_lesions(
        nib.orientations.apply_orientation(pieces, back), min_lesion_mm3=0, voxel_mm3=voxel_mm3
    )


def _check(
    labels: np.ndarray, spheres: np.ndarray, affine: np.ndarray, min_lesion_mm3: float
) -> float:
    """Raise what `separate_lesions` raises, or give the volume of a voxel in mm³."""
    if labels.ndim != 3 or labels.shape != spheres.shape:
        raise ValueError(f"lesions of shape {labels.shape}, sphere map of shape {spheres.shape}")
    if not ((spheres >= 0) & (spheres <= 1)).all():
        raise ValueError("the sphere map holds NaN or values outside [0, 1]")
    voxel_mm3 = float(_voxel_mm(affine).prod())
    if not (min_lesion_mm3 >= 0 and voxel_mm3 > 0):
        raise ValueError(f"impossible volumes: {min_lesion_mm3=}, {voxel_mm3=}")
    return voxel_mm3


def _voxel_mm(affine: np.ndarray) -> np.ndarray:
    # Affines are often stored in single precision, which must not decide between equal peaks.
    return np.round(voxel_sizes(affine), 4)


def _split_all(
    pieces: np.ndarray, sphere_map: np.ndarray, voxel_mm: np.ndarray, fewest: float
) -> None:
    """Split the numbered lesions in place; new pieces get further numbers."""
    smooth = ndimage.gaussian_filter(sphere_map, SMOOTHING_MM / voxel_mm)
    tops, heights = _find_peaks(smooth)
    last = int(pieces.max(initial=0))
    for number, tight in enumerate(ndimage.find_objects(pieces), start=1):
        if tight is None:
            continue
        # The depth within a lesion needs the voxels around it.
        box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in tight)
        lesion = pieces[box] == number
        seeds = _seed(lesion, smooth[box], tops[box], heights, voxel_mm)
        split = _split(lesion, smooth[box], seeds, voxel_mm, fewest)
        others = split > 1
        pieces[box][others] = split[others] + (last - 1)
        last += int(split.max()) - 1


def _find_peaks(smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the tops of all peaks as numbers, and the height of each; that of 0 means nothing."""
    # What lies lower separates in any case, so each hill stands for itself, and most are small.
    hills, _ = ndimage.label(smooth >= (1 - PEAK_DROP) * PEAK_HEIGHT, structure=CONNECTED)
    tops, heights = np.zeros(smooth.shape, dtype=np.int32), [0.0]
    for number, box in enumerate(ndimage.find_objects(hills), start=1):
        hill = np.pad(np.where(hills[box] == number, smooth[box], 0), 1)
        lowered = reconstruction((1 - PEAK_DROP) * hill, hill, footprint=CONNECTED)
        zones, count = ndimage.label(
            local_maxima(lowered, footprint=CONNECTED), structure=CONNECTED
        )
        found = np.append(0, ndimage.maximum(hill, zones, np.arange(1, count + 1)))
        high = found >= PEAK_HEIGHT
        tops[box] += np.where(high, np.cumsum(high) + len(heights) - 1, 0)[zones[1:-1, 1:-1, 1:-1]]
        heights.extend(found[high])
    return tops, np.array(heights)


def _seed(
    lesion: np.ndarray,
    smooth: np.ndarray,
    tops: np.ndarray,
    heights: np.ndarray,
    voxel_mm: np.ndarray,
) -> np.ndarray:
    """Give one voxel of the lesion for each peak that it is split at, (N, 3), highest first."""
    reached = np.unique(tops[lesion & (tops > 0)])
    within = np.where(lesion, smooth, -1)
    highest = np.array(ndimage.maximum_position(within, tops, reached)).reshape(-1, 3)
    seeds: list[np.ndarray] = []
    for seed in highest[np.argsort(-heights[reached], kind="stable")]:
        away = [np.linalg.norm((seed - other) * voxel_mm) for other in seeds]
        if all(distance >= PEAK_DISTANCE_MM for distance in away):
            seeds.append(seed)
    return np.array(seeds)


def _split(
    lesion: np.ndarray,
    smooth: np.ndarray,
    seeds: np.ndarray,
    voxel_mm: np.ndarray,
    fewest: float,
) -> np.ndarray:
    """Give the pieces of one lesion numbers from 1; none has fewer voxels than `fewest`."""
    while len(seeds) > 1:
        depth_mm = ndimage.distance_transform_edt(lesion, sampling=voxel_mm)
        markers = np.zeros(lesion.shape, dtype=np.int32)
        markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
        pieces: np.ndarray = watershed(
            -smooth - depth_mm / SPHERE_MM, markers, connectivity=CONNECTED, mask=lesion
        )
        sizes = np.bincount(pieces[lesion], minlength=len(seeds) + 1)[1:]
        if sizes.min() >= fewest:
            return pieces
        # Of equally small pieces, that of the lowest peak.
        seeds = np.delete(seeds, np.flatnonzero(sizes == sizes.min())[-1], axis=0)
    return lesion.astype(np.int32)
