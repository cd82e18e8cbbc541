"""Check raw images and convert them to the form that all later steps rely on."""

from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.header import (
    APART_MM,
    is_affine_usable,
    is_orientation_known,
    measure_forms_apart,
)
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.load import name_damage
from cascade_bids.preprocess.masks import largest_component
from cascade_bids.units import is_unit_wrong, stated_unit

MIN_VOXELS = 8
"""Smallest number of voxels of a head scan along an axis."""

DARKEST_PERCENT = 1.0
"""Percentile that stands for the darkest signal; what is below is ringing, which interpolation and
filters leave beside sharp edges."""

NEGATIVE_PART = 0.1
"""An image whose darkest signal lies further below 0, as a part of the range of its values, is
negative; nearer to 0 it is noise."""

BELOW_PART = 0.05
"""If more of the voxels are darker than a background that was set, they show a brain in z-scores.
"""

CONSTANT_PART = 0.1
"""Part of the voxels with one value from which this is a background that was set."""

STEPS = 500
"""Interpolation may change a background by this part of the range of the values."""

DARKEST_TISSUE = 0.1
"""Signal of the darkest part of a brain without air, as a part of the range of its values."""

HALF, WHOLE = 1 << 15, 1 << 16
"""Number of values of a signed 16-bit integer that are positive, and of all."""

EMPTY_PART = 0.01
"""If more voxels hold the lowest 16-bit number, it stands for no signal."""

CROSSINGS = 100
"""So many pairs of neighbours must differ by a wrap-around for it to be one."""

SURE = 3
"""Undoing a wrap-around must mend so many jumps for each one that it makes."""


class Conformed(NamedTuple):
    """A conformed image and what was done to it."""

    image: nib.Nifti1Image
    """(X, Y, Z) float32, RAS+, finite, sform and qform equal."""
    warnings: list[str]
    """What a reader of the results must know, in sentences without the name of the image."""
    is_orientation_known: bool
    """Whether the header tells where left, front and top are."""


def conform(image: nib.Nifti1Image, name: str) -> Conformed:
    """Check an image and convert it to the form that all later steps rely on.

    Later steps expect that air has no signal, since a bias field multiplies the signal. So a
    negative image is shifted. An unsigned 16-bit image that is stored as signed is read as
    unsigned.

    Parameters
    ----------
    image
        Any NIfTI image, from `load.load_image`.
    name
        Name of the image in error messages: its file.

    Returns
    -------
    Conformed
        The image, axes permuted and flipped to RAS+, and warnings.

    Raises
    ------
    ScanError
        When the image is not 3D (trailing axes of length one are dropped), is smaller than
        `MIN_VOXELS`, holds colours or complex numbers, cannot be read to its end, is constant, has
        no finite or no positive voxel, or has an affine that is singular or sheared.
    """
    shape = _check(image, name)
    with name_damage(name), np.errstate(over="ignore"):  # what becomes infinite is told below
        data, wrapped = _read(image, shape)
    finite = np.isfinite(data)
    if not finite.any():
        raise ScanError(f"{name} holds no finite number; check the conversion from DICOM")
    data = np.where(finite, data, np.float32(0))
    if data.min() == data.max():
        raise ScanError(f"{name} is constant; check the conversion from DICOM")
    if data.max() <= 0:
        raise ScanError(f"{name} has no positive voxel; check the conversion from DICOM")
    data, shifted = shift_negative(data)
    told = (*_warn_of_header(image), _warn_of_gaps(finite), wrapped, shifted)
    warnings = [text for text in told if text]
    return Conformed(_orient(data, image.affine), warnings, is_orientation_known(image.header))


def _warn_of_header(image: nib.Nifti1Image) -> list[str]:
    """Return sentences about what the header states and cannot be, or does not tell."""
    warnings = []
    if is_unit_wrong(image):
        warnings.append(
            f"Its header states the unit {stated_unit(image)}, but its voxels make sense in mm "
            "only: mm was used."
        )
    if not is_orientation_known(image.header):
        warnings.append(
            "Its header does not tell the orientation (the codes of qform and sform are 0), so "
            "that of nibabel was guessed: left and right, front and back, or the axes may be "
            "swapped, and lesions may be missed. Convert it again from DICOM."
        )
    apart_mm = measure_forms_apart(image.header)
    if apart_mm > APART_MM:
        far = f"place it up to {apart_mm:.1f} mm apart" if np.isfinite(apart_mm) else "disagree"
        warnings.append(
            f"The qform and the sform of its header {far}. Transforms hold in the world of the "
            "sform; programs that take the qform (ANTs, ITK-SNAP and 3D Slicer may) see it "
            "elsewhere."
        )
    return warnings


def _warn_of_gaps(finite: np.ndarray) -> str | None:
    """Return a sentence about voxels that hold no number."""
    if finite.all():
        return None
    return (
        f"{finite.size - np.count_nonzero(finite)} of its {finite.size} voxels are NaN or "
        "infinite: they were set to 0."
    )


def orient(image: nib.Nifti1Image, name: str) -> nib.Nifti1Image:
    """Check labels or z-scores and bring them to RAS+; as `conform`, but all values stay.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32.
    """
    shape = _check(image, name)
    with name_damage(name):
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    return _orient(data, image.affine)


