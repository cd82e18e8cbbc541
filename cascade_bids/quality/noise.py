"""Noise and ghosts of an image."""

import numpy as np
from scipy import ndimage

from cascade_bids.quality.brain import DARK

CLOSED, AROUND = 2, 3
"""Voxels by which holes of the head are closed, and by which it is widened."""

_SECOND = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Difference of two Laplacians, blind to edges and slopes."""

_TO_SIGMA = 1 / (0.6745 * float(np.sqrt((_SECOND**2).sum())))
"""From the median of the absolute differences of Gaussian noise to its standard deviation."""


def measure_snr(image: np.ndarray, brain: np.ndarray, slices: int) -> float | None:
    """Estimate the signal-to-noise ratio in the brain, with the noise of Immerkær [1]_.

    Parameters
    ----------
    image : (X, Y, Z) float array
        The bias-corrected image, on its own grid.
    brain : (X, Y, Z) bool array
        Its brain mask.
    slices : int
        The axis along which the slices lie; neighbours are compared within them.

    Returns
    -------
    float or None
        Median of the signal, over the standard deviation of the noise, from the median difference
        of neighbours, which edges hardly change; None without a brain, signal or noise.

    References
    ----------
    .. [1] Immerkær. Fast noise variance estimation. Computer Vision and Image Understanding
       1996;64:300-302. doi 10.1006/cviu.1996.0060
    """
    inside = ndimage.binary_erosion(brain)
    if not inside.any():
        return None
    differences = ndimage.convolve(image.astype(np.float32), np.expand_dims(_SECOND, slices))
    noise = float(np.median(abs(differences[inside]))) * _TO_SIGMA
    signal = float(np.median(image[inside]))
    return signal / noise if noise > 0 and signal > 0 else None


def measure_ghost(image: np.ndarray, brain: np.ndarray, slices: int) -> float | None:
    """Compute the ghost-to-signal ratio [1]_ along that axis of the slices where it is larger.

    Parameters
    ----------
    image, brain, slices
        As of `measure_snr`, of a whole head.

    Returns
    -------
    float or None
        Mean of the air where a ghost of the head, shifted by half the field of view, would lie,
        less that of other air, over the median signal of the brain; None without such air.

    References
    ----------
    .. [1] Giannelli et al. Characterization of Nyquist ghost in EPI-fMRI acquisition sequences
       implemented on two clinical 1.5 T MR scanner systems. J Appl Clin Med Phys 2010;11:170-180.
       doi 10.1120/jacmp.v11i4.3237
    """
    if not brain.any():
        return None
    signal = float(np.median(image[brain]))
    if signal <= 0:
        return None
    head = ndimage.binary_closing(image > DARK * signal, iterations=CLOSED)
    wide = ndimage.binary_dilation(head, iterations=AROUND)
    ratios = []
    for axis in {0, 1, 2} - {slices}:
        half = image.shape[axis] // 2
        ghost = np.roll(head, half, axis=axis) & ~wide
        other = ~wide & ~np.roll(wide, half, axis=axis)
        if ghost.any() and other.any():
            ratios.append(float(image[ghost].mean() - image[other].mean()) / signal)
    return max(ratios, default=None)
