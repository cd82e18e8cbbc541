"""Measure the noise between the images of two sessions."""

import numpy as np
from scipy import ndimage
from scipy.stats import norm

SIDES = (1, 2, 3, 4, 6, 8, 11, 15)
"""Sides of the cubes in which noise is measured, voxels."""

QUANTILES = (0.5, 0.99, 0.999)
"""Of the magnitudes of noise, that it is measured by."""

FULL = 0.95
"""Part of a cube that is normal-appearing tissue."""

LEAST = 1e-3
"""Smallest noise, as a part of the contrast between normal tissues: a file may be given twice."""


def heavy_deviation(values: np.ndarray) -> float:
    """Compute the standard deviation of normal numbers whose tails are as heavy as those of values.

    Turned slices, pulsing vessels and rests of motion make differences at few places that are far
    larger than most: there the median alone would promise too little noise.

    Parameters
    ----------
    values
        (N,) float, noise around 0.

    Returns
    -------
    float
        At least `LEAST`, and not a number without values.
    """
    if not values.size:
        return np.nan
    expected = norm.ppf((1 + np.array(QUANTILES)) / 2)
    return max(float(np.max(np.quantile(np.abs(values), QUANTILES) / expected)), LEAST)


class RegionNoise:
    """How much the mean over a region differs between sessions where nothing changed."""

    def __init__(
        self, difference: np.ndarray, normal: np.ndarray, white: np.ndarray, *, shell: int
    ) -> None:
        """Measure it in cubes of normal-appearing white matter, against the shell around each.

        Parameters
        ----------
        difference
            (X, Y, Z) float, difference of the matched images.
        normal, white
            (X, Y, Z) bool, normal-appearing tissue, and the white matter of it, of which there is
            some.
        shell
            Thickness of the shell, voxels.
        """
        values = np.where(normal, difference, 0).astype(np.float32)
        share = normal.astype(np.float32)
        found = [_measure(values, share, white, side, shell) for side in SIDES]
        # In a small head no large cube fits. Means over more voxels are less noisy.
        found[0] = heavy_deviation(difference[white]) if np.isnan(found[0]) else found[0]
        for number in range(1, len(found)):
            if np.isnan(found[number]):
                found[number] = found[number - 1]
        self._deviations = found

    def __call__(self, voxels: float) -> float:
        """Return the standard deviation for a region of so many voxels."""
        return float(np.interp(np.cbrt(voxels), SIDES, self._deviations))


def _measure(
    values: np.ndarray, share: np.ndarray, white: np.ndarray, side: int, shell: int
) -> float:
    outer = side + 2 * shell
    inside, in_share = (ndimage.uniform_filter(one, side) * side**3 for one in (values, share))
    around, out_share = (ndimage.uniform_filter(one, outer) * outer**3 for one in (values, share))
    around, out_share = around - inside, out_share - in_share
    whole = white & (in_share > FULL * side**3) & (out_share > (outer**3 - side**3) / 2)
    return heavy_deviation(inside[whole] / in_share[whole] - around[whole] / out_share[whole])
