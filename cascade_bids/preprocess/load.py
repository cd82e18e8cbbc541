"""Load images of other programs: check that their files are complete, and bring them to mm."""

import gzip
import logging
import math
import stat
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError, SpatialImage
from nibabel.wrapstruct import WrapStructError

from cascade_bids.errors import ScanError
from cascade_bids.files import why_unfetched
from cascade_bids.preprocess.header import (
    copy_forms,
    is_affine_usable,
    is_spacing_missing,
    scale_forms,
)
from cascade_bids.units import mm_per_unit

# What nibabel logs as an error it raises too, and then it is told once, with the file.
logging.getLogger("nibabel.global").addFilter(lambda record: record.levelno < logging.ERROR)

_CHUNK = 1 << 24

_GZIP = b"\x1f\x8b"
"""Start of a compressed file."""

_HEADER_SIZES = [size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")]
"""Start of a NIfTI file that is not compressed."""

_INVALID = (HeaderDataError, HeaderTypeError, WrapStructError, ValueError, OverflowError, KeyError)
"""Errors that nibabel raises at headers that cannot be."""

_AGAIN = "copy or convert it again"


def check_file(path: Path) -> None:
    """Check what can be told of a file at a glance, before a step is given it.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``.

    Raises
    ------
    ScanError
        When it is missing, not fetched, a folder, empty or may not be read, or when its name does
        not tell whether it is compressed.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a pipe would wait for ever
            raise ScanError(f"{path} is a pipe, socket or device; put an image file in its place")
        with path.open("rb") as stream:
            start = stream.read(4)
    except FileNotFoundError as error:
        what = why_unfetched(path) or "does not exist; put it there, or leave it out"
        raise ScanError(f"{path} {what}") from error
    except IsADirectoryError as error:
        raise ScanError(
            f"{path} is a folder with the name of an image; put the image in its place, or rename "
            "the folder"
        ) from error
    except PermissionError as error:
        raise ScanError(
            f"{path} may not be read by this user ({error.strerror}); allow it (chmod), or copy it "
            "to where you may read it"
        ) from error
    except OSError as error:
        raise ScanError(
            f"{path} can't be read ({error.strerror}); check the disk it is on, and copy it again"
        ) from error
    if unfetched := why_unfetched(path):
        raise ScanError(f"{path} {unfetched}")
    if not start:
        raise ScanError(f"{path} is empty; {_AGAIN}")
    if path.suffix == ".nii" and start.startswith(_GZIP):
        raise ScanError(
            f"{path} is compressed by gzip, but its name does not end in .gz; rename it to "
            f"{path.name}.gz"
        )
    if path.suffix == ".gz" and not start.startswith(_GZIP):
        if start in _HEADER_SIZES:
            raise ScanError(
                f"{path} is not compressed, but its name ends in .gz; rename it to {path.stem}"
            )
        raise ScanError(f"{path} is no NIfTI image, nor compressed as its name says; {_AGAIN}")


def load_image(path: Path) -> nib.Nifti1Image:
    """Load a NIfTI image after checking that its file is complete.

    nibabel reads a compressed file only up to the last voxel, so it would miss a stream that is cut
    off behind it or has a wrong checksum. And it makes room for all voxels that a header claims
    before it reads them.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``.

    Returns
    -------
    nibabel.Nifti1Image
        The image, with both forms in mm; its voxels are not read yet.

    Raises
    ------
    ScanError
        When the file cannot be read, is damaged or no NIfTI image, holds fewer voxels than its
        header claims, or has no usable affine.
    """
    image = _open(path)
    _check_size(path, image)
    return _convert(path, image)


def read_header(path: Path) -> nib.Nifti1Image:
    """Open an image for its header alone; parameters, result and errors as of `load_image`.

    Whether the file is complete is not checked.
    """
    return _convert(path, _open(path))


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Read the grid of an image from its header.

    Parameters
    ----------
    path
        As in `read_header`, also the errors.

    Returns
    -------
    shape : tuple of int
        (X, Y, Z).
    affine : numpy.ndarray
        (4, 4) voxel to world, mm.
    """
    image = read_header(path)
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
    with name_damage(path, remedy):
        image = nib.squeeze_image(image)
        values = np.asarray(image.dataobj)
    if values.ndim != 3:
        raise ScanError(f"the mask {path} has shape {values.shape}, not three axes; {remedy}")
    inside = values >= 0.5
    if not inside.any() and values.any():
        raise ScanError(
            f"the mask {path} has values other than 0, but none of at least 0.5, which is inside; "
            f"{remedy}"
        )
    return nib.Nifti1Image(inside.astype(np.uint8), image.affine)


@contextmanager
def name_damage(name: Path | str, remedy: str = _AGAIN) -> Iterator[None]:
    """Name an image in errors that nibabel raises when it reads the voxels.

    Raises
    ------
    ScanError
        When the voxels cannot be read.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScanError(f"{name} is damaged ({_one_line(error)}); {remedy}") from error


def _open(path: Path) -> Any:
    """Open an image, and check what nibabel would mend in its header without a word."""
    check_file(path)
    try:
        # What is not finite is refused below, and extensions of the header are not read.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Extension size", UserWarning)
            image = nib.load(path)
            if isinstance(image, nib.Nifti1Pair):
                _check_stored(path, image)
    except ImageFileError as error:
        _count_bytes(path)  # says so if it is cut off
        raise ScanError(f"{path} is no NIfTI image, by its first bytes; {_AGAIN}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _not_whole(path, error) from error
    except _INVALID as error:
        raise _invalid_header(path, error) from error
    return image


def _check_stored(path: Path, image: nib.Nifti1Pair) -> None:
    holder = image.file_map["header" if "header" in image.file_map else "image"]
    with holder.get_prepare_fileobj("rb") as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    if is_spacing_missing(header):
        raise _unusable_affine(path)
    first = type(image.header).single_vox_offset
    if header["magic"].item() == type(image.header).single_magic and header["vox_offset"] < first:
        raise _invalid_header(path, f"its voxels would begin before byte {first}")


def _check_size(path: Path, image: SpatialImage) -> None:
    """Check that a file is whole, and holds as many bytes as its header claims."""
    voxels = image.dataobj
    if not isinstance(voxels, ArrayProxy):
        return
    needed = voxels.offset + math.prod(voxels.shape) * voxels.dtype.itemsize
    there = _count_bytes(Path(str(image.file_map["image"].filename)))
    if there < needed:
        raise _not_whole(
            path,
            f"its header claims {' × '.join(map(str, voxels.shape))} voxels, which take {needed} "
            f"bytes, but it holds {there}",
        )


def _count_bytes(path: Path) -> int:
    """Count the bytes of a file; one that is compressed by gzip is unpacked to its end."""
    if path.suffix != ".gz":
        return path.stat().st_size
    there = 0
    try:
        with gzip.open(path) as stream:
            while chunk := stream.read(_CHUNK):
                there += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise _not_whole(path, error) from error
    return there


def _convert(path: Path, image: SpatialImage) -> nib.Nifti1Image:
    """Convert an image to NIfTI-1 in mm."""
    if not is_affine_usable(image.affine):
        raise _unusable_affine(path)
    if type(image) is nib.Nifti1Image:
        return _in_mm(image)
    try:
        converted = nib.Nifti1Image.from_image(image)
    except _INVALID as error:
        raise _invalid_header(path, error) from error
    if isinstance(image, nib.Nifti1Pair):  # such as NIfTI-2, whose codes would be lost
        copy_forms(image.header, converted.header)
    return _in_mm(converted)


def _in_mm(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Bring both forms to mm; a wrong unit stays in the header, see `units.is_unit_wrong`."""
    factor = mm_per_unit(image)
    if factor == 1:
        return image
    header = image.header.copy()
    scale_forms(header, factor)
    return nib.Nifti1Image(image.dataobj, header.get_best_affine(), header)


def _not_whole(path: Path, cause: object) -> ScanError:
    return ScanError(f"{path} is no whole NIfTI image ({_one_line(cause)}); copy it again")


def _invalid_header(path: Path, cause: object) -> ScanError:
    return ScanError(f"{path} has an invalid header ({_one_line(cause)}); {_AGAIN}")


def _unusable_affine(path: Path) -> ScanError:
    return ScanError(f"{path} has no usable affine in its header; convert it again")


def _one_line(cause: object) -> str:
    return " ".join(str(cause).split())
