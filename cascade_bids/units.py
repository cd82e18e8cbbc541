"""Units of length in the headers of images."""

import nibabel as nib
import numpy as np

_MM = {"meter": 1000.0, "micron": 0.001}
"""Millimetres of the units of length that NIfTI knows besides mm."""

PLAUSIBLE_MM = (0.05, 30.0)
"""Smallest and largest side of the voxels of a head scan."""


def mm_per_unit(image: nib.Nifti1Image) -> float:
    """Return by what the affine of an image is to be multiplied to be in mm.

    Some programs write a wrong unit. If only the numbers as they stand make voxels of a head in mm,
    they are in mm.

    Parameters
    ----------
    image
        Any NIfTI image.

    Returns
    -------
    float
        1 for mm, for an unknown unit and for a wrong one.
    """
    factor = _MM.get(stated_unit(image), 1.0)
    sides = nib.affines.voxel_sizes(image.affine)
    if not _are_plausible(sides * factor) and _are_plausible(sides):
        return 1.0
    return factor


def is_unit_wrong(image: nib.Nifti1Image) -> bool:
    """Return whether an image states a unit of length that `mm_per_unit` does not believe."""
    return stated_unit(image) in _MM and mm_per_unit(image) == 1


def stated_unit(image: nib.Nifti1Image) -> str:
    """Return the unit of length that a header states: meter, mm, micron or unknown."""
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:  # no unit that NIfTI knows
        return "unknown"


def _are_plausible(sides_mm: np.ndarray) -> bool:
    return bool((sides_mm >= PLAUSIBLE_MM[0]).all() and (sides_mm <= PLAUSIBLE_MM[1]).all())
