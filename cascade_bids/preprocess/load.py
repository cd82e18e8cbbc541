"""Read a raw image from disk, to its very end."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cascade_bids.errors import ScanError

_CHUNK = 1 << 24


def load_image(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI image after checking that its file is whole.

    nibabel reads a compressed file only as far as the voxels go, so it would miss a stream that
    breaks off behind them or whose checksum is wrong.

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
        When the file is damaged or no NIfTI image.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                while stream.read(_CHUNK):
                    pass
        return nib.Nifti1Image.from_image(nib.load(path))
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as error:
        raise ScanError(f"{path} is no whole NIfTI image ({error}); copy it again") from error
