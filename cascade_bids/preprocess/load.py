"""Load images of other programs: check that their files are complete, and bring them to mm."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cascade_bids.errors import ScanError
from cascade_bids.units import mm_per_unit

_CHUNK = 1 << 24

_UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""Errors that nibabel may raise on a damaged file."""


def load_image(path: Path) -> nib.Nifti1Image:
    """Load a NIfTI image after checking that its file is complete.

    nibabel reads a compressed file only up to the last voxel, so it would miss a stream that is cut
    off behind it or has a wrong checksum.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``.

    Returns
    -------
    nibabel.Nifti1Image
        The image, with its affine in mm; its voxels are not read yet.

    Raises
    ------
    ScanError
        When the file is damaged or not a NIfTI image.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                while stream.read(_CHUNK):
                    pass
        return _in_mm(nib.Nifti1Image.from_image(nib.load(path)))
    except _UNREADABLE as error:
        raise ScanError(f"{path} is no whole NIfTI image ({error}); copy it again") from error


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Read the grid of an image from its header.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``; whether the file is whole is not checked.

    Returns
    -------
    shape : tuple of int
        (X, Y, Z).
    affine : numpy.ndarray
        (4, 4) voxel to world, mm.

    Raises
    ------
    ScanError
        When the header cannot be read.
    """
    try:
        image = _in_mm(nib.Nifti1Image.from_image(nib.load(path)))
    except _UNREADABLE as error:
        raise ScanError(f"{path} is no whole NIfTI image ({error}); copy it again") from error
    return image.shape[:3], image.affine


def load_mask(path: Path) -> nib.Nifti1Image:
    """Load a mask of another program or of a rater.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``; voxels of at least 0.5 are inside.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 mask; trailing axes of length one are dropped.

    Raises
    ------
    ScanError
        When the file is damaged or not a NIfTI image, or when the mask is not 3D, or has values
        other than 0 but none of at least 0.5.
    """
    image = load_image(path)
    remedy = "give a whole mask, or leave it out"
    try:
        image = nib.squeeze_image(image)
        values = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScanError(f"{path} is damaged ({error}); {remedy}") from error
    if values.ndim != 3:
        raise ScanError(f"the mask {path} has shape {values.shape}, not three axes; {remedy}")
    inside = values >= 0.5
    if not inside.any() and values.any():
        raise ScanError(
            f"the mask {path} has values other than 0, but none of at least 0.5, which is inside; "
            f"{remedy}"
        )
    return nib.Nifti1Image(inside.astype(np.uint8), image.affine)


def _in_mm(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Bring the affine to mm; a wrong unit stays in the header, see `units.is_unit_wrong`."""
    factor = mm_per_unit(image)
    if factor == 1:
        return image
    affine = image.affine.copy()
    affine[:3] *= factor
    scaled = nib.Nifti1Image(image.dataobj, affine, image.header)
    scaled.header.set_xyzt_units("mm")
    scaled.set_sform(affine, code=int(image.header["sform_code"]) or 1)
    scaled.set_qform(affine, code=int(image.header["qform_code"]) or 1)
    return scaled
