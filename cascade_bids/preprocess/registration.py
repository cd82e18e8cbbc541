"""Register images to each other and to the template, with ANTs.

Transforms are as in `cascade_bids.transforms`: (4, 4), fixed to moving, RAS+ mm.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import ants
import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.linalg import polar

from cascade_bids.preprocess.ants_image import to_ants
from cascade_bids.preprocess.masks import apply_mask
from cascade_bids.transforms import from_itk, write_transform

MARGIN_MM = 8.0
"""Margin around the template's brain that the affine alignment uses."""

FAR_MM = 25.0
"""If the headers place two brains further apart than this, their centres are aligned first."""


def register_rigid(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    *,
    fixed_brain: nib.Nifti1Image,
    moving_brain: nib.Nifti1Image,
    seed: int,
) -> np.ndarray:
    """Register two images of one head rigidly, by mutual information inside the brain.

    Parameters
    ----------
    fixed, moving
        (X, Y, Z) images, each on its own grid.
    fixed_brain, moving_brain
        Brain masks on those grids.
    seed
        Seed of the voxels that the metric samples.

    Returns
    -------
    numpy.ndarray
        (4, 4) fixed to moving.
    """
    start = _initial_shift(fixed_brain, moving_brain)
    return _register(fixed, moving, fixed_brain, start, "Rigid", seed, levels=4)


def align_to_template(
    image: nib.Nifti1Image, brain: nib.Nifti1Image, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Register a brain to MNI152NLin2009aSym, rigidly and then with 12 parameters.

    Parameters
    ----------
    image, brain
        (X, Y, Z) image and its brain mask, on one grid.
    seed
        Seed of the voxels that the metric samples.

    Returns
    -------
    rigid : numpy.ndarray
        (4, 4) template to image; places the network grid and preserves volumes.
    affine : numpy.ndarray
        (4, 4) template to image; gives the template coordinates of a voxel.
    """
    template = load_mni152_template(resolution=1)
    template_brain = load_mni152_brain_mask(resolution=1)
    extracted = apply_mask(image, brain)
    start = _shift_between_centres(template_brain, brain)
    rigid = _register(template, extracted, None, start, "Rigid", seed, levels=3)
    # The metric needs the edge of the brain: inside the brain alone, scales come out too small.
    near = ndimage.distance_transform_edt(np.asarray(template_brain.dataobj) == 0) <= MARGIN_MM
    around = nib.Nifti1Image(near.astype(np.uint8), template_brain.affine)
    affine = _register(template, extracted, around, rigid, "Affine", seed, levels=3)
    return rigid, affine


def rigid_part(affine: np.ndarray) -> np.ndarray:
    """Extract rotation and translation from an affine alignment to the template.

    Parameters
    ----------
    affine
        (4, 4) template to image.

    Returns
    -------
    numpy.ndarray
        (4, 4) template to image: the rotation nearest to the affine (its polar decomposition), and
        a translation that maps the template's origin as the affine does.
    """
    rotation, _ = polar(affine[:3, :3])
    return nib.affines.from_matvec(rotation, affine[:3, 3])


def _register(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    mask: nib.Nifti1Image | None,
    start: np.ndarray,
    kind: str,
    seed: int,
    levels: int,
) -> np.ndarray:
    # A single thread and a seed are both needed for the same transform on every run. With a seed of
    # 0, ANTs would use the clock.
    ants.config.set_ants_deterministic(True, seed + 1)
    with TemporaryDirectory() as folder:
        initial = Path(folder) / "start.txt"
        write_transform(start, initial)
        found = ants.registration(
            to_ants(fixed),
            to_ants(moving),
            type_of_transform=kind,
            initial_transform=str(initial),
            outprefix=f"{folder}/found_",
            mask=None if mask is None else to_ants(mask),
            mask_all_stages=True,
            aff_iterations=(1000, 500, 250, 100)[:levels],
            aff_shrink_factors=(6, 4, 2, 1)[:levels],
            aff_smoothing_sigmas=(3, 2, 1, 0)[:levels],
        )
        itk = ants.read_transform(found["fwdtransforms"][0])
    return from_itk(np.asarray(itk.parameters), np.asarray(itk.fixed_parameters))


def _initial_shift(fixed_brain: nib.Nifti1Image, moving_brain: nib.Nifti1Image) -> np.ndarray:
    """Return the identity, or a shift of the centres if the headers place the brains far apart."""
    shift = _shift_between_centres(fixed_brain, moving_brain)
    return shift if np.linalg.norm(shift[:3, 3]) > FAR_MM else np.eye(4)


def _shift_between_centres(
    fixed_brain: nib.Nifti1Image, moving_brain: nib.Nifti1Image
) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = _centre(moving_brain) - _centre(fixed_brain)
    return shift


def _centre(mask: nib.Nifti1Image) -> np.ndarray:
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    return nib.affines.apply_affine(mask.affine, voxels.mean(axis=0))
