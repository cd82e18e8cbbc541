"""Assign each lesion to a location of the McDonald criteria."""

import gzip
from importlib.resources import files

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from scipy.spatial import KDTree

LOCATIONS = ("periventricular", "juxtacortical", "infratentorial", "deep_white_matter")
"""Locations of lesions, in the order of tables and reports."""

PERIVENTRICULAR_MM = 3.0
"""A lesion within this distance of a lateral ventricle of the atlas counts as touching it."""
JUXTACORTICAL_MM = 2.0
"""A lesion within this distance of the cortex of the atlas counts as touching it."""

VENTRICLE, CORTEX, WHITE_MATTER, DEEP_GREY, BRAINSTEM, CEREBELLUM = 1, 2, 3, 4, 5, 6
TISSUE = (VENTRICLE, CORTEX, WHITE_MATTER, DEEP_GREY, BRAINSTEM, CEREBELLUM)
INFRATENTORIAL = (BRAINSTEM, CEREBELLUM)


def load_atlas() -> nib.Nifti1Image:
    """Load the region atlas of the package.

    Returns
    -------
    Nifti1Image, (197, 233, 189) uint8
        Labels in MNI152NLin2009aSym, 1 mm, RAS+: 0 outside, 1 lateral ventricle, 2 cortex,
        3 cerebral white matter, 4 deep grey matter, 5 brainstem, 6 cerebellum, 7 other
        cerebrospinal fluid.

    Examples
    --------
    >>> load_atlas().shape
    (197, 233, 189)
    """
    packed = (files("cascade_bids") / "data" / "atlas" / "atlas.nii.gz").read_bytes()
    return nib.Nifti1Image.from_bytes(gzip.decompress(packed))


def locate_lesions(
    labels: np.ndarray, affine: np.ndarray, *, atlas: nib.Nifti1Image, world_to_atlas: np.ndarray
) -> dict[int, str]:
    """Assign each lesion to a location of the McDonald criteria.

    The first rule that applies decides:

    1. *infratentorial*: more than half of the lesion's voxels lie in, or nearest to, the brainstem
       or the cerebellum;
    2. *periventricular*: a voxel lies within `PERIVENTRICULAR_MM` of a lateral ventricle;
    3. *juxtacortical*: a voxel lies within `JUXTACORTICAL_MM` of the cerebral cortex;
    4. *deep_white_matter*: all others.

    A confluent lesion that reaches both ventricle and cortex is therefore periventricular. A voxel
    outside every region of the atlas, or outside its field of view, is assigned to the nearest
    region, so that the medulla below the field of view stays infratentorial.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        Lesion numbers on any grid, 0 outside lesions.
    affine : (4, 4) array
        From voxels of `labels` to world coordinates (RAS+, mm).
    atlas : Nifti1Image, (A, B, C) uint8
        Regions as in `load_atlas`, on any grid.
    world_to_atlas : (4, 4) array
        From the world of `labels` to the world of `atlas`, mm. It should be an affine transform:
        a rigid one does not match the size of the head, nor that of the ventricles.

    Returns
    -------
    dict of int to str
        Lesion number to one of `LOCATIONS`, in ascending order of number.

    Raises
    ------
    ValueError
        If `labels` is not 3D, a transform is not finite, or the atlas lacks a region.

    Notes
    -----
    The criteria require a lesion to abut the lateral ventricles or the cortex with no white matter
    in between [1]_ [2]_. On an atlas, "touching" needs a tolerance: 3 mm from the ventricles is
    the width that Kim et al. [3]_ call juxtaventricular; 2 mm from the cortex is half a 3 mm slice
    and half an atlas voxel. The order of the rules is close to that of LST-AI [4]_. Lesions of the
    deep grey matter, which the criteria do not count as periventricular, follow the same rules
    here, because enlarged ventricles push white matter to where the atlas has the caudate.

    References
    ----------
    .. [1] Thompson et al. Diagnosis of multiple sclerosis: 2017 revisions of the McDonald criteria.
       Lancet Neurol 2018;17:162-173. doi 10.1016/S1474-4422(17)30470-2
    .. [2] Filippi et al. Assessment of lesions on magnetic resonance imaging in multiple sclerosis:
       practical guidelines. Brain 2019;142:1858-1875. doi 10.1093/brain/awz144
    .. [3] Kim, MacFall, Payne. Classification of white matter lesions on magnetic resonance imaging
       in elderly persons. Biol Psychiatry 2008;64:273-280.
    .. [4] Wiltgen et al. LST-AI. NeuroImage Clin 2024;42:103611. doi 10.1016/j.nicl.2024.103611
    """
    numbers, lesion, points = _lesion_points(labels, affine, world_to_atlas)
    regions = np.asarray(atlas.dataobj)
    infratentorial = np.isin(_nearest_region(points, regions, atlas.affine), INFRATENTORIAL)
    below = np.bincount(lesion, infratentorial, len(numbers)) > np.bincount(lesion) / 2
    near = {
        region: np.bincount(
            lesion, _is_near(points, regions == region, atlas.affine, limit), len(numbers)
        )
        > 0
        for region, limit in ((VENTRICLE, PERIVENTRICULAR_MM), (CORTEX, JUXTACORTICAL_MM))
    }
    locations = np.select(
        [below, near[VENTRICLE], near[CORTEX]],
        ["infratentorial", "periventricular", "juxtacortical"],
        "deep_white_matter",
    )
    return dict(zip(numbers.tolist(), locations.tolist(), strict=True))


