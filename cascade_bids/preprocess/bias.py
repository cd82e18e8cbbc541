"""Bias field correction by N4."""

import ants
import nibabel as nib
import numpy as np
from scipy.interpolate import CubicSpline

from cascade_bids.preprocess.ants_image import to_ants
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.masks import bounding_box

SAMPLED_MM = 6.1
"""Distance, about, of the voxels from which the field is estimated: it changes over centimetres."""

ITERATIONS = (25, 25, 25, 25)
"""On each level, of which each halves the distance of the knots of the field's B-spline."""

FOREGROUND_PART = 0.1
"""Voxels above this part of the 95th percentile of the positive ones show tissue."""


def correct_bias(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Correct the bias field by N4 (Tustison et al. 2010, doi 10.1109/TMI.2010.2046908).

    The field is estimated from voxels about `SAMPLED_MM` apart along each axis, and interpolated
    by cubic splines to the image. All values are divided by it, negative ones too.

    Parameters
    ----------
    image
        From `conform.conform`, whole head or brain.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the same grid.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    # At least four samples along each axis.
    steps = [
        max(1, min(round(SAMPLED_MM / spacing), size // 4))
        for spacing, size in zip(nib.affines.voxel_sizes(image.affine), data.shape, strict=True)
    ]
    first = [(step - 1) // 2 for step in steps]
    sampled = data[tuple(slice(a, None, step) for a, step in zip(first, steps, strict=True))]
    foreground = sampled > FOREGROUND_PART * np.percentile(data[data > 0], 95)
    # N4 takes time for each voxel, and fits the spline to the whole of what it is given.
    box = bounding_box(foreground, margin=1)
    start = [a + step * side.start for a, step, side in zip(first, steps, box, strict=True)]
    affine = image.affine @ nib.affines.from_matvec(np.diag(steps), start)
    field = ants.n4_bias_field_correction(
        # N4 takes logarithms.
        to_ants(make_image(np.clip(sampled[box], 0, None), affine)),
        mask=to_ants(make_image(foreground[box], affine)),
        shrink_factor=1,
        convergence={"iters": list(ITERATIONS), "tol": 1e-7},
        spline_param=[1, 1, 1],
        return_bias_field=True,
    ).numpy()
    return make_image(data / _interpolate(field, start, steps, data.shape), image.affine)


def _interpolate(
    field: np.ndarray, start: list[int], steps: list[int], shape: tuple[int, ...]
) -> np.ndarray:
    """Interpolate the logarithm of a field to all voxels; beyond it, its border goes on."""
    found = np.log(field)
    for axis, (first, step, size) in enumerate(zip(start, steps, shape, strict=True)):
        known = first + step * np.arange(found.shape[axis])
        wanted = np.clip(np.arange(size), known[0], known[-1])
        found = CubicSpline(known, found, axis=axis)(wanted).astype(np.float32)
    return np.exp(found)
