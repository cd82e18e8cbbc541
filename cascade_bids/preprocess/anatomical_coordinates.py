"""Anatomical coordinates: six maps on the network grid that a network takes as input.

They are those of ALL-Net (Zhang et al. 2021, doi 10.1016/j.nicl.2021.102854): coordinates in the
template, and distances to the template's origin, to the cerebrospinal fluid and to the surface of
the brain.
"""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.tissue import CSF, classify_tissue

ANATOMY = ("mni_x", "mni_y", "mni_z", "origin_distance", "csf_distance", "brain_distance")
"""Names of the maps, in their order."""

UNIT_MM = 100.0
"""Unit of the maps, mm: coordinates in a head then lie within about ±1."""

LARGEST_HOLE_MM3 = 1000.0
"""Largest hole in the fluid that is filled: fluid may enclose a whole brain."""

_CROSS = ndimage.generate_binary_structure(3, 1)

_MARGIN = 2
"""Voxels around the bounding box of the brain, so that closing by a cross stays inside."""


def find_fluid(
    classes: np.ndarray, flair: np.ndarray, brain: np.ndarray, *, voxel_mm3: float
) -> np.ndarray:
    """Find the larger spaces of cerebrospinal fluid.

    Old lesions are as dark as fluid on T1w, but fluid is never brighter than tissue on FLAIR.
    Opening removes structures thinner than three voxels: narrow sulci, and partial-volume voxels
    between brain and background. Closing and filling remove noise and the choroid plexus.

    Parameters
    ----------
    classes
        (X, Y, Z), from `tissue.classify_tissue`.
    flair
        (X, Y, Z), normalised: 0 is the mean of tissue.
    brain
        (X, Y, Z) bool.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool, inside the brain.

    Raises
    ------
    ScanError
        When there is no fluid.
    """
    fluid = (classes == CSF) & (flair < 0)
    fluid = ndimage.binary_closing(ndimage.binary_opening(fluid, _CROSS), _CROSS)
    components, _ = ndimage.label(~fluid)
    hole = np.bincount(components.ravel()) * voxel_mm3 <= LARGEST_HOLE_MM3
    hole[0] = False
    fluid = (fluid | hole[components]) & brain
    if not fluid.any():
        raise ScanError(
            "no cerebrospinal fluid was found in the brain; check the T1w and the brain mask"
        )
    return fluid


def smooth_brain(brain: np.ndarray) -> np.ndarray:
    """Remove spurs, notches and holes from a brain mask by opening, closing and filling.

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

    The boundary runs midway between voxels, half a voxel from the centres on both sides.

    Parameters
    ----------
    mask
        (X, Y, Z) bool with isotropic voxels, neither empty nor full.
    spacing_mm
        Voxel size, mm.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32, mm.
    """
    within, beyond = (ndimage.distance_transform_edt(part) for part in (mask, ~mask))
    depth = np.where(mask, within - 0.5, 0.5 - beyond)
    return (depth * spacing_mm).astype(np.float32)


def coordinate_maps(shape: tuple[int, ...], to_template: np.ndarray) -> np.ndarray:
    """Compute the coordinates of each voxel in the template.

    Parameters
    ----------
    shape
        Shape of the grid.
    to_template
        (4, 4) voxel indices to world coordinates of the template, mm.

    Returns
    -------
    numpy.ndarray
        (3, X, Y, Z) float32, RAS+ mm.
    """
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    coordinates = nib.affines.apply_affine(to_template, voxels)
    return np.moveaxis(coordinates, -1, 0).astype(np.float32)


def measure_anatomy(
    t1w: nib.Nifti1Image,
    flair: nib.Nifti1Image,
    brain: nib.Nifti1Image,
    *,
    rigid: np.ndarray,
    affine: np.ndarray,
) -> np.ndarray:
    """Compute the anatomical coordinates of each brain voxel.

    The network grid is the template's, moved rigidly to the head. The coordinates in the template
    come from the affine alignment, which also corrects for the size and shape of the head.

    Distances are signed. Without a sign, a voxel in a ventricle would look like one at the same
    distance outside it, in the periventricular tissue, where lesions are common. The distance to
    the fluid is positive outside and negative inside it. The distance to the surface of the brain
    is positive inside the brain, except in spurs of the mask that `smooth_brain` removes.

    Parameters
    ----------
    t1w, flair
        (X, Y, Z) normalised images on the network grid, isotropic.
    brain
        Brain mask on that grid.
    rigid
        (4, 4) template to FLAIR, from which the network grid was placed.
    affine
        (4, 4) template to FLAIR, with 12 parameters.

    Returns
    -------
    numpy.ndarray
        (6, X, Y, Z) float32 in units of `UNIT_MM`, in the order of `ANATOMY`; 0 outside the brain.

    Raises
    ------
    ScanError
        When the brain mask is empty, or the images show no three tissues or no fluid in the brain.
    """
    inside = np.asarray(brain.dataobj) > 0
    if not inside.any():
        raise ScanError("the brain mask is empty on the network grid; check the brain mask")
    # Only the bounding box is needed, and the brain fills less than half of the grid.
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    margin = [(_MARGIN, _MARGIN)] * 3
    cropped, t1w_values, flair_values = (
        np.pad(values[box], margin)
        for values in (inside, np.asarray(t1w.dataobj), np.asarray(flair.dataobj))
    )
    spacing_mm = float(nib.affines.voxel_sizes(brain.affine).mean())
    classes = classify_tissue(t1w_values, cropped)
    fluid = find_fluid(classes, flair_values, cropped, voxel_mm3=spacing_mm**3)
    coordinates = coordinate_maps(inside.shape, np.linalg.inv(affine) @ rigid @ brain.affine)
    maps = np.zeros((len(ANATOMY), *inside.shape), np.float32)
    maps[:3] = coordinates
    maps[3] = np.linalg.norm(coordinates, axis=0)
    core = (slice(_MARGIN, -_MARGIN),) * 3
    maps[4][box] = -measure_depth(fluid, spacing_mm)[core]
    maps[5][box] = measure_depth(smooth_brain(cropped), spacing_mm)[core]
    return np.where(inside, maps / UNIT_MM, 0).astype(np.float32)
