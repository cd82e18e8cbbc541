"""Register images to each other and to the template, with ANTs.

Transforms are as in `cascade_bids.transforms`: (4, 4), fixed to moving, RAS+ mm.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import ants
import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from cascade_bids.preprocess.ants_image import to_ants
from cascade_bids.preprocess.images import make_mask
from cascade_bids.preprocess.masks import apply_mask, centre_of
from cascade_bids.preprocess.resample import average_blocks
from cascade_bids.transforms import from_itk, mean_rigid, write_transform

MARGIN_MM = 8.0
"""Margin around the template's brain that the alignment uses."""

FAR_MM = 25.0
"""If the headers place two brains further apart than this, their centres are aligned first."""

FIXED_MM, MOVING_MM = 2.1, 1.6
"""Voxel size, about, at which a fixed and a moving image are compared. Finer voxels are averaged:
a transform of a whole brain is found to a small part of a voxel. Not round numbers, so that
voxels of 0.8 or 1 mm are not at the edge between two sizes of blocks."""


class _Levels(NamedTuple):
    """How images are compared, from coarse to fine."""

    iterations: tuple[int, ...]
    shrink_factors: tuple[int, ...]
    smoothing_sigmas: tuple[float, ...]
    sampling: float
    """Part of the voxels that the metric compares."""


_RIGID = _Levels((100, 50, 50), (4, 2, 1), (2, 1, 0), 0.25)
_AFFINE = _Levels((500, 100), (3, 2), (1.5, 1), 0.5)


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
    return _register(fixed, moving, fixed_brain, start, "Rigid", seed, _RIGID)


def register_both_ways(
    first: nib.Nifti1Image,
    second: nib.Nifti1Image,
    *,
    first_brain: nib.Nifti1Image,
    second_brain: nib.Nifti1Image,
    seed: int,
) -> np.ndarray:
    """Register two sessions of one head rigidly, so that neither is favoured.

    Parameters
    ----------
    first, second, first_brain, second_brain, seed
        As of `register_rigid`.

    Returns
    -------
    numpy.ndarray
        (4, 4) first to second: the mean of what `register_rigid` finds from the first to the
        second, and of the inverse of what it finds from the second to the first.
    """
    forward = register_rigid(
        first, second, fixed_brain=first_brain, moving_brain=second_brain, seed=seed
    )
    backward = register_rigid(
        second, first, fixed_brain=second_brain, moving_brain=first_brain, seed=seed
    )
    return mean_rigid([forward, np.linalg.inv(backward)], centre_of(first_brain))


def align_to_template(image: nib.Nifti1Image, brain: nib.Nifti1Image, *, seed: int) -> np.ndarray:
    """Register a brain to MNI152NLin2009aSym with 12 parameters.

    Parameters
    ----------
    image, brain
        (X, Y, Z) image and its brain mask, on one grid.
    seed
        Seed of the voxels that the metric samples.

    Returns
    -------
    numpy.ndarray
        (4, 4) template to image.
    """
    template, template_brain = load_mni152_template(1), load_mni152_brain_mask(1)
    start = _shift_between_centres(template_brain, brain)
    # The metric needs the edge of the brain: inside the brain alone, scales come out too small.
    near = ndimage.distance_transform_edt(np.asarray(template_brain.dataobj) == 0) <= MARGIN_MM
    around = nib.Nifti1Image(near.astype(np.uint8), template_brain.affine)
    return _register(template, apply_mask(image, brain), around, start, "Affine", seed, _AFFINE)


def rigid_part(affine: np.ndarray) -> np.ndarray:
    """Extract rotation and translation from an alignment to the template.

    Two different brains have no best rigid alignment: registration finds one of many that are about
    as good. The rigid part of the affine one varies less.

    Parameters
    ----------
    affine
        (4, 4) template to image.

    Returns
    -------
    numpy.ndarray
        (4, 4) template to image, which preserves volumes and places the network grid: the rotation
        nearest to the affine (its polar decomposition), and a translation that maps the centre of
        the template's brain as the affine does.
    """
    rotation, _ = polar(affine[:3, :3])
    centre = centre_of(load_mni152_brain_mask(1))
    return nib.affines.from_matvec(
        rotation, nib.affines.apply_affine(affine, centre) - rotation @ centre
    )


def measure_rotation(affine: np.ndarray) -> float:
    """Measure by how much a head is turned against the template.

    Parameters
    ----------
    affine
        (4, 4) template to image, RAS+ mm.

    Returns
    -------
    float
        Angle of the rotation nearest to the affine (its polar decomposition), in degrees from 0 to
        180; 180 if it mirrors.
    """
    rotation, _ = polar(affine[:3, :3])
    if np.linalg.det(rotation) < 0:
        return 180.0
    return float(np.rad2deg(Rotation.from_matrix(rotation).magnitude()))


def _register(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    mask: nib.Nifti1Image,
    start: np.ndarray,
    kind: str,
    seed: int,
    levels: _Levels,
) -> np.ndarray:
    # A single thread and a seed are both needed for the same transform on every run. With a seed of
    # 0, ANTs would use the clock.
    ants.config.set_ants_deterministic(True, seed + 1)
    part = average_blocks(mask, FIXED_MM)
    inside = make_mask(np.asarray(part.dataobj) >= 0.5, part.affine)
    with TemporaryDirectory() as folder:
        initial = Path(folder) / "start.txt"
        write_transform(start, initial)
        found = ants.registration(
            to_ants(average_blocks(fixed, FIXED_MM)),
            to_ants(average_blocks(moving, MOVING_MM)),
            type_of_transform=kind,
            initial_transform=str(initial),
            outprefix=f"{folder}/found_",
            mask=to_ants(inside),
            mask_all_stages=True,
            aff_iterations=levels.iterations,
            aff_shrink_factors=levels.shrink_factors,
            aff_smoothing_sigmas=levels.smoothing_sigmas,
            aff_random_sampling_rate=levels.sampling,
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
    shift[:3, 3] = centre_of(moving_brain) - centre_of(fixed_brain)
    return shift
