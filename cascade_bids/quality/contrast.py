"""What the contrast of an image is: how fluid and cortex differ from white matter."""

import numpy as np

from cascade_bids.lesions.location import CORTEX, VENTRICLE, WHITE_MATTER

FEWEST = 20
"""Voxels of a region below which nothing is said of it."""

FLUID_PERCENTILE = {"FLAIR": 25, "T1w": 25, "T2w": 75}
"""Of the voxels where the atlas has ventricles. Where ventricles are small, about half of them show
other tissue, so that their median tells little of the fluid."""


def measure_contrast(
    image: np.ndarray, brain: np.ndarray, regions: np.ndarray, name: str
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
    name
        The contrast that the image should have.

    Returns
    -------
    dict
        ``fluid`` and ``cortex``: percentile (`FLUID_PERCENTILE`, or the median) in the lateral
        ventricles, and median in the cortex, less the median in the cerebral white matter, in
        z-scores. None where a region has too few voxels.
    """
    inside = {
        region: image[brain & (regions == region)] for region in (VENTRICLE, CORTEX, WHITE_MATTER)
    }
    white = inside[WHITE_MATTER]

    def beside_white(region: int, percentile: float = 50) -> float | None:
        values = inside[region]
        if min(len(values), len(white)) < FEWEST:
            return None
        return float(np.percentile(values, percentile) - np.median(white))

    return {
        "fluid": beside_white(VENTRICLE, FLUID_PERCENTILE.get(name, 50)),
        "cortex": beside_white(CORTEX),
    }