def shift_negative(data: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Shift an image with many negative values, so that air has no signal.

    Two kinds of images have many: a whole head with an offset, in which air is darkest, and a brain
    in z-scores, whose darkest parts are below the background that was set to 0.

    Parameters
    ----------
    data
        (X, Y, Z) float32.

    Returns
    -------
    data : numpy.ndarray
        (X, Y, Z) float32; a head with its darkest air at 0, or a brain above a background of 0.
    warning : str or None
        What was done; None if nothing was.
    """
    low, high = np.percentile(data, [DARKEST_PERCENT, 100 - DARKEST_PERCENT])
    if low >= -NEGATIVE_PART * (high - low):
        return data, None
    background, foreground = _find_background(data, (high - low) / STEPS)
    inside = data[foreground]
    if inside.size and (inside < background).mean() > BELOW_PART:
        low, high = np.percentile(inside, [DARKEST_PERCENT, 100 - DARKEST_PERCENT])
        offset = DARKEST_TISSUE * (high - low) - low
        # The few values below the darkest stay above the background.
        lifted = np.maximum(data + offset, DARKEST_TISSUE * (high - low) / 2)
        return (
            np.where(foreground, lifted, 0).astype(np.float32),
            f"It is negative in a part of the brain, so {offset:g} was added there.",
        )
    return (
        (data - np.float32(low)).astype(np.float32),
        f"It is negative where it is darkest, so {-low:g} was added.",
    )


def _find_background(data: np.ndarray, tolerance: float) -> tuple[float, np.ndarray]:
    """Find a background that was set; return its value, and which voxels (X, Y, Z) it is not.

    Without one, all voxels are foreground and the value is that of none.
    """
    values, counts = np.unique(data, return_counts=True)
    if counts.max() < CONSTANT_PART * data.size:
        values, counts = np.unique(np.rint(data / tolerance) * tolerance, return_counts=True)
    background = float(values[counts.argmax()])
    # Tissue of the same value lies inside, and splines ring around the brain.
    around = largest_component(abs(data - background) <= tolerance)
    if around.mean() < CONSTANT_PART:
        return -np.inf, np.ones(data.shape, bool)
    return background, ~around


def undo_wrap(stored: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Read an unsigned 16-bit image that is stored as signed.

    Its values from 32768 on are stored as negative numbers, so the image jumps by nearly 65536
    where its signal passes 32768. In a signed image, reading it as unsigned makes such jumps. The
    axis with most jumps is left out, since thick slices differ much from one to the next.

    Parameters
    ----------
    stored
        (X, Y, Z) int16.

    Returns
    -------
    values : numpy.ndarray
        (X, Y, Z) int32.
    warning : str or None
        What was done, or that it could not be decided; None for a signed image.
    """
    signed = stored.astype(np.int32)
    unsigned = np.where(signed < 0, signed + WHOLE, signed)
    before, after = (_count_jumps(one) for one in (signed, unsigned))
    if before < CROSSINGS:
        return signed, None
    if before >= SURE * after:
        return unsigned, "Its 16-bit numbers are unsigned but stored as signed; that was undone."
    return signed, (
        "Its 16-bit numbers may be unsigned but stored as signed, which could not be decided; "
        "check the image, and convert it again if it is dark where it should be bright."
    )


def _count_jumps(values: np.ndarray) -> int:
    """Count neighbours that differ by more than `HALF`, but for those of different slices."""
    jumps = [int((abs(np.diff(values, axis=axis)) > HALF).sum()) for axis in range(values.ndim)]
    return sum(sorted(jumps)[:-1])


def _check(image: nib.Nifti1Image, name: str) -> tuple[int, ...]:
    """Check shape, type and affine; return the shape without trailing axes of length one."""
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < MIN_VOXELS:
        remedy = (
            "extract one of its volumes" if len(shape) > 3 else "convert it again, or leave it out"
        )
        raise ScanError(
            f"{name} has shape {tuple(image.shape)}; a 3D image of at least {MIN_VOXELS} voxels "
            f"along each axis is needed: {remedy}"
        )
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        what = "colours" if dtype.names else "complex numbers"
        raise ScanError(f"{name} holds {what}, no plain numbers; convert it again")
    directions = _directions(image.affine, name)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise ScanError(f"{name} has a sheared affine; resample it to an orthogonal grid first")
    return shape


def _orient(data: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    return make_image(np.asarray(canonical.dataobj), canonical.affine)


def _read(image: nib.Nifti1Image, shape: tuple[int, ...]) -> tuple[np.ndarray, str | None]:
    """Read the voxels as float32, and a warning about how they are stored."""
    proxy = image.dataobj
    signed = image.get_data_dtype().newbyteorder("=") == np.int16
    if not (signed and isinstance(proxy, ArrayProxy)):
        return np.asarray(proxy, dtype=np.float32).reshape(shape), None
    stored = np.array(proxy.get_unscaled(), dtype=np.int16).reshape(shape)
    empty = stored == -HALF
    if EMPTY_PART * empty.size < empty.sum() < empty.size:
        stored[empty] = stored[~empty].min()
    values, warning = undo_wrap(stored)
    return (values * proxy.slope + proxy.inter).astype(np.float32), warning


def _directions(affine: np.ndarray, name: str) -> np.ndarray:
    if not is_affine_usable(affine):
        raise ScanError(f"{name} has no usable affine in its header; convert it again")
    return affine[:3, :3] / nib.affines.voxel_sizes(affine)
