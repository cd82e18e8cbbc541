"""Noise, ghosts and uneven slices of an image."""

import numpy as np
from scipy import ndimage

from cascade_bids.quality.brain import DARK

CLOSED, AROUND = 2, 3
"""Voxels by which holes of the head are closed, and by which it is widened."""

_SECOND = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Difference of two Laplacians, blind to edges and slopes."""

_TO_SIGMA = 1 / (0.6745 * float(np.sqrt((_SECOND**2).sum())))
"""From the median of the absolute differences of Gaussian noise to its standard deviation."""

MOST_SNR = 10_000.0
"""Larger ratios, as of an image without any noise, are told as this."""

FULL = 0.1
"""Slices with fewer brain voxels, as a part of those of the largest one, are left out."""


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
        of neighbours, which edges hardly change; at most `MOST_SNR`; None without brain or signal.

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
    return signal / max(noise, signal / MOST_SNR) if signal > 0 else None


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


def measure_slices(image: np.ndarray, brain: np.ndarray, slices: int) -> float | None:
    """Compute how much the signal of a slice differs from that of its neighbours.

    Parameters
    ----------
    image, brain, slices
        As of `measure_snr`.

    Returns
    -------
    float or None
        Absolute difference between the median of the brain in a slice and the mean of those of both
        neighbours, over the median of the whole brain: the median over the slices. None if there
        are no three slices side by side, or no signal.
    """
    planes = [
        (plane[inside], int(inside.sum()))
        for plane, inside in zip(
            np.moveaxis(image, slices, 0), np.moveaxis(brain, slices, 0), strict=True
        )
    ]
    most = max(count for _, count in planes)
    if not most:
        return None
    signals = np.array(
        [np.median(values) if count >= FULL * most else np.nan for values, count in planes]
    )
    apart = abs(signals[1:-1] - (signals[:-2] + signals[2:]) / 2)
    apart = apart[np.isfinite(apart)]
    signal = float(np.median(image[brain]))
    return float(np.median(apart)) / signal if apart.size and signal > 0 else None
