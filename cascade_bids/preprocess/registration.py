"""Align images with each other and with the template, by ANTs.

Transforms are those of `cascade_bids.transforms`: (4, 4), fixed to moving, RAS+ mm.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import ants
import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.linalg import polar

from cascade_bids.preprocess.steps import apply_mask, to_ants
from cascade_bids.transforms import from_itk, write_transform

MARGIN_MM = 8.0
"""How far around the template's brain the affine alignment looks."""

FAR_MM = 25.0
"""Brains further apart than this by their headers are first brought together by their centres."""


def register_rigid(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    *,
    fixed_brain: nib.Nifti1Image,
    moving_brain: nib.Nifti1Image,
    seed: int,
) -> np.ndarray:
    """Align two images of one head rigidly by mutual information inside the brain.

    Parameters
    ----------
    fixed, moving
        (X, Y, Z) images, each on its own grid.
    fixed_brain, moving_brain
        Brain masks on those grids.
    seed
        Of the voxels that the metric samples.

    Returns
    -------
    numpy.ndarray
        (4, 4) fixed to moving.
    """
    start = _bring_together(fixed_brain, moving_brain)
    return _register(fixed, moving, fixed_brain, start, "Rigid", seed, levels=4)


def align_to_template(
    image: nib.Nifti1Image, brain: nib.Nifti1Image, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Align a brain to MNI152NLin2009aSym, rigidly and then with 12 parameters.

    Parameters
    ----------
    image, brain
        (X, Y, Z) image and its brain mask, on one grid.
    seed
        Of the voxels that the metric samples.

    Returns
    -------
    rigid : numpy.ndarray
        (4, 4) template to image; places the network grid, volumes preserved.
    affine : numpy.ndarray
        (4, 4) template to image; tells where in MNI a voxel lies.
    """
    template = load_mni152_template(resolution=1)
    template_brain = load_mni152_brain_mask(resolution=1)
    extracted = apply_mask(image, brain)
    start = _centres_apart(template_brain, brain)
    rigid = _register(template, extracted, None, start, "Rigid", seed, levels=3)
    # The metric needs the brain's border: inside the brain alone, scales come out too small.
    near = ndimage.distance_transform_edt(np.asarray(template_brain.dataobj) == 0) <= MARGIN_MM
    around = nib.Nifti1Image(near.astype(np.uint8), template_brain.affine)
    affine = _register(template, extracted, around, rigid, "Affine", seed, levels=3)
    return rigid, affine


def rigid_part(affine: np.ndarray) -> np.ndarray:
    """Take the rotation and the shift out of an affine alignment to the template.

    Parameters
    ----------
    affine
        (4, 4) template to image.

    Returns
    -------
    numpy.ndarray
        (4, 4) template to image: the rotation nearest to the affine (its polar decomposition),
        which moves the template's origin as the affine does.
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
    # One thread and a seed are both needed for the same transform on every run.
    # ANTs takes a seed of 0 for the clock.
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


def _bring_together(fixed_brain: nib.Nifti1Image, moving_brain: nib.Nifti1Image) -> np.ndarray:
    """Trust the headers of one session unless they lay the brains far apart."""
    shift = _centres_apart(fixed_brain, moving_brain)
    return shift if np.linalg.norm(shift[:3, 3]) > FAR_MM else np.eye(4)


def _centres_apart(fixed_brain: nib.Nifti1Image, moving_brain: nib.Nifti1Image) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = _centre(moving_brain) - _centre(fixed_brain)
    return shift


def _centre(mask: nib.Nifti1Image) -> np.ndarray:
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    return nib.affines.apply_affine(mask.affine, voxels.mean(axis=0))
