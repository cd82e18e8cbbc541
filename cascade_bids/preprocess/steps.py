"""The steps from a raw image to the network grid, as functions of nibabel images.

Transforms are those of `cascade_bids.transforms`: (4, 4), fixed to moving, RAS+ mm.
"""

import zlib
from collections.abc import Mapping

import ants
import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_template
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.intensity import normalise_intensity, tissue_mask

MIN_VOXELS = 8
"""An image with fewer voxels along an axis is no head scan."""


def conform(image: nib.Nifti1Image, name: str) -> nib.Nifti1Image:
    """Check an image and bring it into the one form that all later steps rely on.

    Parameters
    ----------
    image
        Any NIfTI image.
    name
        What messages call it: its file.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32, axes permuted and flipped to RAS+, finite, sform and qform equal.

    Raises
    ------
    ScanError
        When the image is not 3D (a fourth axis of length one is dropped), holds colours or complex
        numbers, cannot be read to its end, is constant, has no positive voxel, or has an affine
        that is singular or sheared.
    """
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < MIN_VOXELS:
        raise ScanError(
            f"{name} has shape {tuple(image.shape)}; a 3D image of at least {MIN_VOXELS} voxels "
            "along each axis is needed"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError(
            f"{name} holds {image.get_data_dtype()}, no plain numbers; convert it again"
        )
    try:
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScanError(f"{name} is damaged ({error}); copy or convert it again") from error
    if not np.isfinite(data).any():
        raise ScanError(f"{name} holds no finite number; check the conversion from DICOM")
    data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    if data.min() == data.max():
        raise ScanError(f"{name} is constant; check the conversion from DICOM")
    if data.max() <= 0:
        raise ScanError(f"{name} has no positive voxel; check the conversion from DICOM")
    directions = _directions(image.affine, name)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise ScanError(f"{name} has a sheared affine; resample it to an orthogonal grid first")
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))
    return _nifti(np.asarray(canonical.dataobj), canonical.affine)


def _directions(affine: np.ndarray, name: str) -> np.ndarray:
    spacing = nib.affines.voxel_sizes(affine)
    if not np.isfinite(affine).all() or spacing.min() <= 0 or np.linalg.det(affine[:3, :3]) == 0:
        raise ScanError(f"{name} has no usable affine in its header; convert it again")
    return affine[:3, :3] / spacing


