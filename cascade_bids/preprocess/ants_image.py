"""Convert images to antspyx."""

import ants
import nibabel as nib
import numpy as np


def to_ants(image: nib.Nifti1Image) -> ants.ANTsImage:
    """Convert an image to antspyx.

    Parameters
    ----------
    image
        (X, Y, Z) image of any type.

    Returns
    -------
    ants.ANTsImage
        The same image in float32, LPS+ mm; a slight shear of its affine is kept, which
        ``ants.from_nibabel_nifti`` would remove.
    """
    to_lps = np.diag([-1.0, -1.0, 1.0])
    directions = to_lps @ image.affine[:3, :3]
    spacing = nib.affines.voxel_sizes(image.affine)
    return ants.from_numpy(
        np.asarray(image.dataobj, dtype=np.float32),
        origin=tuple(to_lps @ image.affine[:3, 3]),
        spacing=tuple(float(s) for s in spacing),
        direction=directions / spacing,
    )
