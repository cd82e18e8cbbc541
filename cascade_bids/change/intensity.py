"""Match the intensities of several sessions of one head."""

import numpy as np
from scipy import ndimage

SMOOTH_MM = 2.0
"""Standard deviation of the filter that takes the noise out before contrasts are compared."""

SHADING_MM = 20.0
"""Standard deviation of the filter beyond which differences are shading and not change."""

CLIP = 2.5
"""Differences above so many robust standard deviations count as so many for the shading, so that a
lesion is none."""


def match_intensities(
    flairs: np.ndarray, normal: np.ndarray, white: np.ndarray, brain: np.ndarray
) -> np.ndarray:
    """Bring the FLAIRs of several sessions to one scale, and even out the shading between them.

    Offsets are those of the normal-appearing white matter, scales those of the contrast between the
    normal-appearing tissues. The standard deviation inside white matter would not do as a scale,
    since it is mostly noise. What differs slowly from the mean of the sessions is shading, and is
    removed.

    Parameters
    ----------
    flairs
        (N, X, Y, Z) float intensities on one grid of 1 mm, 0 outside the brain.
    normal, white
        (X, Y, Z) bool, normal-appearing tissue, and the white matter of it.
    brain
        (X, Y, Z) bool, brain in all sessions.

    Returns
    -------
    numpy.ndarray
        (N, X, Y, Z) float32, 0 outside the brain: 0 in normal-appearing white matter, and 1 is the
        standard deviation between normal-appearing tissues.

    Raises
    ------
    ValueError
        If there is no normal-appearing white matter, or an image is constant.
    """
    if not white.any():
        raise ValueError("no white matter looks normal in all sessions")
    matched = np.asarray(flairs, np.float32)
    # Shading widens the contrast, so scales are measured again without it.
    for _ in range(2):
        matched = np.stack([_scale(one, normal, white, brain) for one in matched])
        mean = matched.mean(axis=0)
        for one in matched:
            difference = one - mean
            limit = CLIP * robust_deviation(difference[normal])
            shading = _blur(np.clip(difference, -limit, limit), normal, SHADING_MM)
            one -= np.where(brain, shading, 0)
    return matched


def _scale(
    flair: np.ndarray, normal: np.ndarray, white: np.ndarray, brain: np.ndarray
) -> np.ndarray:
    """Give normal-appearing white matter the median 0, and normal-appearing tissue the spread 1."""
    spread = float(_blur(flair, brain, SMOOTH_MM)[normal].std())
    if not spread > 0:
        raise ValueError("an image is constant in normal-appearing tissue")
    return np.where(brain, (flair - np.median(flair[white])) / spread, 0).astype(np.float32)


def robust_deviation(values: np.ndarray) -> float:
    """Compute the standard deviation of normal numbers around 0 from their median magnitude."""
    return float(np.median(np.abs(values)) / 0.6745) if values.size else 0.0


def _blur(image: np.ndarray, where: np.ndarray, sigma: float) -> np.ndarray:
    """Blur an image from the voxels of a mask alone (normalised convolution)."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma, mode="constant")
    values = ndimage.gaussian_filter(
        np.where(where, image, 0).astype(np.float32), sigma, mode="constant"
    )
    return values / np.maximum(weight, 1e-4)
