"""Compare the sessions of a participant: from their images in common space to tracked lesions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.datasets import load_mni152_wm_template
from scipy import ndimage

from cascade_bids.change.detect import CRITERION, ChangeCriterion, find_changes
from cascade_bids.change.intensity import match_intensities
from cascade_bids.change.regions import Region, find_regions
from cascade_bids.change.states import judge_together
from cascade_bids.change.table import change_table
from cascade_bids.change.track import Track, track_lesions
from cascade_bids.errors import ScanError
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.lesions.location import load_atlas, locate_lesions
from cascade_bids.lesions.measure import voxel_volume_mm3
from cascade_bids.preprocess.resample import resample

WHITE_PROBABILITY = 0.6
"""From this probability of the template's white matter on, tissue is white matter."""

CLEAN_PROBABILITY = 0.05
"""From this lesion probability on, tissue does not look normal."""

AROUND_VOXELS = 2
"""Around what does not look normal, so much is left out too."""


@dataclass(frozen=True)
class Comparison:
    """What changed between the sessions."""

    track: Track
    """The lesions of each session, on the common grid."""
    table: pd.DataFrame
    """From `change.table.change_table`."""


def compare(
    flairs: np.ndarray,
    probabilities: np.ndarray,
    brain: np.ndarray,
    white: np.ndarray,
    point: OperatingPoint,
    *,
    earlier: np.ndarray,
    affine: np.ndarray,
    to_template: np.ndarray | None,
    sessions: Sequence[str],
    min_change_mm3: float,
) -> Comparison:
    """Compare the sessions of a participant.

    Parameters
    ----------
    flairs, probabilities, brain, white
        As of `measure_intervals`.
    point
        Operating point of the method that found the probabilities.
    earlier
        As of `change.track.track_lesions`.
    affine
        (4, 4) voxels of the common grid to its world.
    to_template
        (4, 4) that world to MNI152NLin2009aSym; None if nothing is known of the orientation of the
        head, and lesions have no location.
    sessions
        Names of the sessions, in the order of time.
    min_change_mm3
        Smallest change of a lesion, mm³.

    Returns
    -------
    Comparison
        Lesions with numbers, and what became of them.

    Raises
    ------
    ScanError
        If the sessions share no normal-appearing white matter.
    """
    voxel_mm3 = voxel_volume_mm3(affine)
    regions = measure_intervals(flairs, probabilities, brain, white)
    criterion = replace(CRITERION, min_mm3=min_change_mm3)
    states = find_states(regions, probabilities * brain, point, criterion, voxel_mm3=voxel_mm3)
    track = track_lesions(states, earlier)
    locations: dict[int, str] | None = None
    if to_template is not None:
        # Where a lesion is first seen.
        first = np.zeros(brain.shape, np.int32)
        locations = {}
        for labels in track.labels:
            first = np.where(np.isin(labels, list(locations)), 0, labels)
            locations |= locate_lesions(
                first, affine, atlas=load_atlas(), world_to_atlas=to_template
            )
    table = change_table(
        track,
        sessions,
        voxel_mm3=voxel_mm3,
        min_change_mm3=min_change_mm3,
        locations=locations,
    )
    return Comparison(track, table)


def measure_intervals(
    flairs: np.ndarray, probabilities: np.ndarray, brain: np.ndarray, white: np.ndarray
) -> list[list[Region]]:
    """Measure by how much what may be a lesion changed between consecutive sessions.

    Parameters
    ----------
    flairs
        (N, X, Y, Z) float z-scores on the common grid of 1 mm, in the order of time.
    probabilities
        (N, X, Y, Z) lesion probability.
    brain
        (X, Y, Z) bool, brain in all sessions.
    white
        (X, Y, Z) bool, where white matter is expected.

    Returns
    -------
    list of list of Region
        For each interval, from `change.regions.find_regions`.

    Raises
    ------
    ScanError
        If the sessions share no normal-appearing white matter.
    """
    likely = ndimage.binary_dilation(
        probabilities.max(axis=0) >= CLEAN_PROBABILITY, iterations=AROUND_VOXELS
    )
    normal = brain & ~likely
    try:
        matched = match_intensities(flairs, normal, normal & white, brain)
    except ValueError as error:
        raise ScanError(
            f"the sessions can't be compared: {error}; look at the images in common space"
        ) from error
    inside = probabilities * brain
    return [
        find_regions(images, maps, brain, normal, white)
        for images, maps in zip(pairwise(matched), pairwise(inside), strict=True)
    ]


def find_states(
    regions: Sequence[Sequence[Region]],
    probabilities: np.ndarray,
    point: OperatingPoint,
    criterion: ChangeCriterion = CRITERION,
    *,
    voxel_mm3: float,
) -> np.ndarray:
    """Find lesions in all sessions together, so that they differ where images and maps differ.

    Parameters
    ----------
    regions
        From `measure_intervals`.
    probabilities
        (N, X, Y, Z) lesion probability, 0 outside the brain.
    point
        Operating point of the method that found the probabilities.
    criterion
        What counts as change.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    numpy.ndarray
        (N, X, Y, Z) bool, lesion in each session.
    """
    changes = [
        find_changes(found, before, after, point.threshold, criterion, voxel_mm3=voxel_mm3)
        for found, (before, after) in zip(regions, pairwise(probabilities), strict=True)
    ]
    return judge_together(probabilities, changes, point, voxel_mm3=voxel_mm3)


def expected_white_matter(
    shape: Sequence[int], affine: np.ndarray, to_template: np.ndarray
) -> np.ndarray:
    """Find where the template has white matter.

    Parameters
    ----------
    shape, affine
        Shape and affine of the common grid.
    to_template
        (4, 4) world of that grid to MNI152NLin2009aSym.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool.
    """
    template: nib.Nifti1Image = load_mni152_wm_template(resolution=1)
    share = resample(template, tuple(shape), affine, to_template, order=1)
    return np.asarray(share.dataobj) >= WHITE_PROBABILITY
