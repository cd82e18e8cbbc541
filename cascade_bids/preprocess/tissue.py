"""Tissue classification with antspyx."""

import contextlib
import tempfile
from collections.abc import Iterator

import ants
import numpy as np

from cascade_bids.errors import ScanError

CSF, GREY, WHITE = 1, 2, 3
"""Classes of `classify_tissue`, from dark to bright on T1w."""


def classify_tissue(t1w: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Classify brain voxels into three tissues by their T1w intensity.

    Atropos (Avants et al. 2011, doi 10.1007/s12021-011-9109-y) starts from k-means and smooths by a
    Markov random field. Intensities are clipped to the 1st and 99th percentiles, since a few very
    bright voxels of vessels or contrast agent would otherwise form a class of their own.

    Parameters
    ----------
    t1w
        (X, Y, Z) bias-corrected intensities.
    brain
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) uint8: 0 outside the brain, `CSF`, `GREY` or `WHITE` inside. Lesions are mostly
        classified as grey matter.

    Raises
    ------
    ScanError
        When the T1w has fewer than three intensities inside the brain.
    """
    inside = np.asarray(t1w, dtype=np.float32)[brain]
    low, high = np.percentile(inside, [1, 99]) if inside.size else (0, 0)
    if len(np.unique(np.clip(inside, low, high))) < 3:
        raise ScanError(
            "the T1w has no three tissues inside the brain; check that it is a head scan"
        )
    # Atropos treats 0 as background, and orders its classes by intensity.
    shifted = np.where(brain, np.clip(t1w, low, high) - low + 1, 0).astype(np.float32)
    with _temporary_files_removed():
        found = ants.atropos(
            a=ants.from_numpy(shifted),
            x=ants.from_numpy(brain.astype(np.float32)),
            i="kmeans[3]",
            m="[0.1,1x1x1]",
            c="[3,0]",
            # Without it, the seed comes from the clock and no two runs are alike.
            r=0,
        )
    return np.where(brain, found["segmentation"].numpy(), 0).astype(np.uint8)


@contextlib.contextmanager
def _temporary_files_removed() -> Iterator[None]:
    """Remove the temporary files that antspyx would leave behind."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
