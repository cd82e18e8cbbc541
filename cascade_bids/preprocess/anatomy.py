"""Where a voxel lies in the anatomy: six maps on the network grid that a network takes as input.

The anatomical coordinates of ALL-Net (Zhang et al. 2021, doi 10.1016/j.nicl.2021.102854): place in
the template, distance to the template's origin, to the cerebrospinal fluid and to the brain's rim.
"""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.tissue import CSF, classify_tissue

ANATOMY = ("mni_x", "mni_y", "mni_z", "origin_distance", "csf_distance", "brain_distance")
"""The maps, in their order."""

UNIT_MM = 100.0
"""One unit of the maps. A head's coordinates then lie within about ±1, as a network likes them."""

LARGEST_HOLE_MM3 = 1000.0
"""Larger gaps in the fluid are no flaws of it: fluid may well enclose a whole brain."""

_CROSS = ndimage.generate_binary_structure(3, 1)
_MARGIN = 2
"""Voxels around the brain's box, which closing by a cross must not reach beyond."""


def find_fluid(
    classes: np.ndarray, flair: np.ndarray, brain: np.ndarray, *, voxel_mm3: float
) -> np.ndarray:
    """Find the larger spaces of cerebrospinal fluid.

    Old lesions are as dark as fluid on T1w, but fluid is never brighter than tissue on FLAIR.
    Opening then takes away what is thinner than three voxels: narrow sulci, and the mixed voxels
    between brain and background. Closing and filling take away noise and the choroid plexus.

    Parameters
    ----------
    classes
        (X, Y, Z), from `tissue.classify_tissue`.
    flair
        (X, Y, Z) normalised: 0 is the mean of tissue.
    brain
        (X, Y, Z) bool.
    voxel_mm3
        Volume of a voxel.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool, inside the brain.

    Raises
    ------
    ScanError
        When there is none.
    """
    fluid = (classes == CSF) & (flair < 0)
    fluid = ndimage.binary_closing(ndimage.binary_opening(fluid, _CROSS), _CROSS)
    pieces, _ = ndimage.label(~fluid)
    hole = np.bincount(pieces.ravel()) * voxel_mm3 <= LARGEST_HOLE_MM3
    hole[0] = False
    fluid = (fluid | hole[pieces]) & brain
    if not fluid.any():
        raise ScanError(
            "no cerebrospinal fluid was found in the brain; check the T1w and the brain mask"
        )
    return fluid


def smooth_brain(brain: np.ndarray) -> np.ndarray:
    """Take spurs, notches and holes from a brain mask: opening, closing, filling.

    Parameters
    ----------
    brain
        (X, Y, Z) bool, with `_MARGIN` empty voxels on each side.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool.
    """
    opened = ndimage.binary_opening(brain, _CROSS)
    return ndimage.binary_fill_holes(ndimage.binary_closing(opened, _CROSS))


def measure_depth(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Measure the signed distance to the boundary of a mask, positive inside.

    The boundary runs midway between voxels: half a voxel from the centres on both its sides.

    Parameters
    ----------
    mask
        (X, Y, Z) bool, neither empty nor full, of isotropic voxels.
    spacing_mm
        Side of a voxel.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32, mm.
    """
    within, beyond = (ndimage.distance_transform_edt(part) for part in (mask, ~mask))
    depth = np.where(mask, within - 0.5, 0.5 - beyond)
    return (depth * spacing_mm).astype(np.float32)


def locate(shape: tuple[int, ...], to_template: np.ndarray) -> np.ndarray:
    """Give the place of each voxel in the template.

    Parameters
    ----------
    shape
        Of the grid.
    to_template
        (4, 4) voxel indices to world coordinates of the template.

    Returns
    -------
    numpy.ndarray
        (3, X, Y, Z) float32, RAS+ mm.
    """
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    places = nib.affines.apply_affine(to_template, voxels)
    return np.moveaxis(places, -1, 0).astype(np.float32)


def measure_anatomy(
    t1w: nib.Nifti1Image,
    flair: nib.Nifti1Image,
    brain: nib.Nifti1Image,
    *,
    rigid: np.ndarray,
    affine: np.ndarray,
) -> np.ndarray:
    """Give each brain voxel its anatomical coordinates.

    The network grid is the template's, moved rigidly to the head. Where in the template a voxel
    lies, the affine alignment tells, which also evens out the size and the shape of heads.

    Distances are signed. Without a sign, a voxel in a ventricle would look like one as far outside
    of it, and periventricular tissue is where lesions are; so the distance to the fluid falls
    through 0 at its boundary and is negative within. The distance to the brain's rim is positive
    within the brain, apart from spurs of the mask that `smooth_brain` takes away.

    Parameters
    ----------
    t1w, flair
        (X, Y, Z) normalised images on the network grid, isotropic.
    brain
        Brain mask on that grid.
    rigid
        (4, 4) template to FLAIR, which placed the network grid.
    affine
        (4, 4) template to FLAIR, with 12 parameters.

    Returns
    -------
    numpy.ndarray
        (6, X, Y, Z) float32 in units of `UNIT_MM`, in the order of `ANATOMY`; 0 outside the brain.

    Raises
    ------
    ScanError
        When the images show no three tissues or no fluid inside the brain.
    """
    inside = np.asarray(brain.dataobj) > 0
    if not inside.any():
        raise ScanError("the brain mask is empty on the network grid; check the brain mask")
    # Nothing outside matters, and the head is less than half of the grid.
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    margin = [(_MARGIN, _MARGIN)] * 3
    cropped, t1w_values, flair_values = (
        np.pad(values[box], margin)
        for values in (inside, np.asarray(t1w.dataobj), np.asarray(flair.dataobj))
    )
    spacing_mm = float(nib.affines.voxel_sizes(brain.affine).mean())
    classes = classify_tissue(t1w_values, cropped)
    fluid = find_fluid(classes, flair_values, cropped, voxel_mm3=spacing_mm**3)
    places = locate(inside.shape, np.linalg.inv(affine) @ rigid @ brain.affine)
    maps = np.zeros((len(ANATOMY), *inside.shape), np.float32)
    maps[:3] = places
    maps[3] = np.linalg.norm(places, axis=0)
    core = (slice(_MARGIN, -_MARGIN),) * 3
    maps[4][box] = -measure_depth(fluid, spacing_mm)[core]
    maps[5][box] = measure_depth(smooth_brain(cropped), spacing_mm)[core]
    return np.where(inside, maps / UNIT_MM, 0).astype(np.float32)
