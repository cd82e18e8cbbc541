"""All measures of the quality of a scan."""

from collections.abc import Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from cascade_bids.lesions.location import load_atlas
from cascade_bids.lesions.measure import voxel_volume_mm3
from cascade_bids.quality.alignment import measure_alignment, measure_match
from cascade_bids.quality.brain import find_box, measure_asymmetry, measure_missing
from cascade_bids.quality.contrast import measure_contrast
from cascade_bids.quality.noise import measure_ghost, measure_slices, measure_snr

STEP = 2
"""Every so many voxels of the network grid are looked at along each axis."""

SPREAD = 3
"""Every so many voxels of the atlas stand for the template's brain."""

SMALL_ML = 1.0
"""Smaller loads count as this where an error is divided by the load."""

Measures = dict[str, float | None]
"""Name to value; None where there is nothing to measure."""


@dataclass(frozen=True)
class PreparedScan:
    """What the preprocessing and the networks made of a scan."""

    images: Mapping[str, nib.Nifti1Image]
    """Contrast to its normalised image on the network grid; the FLAIR first."""
    brain: nib.Nifti1Image
    """Brain mask on the network grid."""
    rigid: np.ndarray
    """(4, 4) network grid to FLAIR, mm."""
    affine: np.ndarray
    """(4, 4) template to FLAIR, mm."""
    flair: nib.Nifti1Image
    """The bias-corrected FLAIR on its own grid, RAS+."""
    flair_brain: nib.Nifti1Image
    """Brain mask on that grid."""
    load_ml: float
    """Lesion load."""
    expected_error_ml: float
    """See `cascade_bids.lesions.uncertainty.expected_error_ml`."""
    orientation_known: bool
    """Whether the header of the FLAIR tells it."""


def measure_quality(scan: PreparedScan) -> Measures:
    """Compute the measures of a scan.

    Parameters
    ----------
    scan
        The scan.

    Returns
    -------
    dict
        By name; those that have a limit in `cascade_bids.quality.limits.LIMITS` are judged.
    """
    measures: Measures = {
        **_measure_images(scan),
        **_measure_brain(scan),
        **_measure_flair(scan),
        "uncertainty": scan.expected_error_ml / max(scan.load_ml, SMALL_ML),
    }
    return {
        name: value if value is not None and np.isfinite(value) else None
        for name, value in measures.items()
    }


def _measure_images(scan: PreparedScan) -> Measures:
    """Measure contrasts, how images match each other, and how they lie on the template."""
    thin = (slice(None, None, STEP),) * 3
    images = {name: np.asarray(one.dataobj)[thin] for name, one in scan.images.items()}
    brain = np.asarray(scan.brain.dataobj)[thin] > 0
    grid = scan.brain.affine @ np.diag([STEP, STEP, STEP, 1])
    to_template = np.linalg.inv(scan.affine) @ scan.rigid
    atlas = load_atlas()
    matrix = np.linalg.inv(atlas.affine) @ to_template @ grid
    regions = ndimage.affine_transform(
        np.asarray(atlas.dataobj), matrix[:3, :3], matrix[:3, 3], brain.shape, order=0
    )
    measures: Measures = {}
    for name, image in images.items():
        contrast = measure_contrast(image, brain, regions, name)
        measures |= {f"{name.lower()}_{part}": value for part, value in contrast.items()}
        if name != "FLAIR":
            measures[f"{name.lower()}_match"] = measure_match(images["FLAIR"], image, brain)
    aligned = measure_alignment(scan.affine, brain, regions > 0)
    return measures | {f"template_{part}": value for part, value in aligned.items()}


def _measure_brain(scan: PreparedScan) -> Measures:
    """Measure size and shape of the brain."""
    flair_brain = np.asarray(scan.flair_brain.dataobj) > 0
    voxel_ml = voxel_volume_mm3(scan.flair_brain.affine) / 1000
    atlas = load_atlas()
    points = np.argwhere(np.asarray(atlas.dataobj)[::SPREAD, ::SPREAD, ::SPREAD]) * SPREAD
    template_brain = nib.affines.apply_affine(scan.affine @ atlas.affine, points)
    box = find_box(np.asarray(scan.flair.dataobj), flair_brain)
    missing = measure_missing(template_brain, scan.flair.affine, box)
    if scan.orientation_known:
        missing = {f"missing_{side}": part for side, part in missing.items()}
    else:
        missing = {"missing": max(missing.values())}
    return {
        "brain_ml": int(np.count_nonzero(flair_brain)) * voxel_ml,
        "brain_asymmetry": measure_asymmetry(np.asarray(scan.brain.dataobj) > 0),
        **missing,
    }


def _measure_flair(scan: PreparedScan) -> Measures:
    """Measure voxel size and noise of the FLAIR."""
    sizes = nib.affines.voxel_sizes(scan.flair.affine)
    slices = int(np.argmax(sizes))
    image = np.asarray(scan.flair.dataobj)
    brain = np.asarray(scan.flair_brain.dataobj) > 0
    return {
        "longest_edge_mm": float(sizes[slices]),
        "snr": measure_snr(image, brain, slices),
        "interslice_variation": measure_slices(image, brain, slices),
        "gsr": measure_ghost(image, brain, slices),
    }
