"""The template, which defines the network grid."""

import numpy as np
from nilearn.datasets import load_mni152_template


def network_grid() -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the network grid, that of the template: 1 mm isotropic, RAS+.

    Returns
    -------
    shape : tuple of int
        (X, Y, Z).
    affine : numpy.ndarray
        (4, 4) voxel to MNI152NLin2009aSym, mm.
    """
    template = load_mni152_template(resolution=1)
    x, y, z = template.shape
    return (x, y, z), template.affine
