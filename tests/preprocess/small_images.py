"""Images of a few voxels, and motions of known truth."""

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (12, 14, 10)


def noise(shape=SHAPE, dtype=np.int16, affine=None):
    values = np.random.default_rng(0).integers(1, 1000, shape).astype(dtype)
    if affine is None:
        affine = nib.affines.from_matvec(np.diag([1.0, 1.5, 3.0]), [-7, 20, 5])
    return nib.Nifti1Image(values, affine)


def rigid(degrees=(0, 0, 0), shift_mm=(0, 0, 0)):
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return nib.affines.from_matvec(turn, shift_mm)


def moved(image, motion):
    """Carry an image's anatomy elsewhere in the world, without resampling it."""
    return nib.Nifti1Image(np.asarray(image.dataobj), motion @ image.affine)
