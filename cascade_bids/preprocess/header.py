"""What the header of an image tells about its place in the world: two forms, which may disagree.

The qform and the sform are both affines from voxels to the world, each with a code of what it leads
to; code 0 means that there is none. nibabel takes the sform if there is one, then the qform. ITK
takes the sform only if its code is 1 or there is no qform.
"""

from itertools import product

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

APART_MM = 0.1
"""If no voxel lies further apart in the two forms, these are the same: quaternions are rounded."""

FURTHEST = 1e9
"""Larger numbers in an affine, of any unit, are no place in a scanner."""

_FORMS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)

_SPACING = slice(0, 4)
"""Part of ``pixdim`` that belongs to the qform: the handedness, and the voxel size."""


def is_affine_usable(affine: np.ndarray) -> bool:
    """Return whether an affine (4, 4) places the voxels of a grid: within reach, no axis lost."""
    if not (np.isfinite(affine) & (abs(affine) < FURTHEST)).all():
        return False
    return bool((nib.affines.voxel_sizes(affine) > 0).all() and np.linalg.det(affine[:3, :3]) != 0)


def is_spacing_missing(header: nib.Nifti1Header) -> bool:
    """Return whether the affine rests on voxel sizes that the header does not hold.

    Parameters
    ----------
    header
        As it is stored: nibabel replaces 0 by 1 when it opens a file.

    Returns
    -------
    bool
        True if there is no sform and a voxel size is 0 or not finite.
    """
    sizes = header["pixdim"][1:4]
    return bool(header["sform_code"] <= 0 and not (np.isfinite(sizes) & (sizes != 0)).all())


def is_orientation_known(header: nib.Nifti1Header) -> bool:
    """Return whether a header has a form; without one, nobody knows left from right."""
    return bool(header["qform_code"] > 0 or header["sform_code"] > 0)


def measure_forms_apart(header: nib.Nifti1Header) -> float:
    """Measure how far apart the two forms of a header place a voxel.

    Parameters
    ----------
    header
        Of an image (X, Y, Z), or with further axes.

    Returns
    -------
    float
        Largest distance, mm; 0 if there are not both forms, infinite if the qform is invalid.
    """
    if not (header["qform_code"] > 0 and header["sform_code"] > 0):
        return 0.0
    # Affines differ most at a corner.
    corners = np.array(list(product(*((0, size - 1) for size in header.get_data_shape()[:3]))))
    try:
        with np.errstate(all="ignore"):
            between = nib.affines.apply_affine(header.get_qform() - header.get_sform(), corners)
            most = float(np.linalg.norm(between, axis=1).max())
    except (ValueError, HeaderDataError):  # a quaternion that is none
        return np.inf
    return most if np.isfinite(most) else np.inf


def give_forms(image: nib.Nifti1Image, raw: nib.Nifti1Header) -> nib.Nifti1Image:
    """Give an image the two forms of the raw image on whose grid it lies, with their codes.

    Programs that take the other form then see both at one place. If the forms of the raw image are
    the same, they are those of the image already.

    Parameters
    ----------
    image
        (X, Y, Z), from `images.make_image` with the affine of the raw image.
    raw
        Header of the raw image, in mm.

    Returns
    -------
    nibabel.Nifti1Image
        The image, with another header if the raw forms differ or there are none.
    """
    if is_orientation_known(raw) and measure_forms_apart(raw) <= APART_MM:
        return image
    header = image.header.copy()
    copy_forms(raw, header)
    return nib.Nifti1Image(image.dataobj, image.affine, header)


def copy_forms(source: nib.Nifti1Header, target: nib.Nifti1Header) -> None:
    """Copy both forms and their codes to another header, of NIfTI-1 or NIfTI-2."""
    for name in _FORMS:
        target[name] = source[name]
    target["pixdim"][_SPACING] = source["pixdim"][_SPACING]


def scale_forms(header: nib.Nifti1Header, factor: float) -> None:
    """Multiply both forms by a factor, such as mm per metre, and state mm."""
    for name in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        header[name] = header[name] * factor
    header["pixdim"][1:4] *= factor
    header.set_xyzt_units("mm")
