"""Separate confluent lesions by the sphere map, the second output of some networks."""

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from cascade_bids.lesions.label import CONNECTED, min_voxels, number_lesions
from cascade_bids.lesions.spheres import SPHERE_MM

SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian that turns the flat top of a sphere into a peak."""

PEAK_HEIGHT = 0.3
"""Lowest smoothed sphere probability of a peak; a perfect sphere reaches about 0.9."""

PEAK_DROP = 0.05
"""Fraction of its height by which the map must fall from a peak on every path to a higher one.

Perfect spheres are then separated if their centres are about 8 mm apart.
"""

PEAK_DISTANCE_MM = 5.0
"""Smallest distance between two peaks of one lesion: closer spheres are mostly the same lesion."""


def separate_lesions(
    labels: np.ndarray, spheres: np.ndarray, *, affine: np.ndarray, min_lesion_mm3: float
) -> np.ndarray:
    """Split confluent lesions at the peaks of the sphere map.

    The sphere map is the probability that a voxel lies in a sphere of 10 mm diameter around the
    centre of a lesion [1]_. It is smoothed by a Gaussian of `SMOOTHING_MM`. A peak is a maximum of
    at least `PEAK_HEIGHT` from which the map falls by `PEAK_DROP` on every path to a higher one.
    It belongs to the lesions that overlap with its top, the voxels within that drop. A peak that is
    closer than `PEAK_DISTANCE_MM` to a higher peak of the same lesion is ignored.

    A lesion with several peaks is split by a watershed that starts at them. The watershed floods
    the sum of the smoothed map and of the depth within the lesion in units of `SPHERE_MM`, from the
    highest value down: the map alone would cut half-way between a large and a small lesion, and the
    depth alone is unreliable on thick slices. A lesion with one peak or none is not split.

    If a component would be too small, its peak is removed and the watershed runs again, so that its
    voxels join the neighbouring components.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        Lesion numbers from `label.label_lesions`, 0 outside lesions.
    spheres : (X, Y, Z) float array
        Sphere map in [0, 1] on the same grid, with voxels of any size.
    affine : (4, 4) array
        From voxels to world (RAS+, mm). The result does not depend on the orientation in which the
        image is stored.
    min_lesion_mm3 : float
        Smallest volume of a component, mm³, at least 0.

    Returns
    -------
    (X, Y, Z) int32 array
        0 where `labels` is 0, else the number of the lesion, in the order of
        `label.number_lesions`.

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
    # Ties are broken by array order, so everything is computed in one orientation.
    stored = nib.orientations.io_orientation(affine)
    components = nib.orientations.apply_orientation(labels, stored).astype(np.int32)
    sphere_map = nib.orientations.apply_orientation(spheres, stored).astype(np.float32)
    voxel_mm = _voxel_mm(affine)[np.argsort(stored[:, 0])]
    fewest = max(min_voxels(min_lesion_mm3, voxel_mm3), 1)
    _split_all(components, sphere_map, voxel_mm, fewest)
    back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], stored)
    return number_lesions(
        nib.orientations.apply_orientation(components, back), min_lesion_mm3=0, voxel_mm3=voxel_mm3
    )


def _check(
    labels: np.ndarray, spheres: np.ndarray, affine: np.ndarray, min_lesion_mm3: float
) -> float:
    """Check the arguments of `separate_lesions` and return the volume of a voxel in mm³."""
    if labels.ndim != 3 or labels.shape != spheres.shape:
        raise ValueError(f"lesions of shape {labels.shape}, sphere map of shape {spheres.shape}")
    if not ((spheres >= 0) & (spheres <= 1)).all():
        raise ValueError("the sphere map holds NaN or values outside [0, 1]")
    voxel_mm3 = float(_voxel_mm(affine).prod())
    if not (min_lesion_mm3 >= 0 and voxel_mm3 > 0):
        raise ValueError(f"impossible volumes: {min_lesion_mm3=}, {voxel_mm3=}")
    return voxel_mm3


def _voxel_mm(affine: np.ndarray) -> np.ndarray:
    # Affines are often stored in single precision; rounding keeps equal peaks equal.
    return np.round(voxel_sizes(affine), 4)


def _split_all(
    components: np.ndarray, sphere_map: np.ndarray, voxel_mm: np.ndarray, fewest: float
) -> None:
    """Split the numbered lesions in place; new components get further numbers."""
    smooth = ndimage.gaussian_filter(sphere_map, SMOOTHING_MM / voxel_mm)
    tops, heights = _find_peaks(smooth)
    last = int(components.max(initial=0))
    for number, tight in enumerate(ndimage.find_objects(components), start=1):
        if tight is None:
            continue
        # The depth within a lesion needs the voxels around it.
        box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in tight)
        lesion = components[box] == number
        seeds = _seed(lesion, smooth[box], tops[box], heights, voxel_mm)
        split = _split(lesion, smooth[box], seeds, voxel_mm, fewest)
        others = split > 1
        components[box][others] = split[others] + (last - 1)
        last += int(split.max()) - 1


def _find_peaks(smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tops of all peaks, numbered from 1, and their heights; that of 0 is unused."""
    # Lower values separate peaks in any case, so each hill is processed by itself; most are small.
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
    """Return one voxel of the lesion for each peak at which it is split, (N, 3), highest first."""
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
    """Split one lesion into components, numbered from 1, of at least `fewest` voxels each."""
    while len(seeds) > 1:
        depth_mm = ndimage.distance_transform_edt(lesion, sampling=voxel_mm)
        markers = np.zeros(lesion.shape, dtype=np.int32)
        markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
        components: np.ndarray = watershed(
            -smooth - depth_mm / SPHERE_MM, markers, connectivity=CONNECTED, mask=lesion
        )
        sizes = np.bincount(components[lesion], minlength=len(seeds) + 1)[1:]
        if sizes.min() >= fewest:
            return components
        # Of equally small components, the one with the lowest peak loses its seed.
        seeds = np.delete(seeds, np.flatnonzero(sizes == sizes.min())[-1], axis=0)
    return lesion.astype(np.int32)