def _lesion_points(
    labels: np.ndarray, affine: np.ndarray, world_to_atlas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lesion numbers, the index of each voxel's number among them, and its atlas point.

    Raises
    ------
    ValueError
        If `labels` is not 3D, or a transform is not finite.
    """
    if labels.ndim != 3:
        raise ValueError(f"a lesion label map has 3 axes, this one {labels.ndim}")
    to_atlas = np.asarray(world_to_atlas) @ np.asarray(affine)
    if not np.isfinite(to_atlas).all():
        raise ValueError("the transform to the atlas holds values that are not finite")
    voxels = np.argwhere(labels > 0)
    numbers, lesion = np.unique(labels[tuple(voxels.T)], return_inverse=True)
    return numbers, lesion, apply_affine(to_atlas, voxels)


def _nearest_region(points: np.ndarray, regions: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the region at each point, or the nearest region for points outside all regions.

    A look-up is fast and a search is slow, so only points outside the regions are searched for.
    """
    found = np.zeros(len(points), dtype=regions.dtype)
    voxels = np.rint(apply_affine(np.linalg.inv(affine), points)).astype(np.int64)
    within = ((voxels >= 0) & (voxels < regions.shape)).all(axis=1)
    found[within] = regions[tuple(voxels[within].T)]
    outside = ~np.isin(found, TISSUE)
    if outside.any():
        tissue = np.argwhere(np.isin(regions, TISSUE))
        _, nearest = _tree(tissue, affine).query(points[outside])
        found[outside] = regions[tuple(tissue[nearest].T)]
    return found


def _is_near(
    points: np.ndarray, region: np.ndarray, affine: np.ndarray, limit_mm: float
) -> np.ndarray:
    """Return which points lie within a distance of a voxel centre of the region."""
    voxels = np.argwhere(region)
    if not len(voxels):
        raise ValueError("the atlas has no lateral ventricle or no cortex: is it a region atlas?")
    # The bound of the search is exclusive, but a point exactly at the limit counts as near.
    distance, _ = _tree(voxels, affine).query(points, distance_upper_bound=limit_mm * (1 + 1e-9))
    return np.isfinite(distance)


def _tree(voxels: np.ndarray, affine: np.ndarray) -> KDTree:
    # Balancing costs more than it saves for the few thousand voxels of a patient's lesions.
    return KDTree(apply_affine(affine, voxels), balanced_tree=False, compact_nodes=False)
