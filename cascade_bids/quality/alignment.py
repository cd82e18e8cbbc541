"""How well images match each other and the template."""

import numpy as np
from skimage.metrics import normalized_mutual_information

from cascade_bids.metrics.overlap import dice
from cascade_bids.preprocess.registration import measure_rotation

BINS = 32
"""Of the joint histogram."""

RANGE_Z = 4.0
"""Values beyond are taken as this, so that a vessel does not stretch the bins."""


def measure_match(one: np.ndarray, other: np.ndarray, brain: np.ndarray) -> float | None:
    """Compute the normalised mutual information of two images inside the brain [1]_.

    Parameters
    ----------
    one, other : (X, Y, Z) float arrays
        Normalised images on one grid.
    brain : (X, Y, Z) bool array
        The brain mask.

    Returns
    -------
    float or None
        (H(one) + H(other)) / H(one, other): 1 where neither tells about the other, at most 2; None
        if there is nothing to compare, since one is constant.

    References
    ----------
    .. [1] Studholme, Hill, Hawkes. An overlap invariant entropy measure of 3D medical image
       alignment. Pattern Recognition 1999;32:71-86. doi 10.1016/S0031-3203(98)00091-0
    """
    values = [np.clip(image[brain], -RANGE_Z, RANGE_Z) for image in (one, other)]
    if not all(part.size and np.ptp(part) for part in values):
        return None
    return float(normalized_mutual_information(*values, bins=BINS))


def measure_alignment(
    affine: np.ndarray, brain: np.ndarray, template_brain: np.ndarray
) -> dict[str, float]:
    """Measure how a brain lies on that of the template.

    Parameters
    ----------
    affine : (4, 4) array
        Template to image, mm.
    brain, template_brain : (X, Y, Z) bool arrays
        Both brain masks, laid over each other on one grid.

    Returns
    -------
    dict
        ``dice`` of the masks; ``rotation`` in degrees; ``stretch``, how much longer the axis is
        that was stretched most than the one that was stretched least.
    """
    lengths = np.linalg.svd(affine[:3, :3], compute_uv=False)
    return {
        "dice": dice(brain, template_brain),
        "rotation": measure_rotation(affine),
        "stretch": float(lengths.max() / lengths.min()),
    }
