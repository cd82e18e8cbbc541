"""Load images of other programs, and check that their files are complete."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cascade_bids.errors import ScanError

_CHUNK = 1 << 24


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
        The image; its voxels are not read yet.

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
        return nib.Nifti1Image.from_image(nib.load(path))
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as error:
        raise ScanError(f"{path} is no whole NIfTI image ({error}); copy it again") from error


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
