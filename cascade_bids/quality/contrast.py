"""What the contrast of an image is: how fluid and cortex differ from white matter."""

import numpy as np

from cascade_bids.lesions.location import CORTEX, VENTRICLE, WHITE_MATTER

FEWEST = 20
"""Voxels of a region below which nothing is said of it."""


def measure_contrast(
    image: np.ndarray, brain: np.ndarray, regions: np.ndarray
) -> dict[str, float | None]:
    """Measure how bright fluid and cortex are beside white matter.

    Parameters
    ----------
    image : (X, Y, Z) float array
        Normalised, as of `cascade_bids.preprocess.normalise.normalise_intensity`.
    brain : (X, Y, Z) bool array
        The brain mask.
    regions : (X, Y, Z) int array
        Labels of `cascade_bids.lesions.location.load_atlas`, laid over the brain.

    Returns
    -------
    dict
        ``fluid`` and ``cortex``: median in the lateral ventricles and in the cortex, less that in
        the cerebral white matter, in z-scores. None where a region has too few voxels.
    """
    inside = {
        region: image[brain & (regions == region)] for region in (VENTRICLE, CORTEX, WHITE_MATTER)
    }
    white = inside[WHITE_MATTER]

    def beside_white(region: int) -> float | None:
        values = inside[region]
        if min(len(values), len(white)) < FEWEST:
            return None
        return float(np.median(values) - np.median(white))

    return {"fluid": beside_white(VENTRICLE), "cortex": beside_white(CORTEX)}
