"""One phantom image in memory, for tests that need a head but no dataset."""

from typing import NamedTuple

import nibabel as nib
import numpy as np

from cascade_bids.phantom.anatomy import build_anatomy, render
from cascade_bids.phantom.lesions import PLANS, draw_lesion, merge
from cascade_bids.phantom.scanner import (
    FLAIR_FOV_MM,
    acquire,
    as_image,
    centred_grid,
    degrade,
    head_in_scanner,
    random_rigid,
    random_scale,
)


class Head(NamedTuple):
    """A phantom image with its masks, all on one grid."""

    image: nib.Nifti1Image
    brain_mask: nib.Nifti1Image
    lesion_mask: nib.Nifti1Image


def make_head(
    seed: int = 0,
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    contrast: str = "FLAIR",
) -> Head:
    """Simulate one image of a head with the lesions of ``sub-01``, without writing files.

    Parameters
    ----------
    seed
        Seed of size, pose, bias field and noise.
    spacing_mm
        Voxel size along right, anterior and superior, mm.
    contrast
        ``FLAIR`` or ``T1w``.

    Returns
    -------
    Head
        int16 image and uint8 masks of the brain and of the lesions, RAS+, in scanner mm. Two
        contrasts with the same seed and spacing are aligned.
    """
    anatomy = build_anatomy()
    rng = np.random.default_rng(seed)
    to_scanner = head_in_scanner(random_scale(rng), random_rigid(rng, 4, 5))
    field = merge([draw_lesion(plan, anatomy) for plan in PLANS["01", None]], anatomy)
    grid = centred_grid(FLAIR_FOV_MM, spacing_mm)
    signal = acquire(render(anatomy, contrast, field), anatomy.affine, to_scanner, grid)
    brain = acquire(anatomy.brain.astype(np.float32), anatomy.affine, to_scanner, grid)
    lesions = acquire(field, anatomy.affine, to_scanner, grid)
    return Head(
        as_image(degrade(signal, rng), grid),
        as_image((brain >= 0.5).astype(np.uint8), grid),
        as_image((lesions >= 0.5).astype(np.uint8), grid),
    )