def correct_bias(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Remove the coil's smooth shading by N4 (Tustison et al. 2010, doi 10.1109/TMI.2010.2046908).

    Parameters
    ----------
    image
        As `conform` leaves it, whole head or brain.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the same grid, not negative.
    """
    data = np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, None)
    foreground = data > 0.1 * np.percentile(data[data > 0], 95)
    corrected = ants.n4_bias_field_correction(
        to_ants(_nifti(data, image.affine)),
        mask=to_ants(_nifti(foreground.astype(np.float32), image.affine)),
        shrink_factor=4,
    ).numpy()
    return _nifti(np.clip(corrected, 0, None), image.affine)


def network_grid() -> tuple[tuple[int, int, int], np.ndarray]:
    """Give shape and affine of the network grid: the template's, 1 mm isotropic, RAS+."""
    template = load_mni152_template(resolution=1)
    x, y, z = template.shape
    return (x, y, z), template.affine


def resample(
    image: nib.Nifti1Image,
    shape: tuple[int, ...],
    affine: np.ndarray,
    transform: np.ndarray,
    *,
    order: int,
) -> nib.Nifti1Image:
    """Resample once onto a grid, through a transform.

    Parameters
    ----------
    image
        (X, Y, Z) image.
    shape, affine
        The grid.
    transform
        (4, 4) world of the grid to world of the image.
    order
        Of the spline: 0 for labels, 1 for masks and probabilities, 3 for intensities.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the grid, within the range of the image, 0 beyond its border.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    voxel = np.linalg.inv(image.affine) @ transform @ affine

    def sample(values: np.ndarray, order: int, mode: str) -> np.ndarray:
        return ndimage.affine_transform(
            values, voxel[:3, :3], voxel[:3, 3], output_shape=shape, order=order, mode=mode
        )

    # The image reaches half a voxel beyond its outermost centres. Ending it at the centres would
    # lose whole faces of an oblique image, whose voxels come to lie beyond them by rounding.
    inside = sample(np.ones(data.shape, np.uint8), 0, "grid-constant") > 0
    found = np.where(inside, sample(data, order, "nearest"), 0)
    return _nifti(np.clip(found, min(0.0, float(data.min())), float(data.max())), affine)


def resample_highest(
    image: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> nib.Nifti1Image:
    """Resample a map of probabilities as `resample`, but so that no maximum is lost.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the grid: the highest of what lies at the centre of a voxel and of the
        voxels of the image whose centres lie in it.
    """
    highest = np.array(resample(image, shape, affine, transform, order=1).dataobj)
    values = np.asarray(image.dataobj, dtype=np.float32)
    voxels = np.argwhere(values > 0)
    to_grid = np.linalg.inv(transform @ affine) @ image.affine
    places = np.rint(nib.affines.apply_affine(to_grid, voxels)).astype(int)
    inside = ((places >= 0) & (places < np.array(shape))).all(axis=1)
    np.maximum.at(highest, tuple(places[inside].T), values[tuple(voxels[inside].T)])
    return _nifti(highest, affine)


def resample_mask(
    mask: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> nib.Nifti1Image:
    """Resample a mask as `resample`: at least half of a voxel must lie inside.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 on the grid.
    """
    part = np.asarray(resample(mask, shape, affine, transform, order=1).dataobj)
    return _mask(part >= 0.5, affine)


def reaches(
    mask: nib.Nifti1Image, shape: tuple[int, ...], affine: np.ndarray, transform: np.ndarray
) -> bool:
    """Say whether the centre of any voxel of a mask lies within a grid, as of `resample`."""
    to_grid = np.linalg.inv(transform @ affine) @ mask.affine
    places = nib.affines.apply_affine(to_grid, np.argwhere(np.asarray(mask.dataobj) > 0))
    return bool(((places > -0.5) & (places < np.array(shape) - 0.5)).all(axis=1).any())


def prepare(
    images: Mapping[str, nib.Nifti1Image],
    transforms: Mapping[str, np.ndarray],
    brain: nib.Nifti1Image,
    brain_transform: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> tuple[dict[str, nib.Nifti1Image], nib.Nifti1Image]:
    """Bring a scan's images onto one grid and normalise them inside the brain.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) image, each on its own grid; one is the FLAIR.
    transforms
        Contrast to (4, 4) world of the grid to world of the image.
    brain
        Brain mask of the scan.
    brain_transform
        (4, 4) world of the grid to world of the mask.
    shape, affine
        The grid.

    Returns
    -------
    images : dict of str to nibabel.Nifti1Image
        Contrast to float32 z-scores on the grid, 0 outside the brain.
    brain : nibabel.Nifti1Image
        uint8 mask on the grid.

    Raises
    ------
    ScanError
        When an image is constant inside the brain.
    """
    mask = resample_mask(brain, shape, affine, brain_transform)
    inside = np.asarray(mask.dataobj) > 0
    resampled = {
        contrast: np.asarray(resample(image, shape, affine, transforms[contrast], order=3).dataobj)
        for contrast, image in images.items()
    }
    tissue = tissue_mask(resampled["FLAIR"], inside)
    normalised = {}
    for contrast, values in resampled.items():
        try:
            scores = normalise_intensity(values, tissue, inside)
        except ScanError as error:
            raise ScanError(f"the {contrast}: {error}") from error
        normalised[contrast] = _nifti(scores, affine)
    return normalised, mask


def bring_normalised(
    images: Mapping[str, nib.Nifti1Image],
    brain: nib.Nifti1Image,
    transform: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> tuple[dict[str, nib.Nifti1Image], nib.Nifti1Image]:
    """Bring z-scores that an earlier run left onto another grid.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) z-scores, 0 outside the brain, all on one grid.
    brain
        Brain mask on that grid.
    transform
        (4, 4) world of the new grid to world of the images.
    shape, affine
        The new grid.

    Returns
    -------
    images : dict of str to nibabel.Nifti1Image
        Contrast to float32 z-scores on the new grid, 0 outside the brain.
    brain : nibabel.Nifti1Image
        uint8 mask on the new grid.
    """
    mask = resample_mask(brain, shape, affine, transform)
    inside = np.asarray(mask.dataobj) > 0
    # The 0 outside is that of tissue, and must not leak into the fluid at the brain's rim.
    nearest = ndimage.distance_transform_edt(
        np.asarray(brain.dataobj) == 0,
        sampling=nib.affines.voxel_sizes(brain.affine),
        return_distances=False,
        return_indices=True,
    )
    brought = {}
    for contrast, image in images.items():
        spread = _nifti(np.asarray(image.dataobj)[tuple(nearest)], image.affine)
        values = np.asarray(resample(spread, shape, affine, transform, order=3).dataobj)
        brought[contrast] = _nifti(np.where(inside, values, 0), affine)
    return brought, mask


def apply_mask(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> nib.Nifti1Image:
    """Set all voxels outside the mask to 0; both on one grid."""
    inside = np.asarray(mask.dataobj) > 0
    return _nifti(np.where(inside, np.asarray(image.dataobj), 0), image.affine)


def nonzero_mask(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Take what is clearly above 0 as the brain of an image that was brain-extracted before.

    Above 1 % of the 99th percentile, so that the ringing of earlier resampling does not count;
    the largest piece, with its holes filled.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 on the same grid.

    Raises
    ------
    ScanError
        When no voxel is positive.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    positive = data[data > 0]
    if positive.size == 0:
        raise ScanError("the image has no positive voxel, so no brain; check the conversion")
    pieces, _ = ndimage.label(data > 0.01 * np.percentile(positive, 99))
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return _mask(ndimage.binary_fill_holes(largest), image.affine)


def to_ants(image: nib.Nifti1Image) -> ants.ANTsImage:
    """Hand an image over to antspyx, which counts x and y the other way."""
    to_lps = np.diag([-1.0, -1.0, 1.0])
    directions = to_lps @ image.affine[:3, :3]
    spacing = nib.affines.voxel_sizes(image.affine)
    return ants.from_numpy(
        np.asarray(image.dataobj, dtype=np.float32),
        origin=tuple(to_lps @ image.affine[:3, 3]),
        spacing=tuple(float(s) for s in spacing),
        direction=directions / spacing,
    )


def _mask(inside: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return _nifti(inside, affine, np.uint8)


def _nifti(
    data: np.ndarray, affine: np.ndarray, dtype: type[np.generic] = np.float32
) -> nib.Nifti1Image:
    """Make an image whose sform and qform agree, so that every reader sees one space."""
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return image
