"""Bias field correction by N4."""

import ants
import nibabel as nib
import numpy as np

from cascade_bids.preprocess.ants_image import to_ants
from cascade_bids.preprocess.images import make_image


def correct_bias(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Correct the bias field by N4 (Tustison et al. 2010, doi 10.1109/TMI.2010.2046908).

    Parameters
    ----------
    image
        From `conform.conform`, whole head or brain.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the same grid, not negative.
    """
    data = np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, None)
    foreground = data > 0.1 * np.percentile(data[data > 0], 95)
    corrected = ants.n4_bias_field_correction(
        to_ants(make_image(data, image.affine)),
        mask=to_ants(make_image(foreground.astype(np.float32), image.affine)),
        shrink_factor=4,
    ).numpy()
    return make_image(np.clip(corrected, 0, None), image.affine)
