"""Find the voxels that became lesion, and those that were, from regions whose signal changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cascade_bids.change.regions import Region, Source
from cascade_bids.lesions.label import min_voxels


@dataclass(frozen=True)
class ChangeCriterion:
    """What counts as change of a region."""

    strength: float
    """Smallest difference of its signal, in units of the noise."""
    part: float
    """Largest signal in one session as a part of that in the other."""
    peak: float
    """Lesion probability that one of its voxels reaches in the session with the stronger signal."""
    min_mm3: float
    """Smallest volume of the change."""


CRITERION = ChangeCriterion(5.0, 0.8, 0.2, 3.0)
"""Chosen by the scores of `benchmarks.change fit`."""

NEW_PART = 0.5
"""With a smaller part of the signal there was no lesion yet, or there is none any more."""


class Changes(NamedTuple):
    """What changed between two sessions, (X, Y, Z) bool each."""

    appeared: np.ndarray
    """Lesion in the later session alone."""
    gone: np.ndarray
    """Lesion in the earlier session alone."""
    lasting: np.ndarray
    """Lesion in both, in a region that grew or shrank."""


def find_changes(
    regions: Sequence[Region],
    before: np.ndarray,
    after: np.ndarray,
    threshold: float,
    criterion: ChangeCriterion,
    *,
    voxel_mm3: float,
) -> Changes:
    """Find what changed between two sessions.

    Of regions that overlap, the one that changed most clearly counts. In the session with the
    stronger signal it is lesion where the probability reaches the threshold or half of its highest
    one; all of it is if images alone show it. In the other session, as large a part is lesion as
    the signal is a part of the stronger one, where it is most probable. Below `NEW_PART` there are
    only the voxels that are lesion by the session's own map.

    Parameters
    ----------
    regions
        From `change.regions.find_regions`.
    before, after
        (X, Y, Z) lesion probability in both sessions.
    threshold
        Lowest probability of a lesion voxel.
    criterion
        What counts as change.
    voxel_mm3
        Volume of a voxel, mm³.

    Returns
    -------
    Changes
        Exchanging the sessions exchanges what appeared and what is gone.
    """
    appeared, gone, lasting = (np.zeros(before.shape, bool) for _ in range(3))
    taken = np.zeros(before.shape, bool)
    for region in sorted(regions, key=_rank):
        voxels = region.voxels
        if abs(region.strength) < criterion.strength or region.part > criterion.part:
            continue
        is_up = region.strength > 0
        faint, strong = (before, after) if is_up else (after, before)
        faint, strong = faint[region.box][voxels], strong[region.box][voxels]
        is_seen = region.source is Source.IMAGE or strong.max() >= criterion.peak
        if not is_seen or taken[region.box][voxels].any():
            continue
        drawn = np.ones(faint.size, bool)
        if region.source is not Source.IMAGE:
            # To half its height, as far as it is no lesion by the threshold.
            drawn = strong >= min(threshold, strong.max() / 2)
        if region.part < NEW_PART or region.source is not Source.LESION:
            stays = drawn & (faint >= threshold)
        else:
            stays = np.zeros(faint.size, bool)
            order = np.lexsort((-strong, -faint, ~drawn))
            stays[order[: round(region.part * np.count_nonzero(drawn))]] = True
        changed = drawn & ~stays
        if np.count_nonzero(changed) < min_voxels(criterion.min_mm3, voxel_mm3):
            continue
        taken[region.box][voxels] = True
        (appeared if is_up else gone)[region.box][voxels] = changed
        lasting[region.box][voxels] = stays
    return Changes(appeared, gone, lasting)


def _rank(region: Region) -> tuple[bool, int, float]:
    """Order regions: new and gone ones first, then whole lesions, then the clearest change."""
    return region.part >= NEW_PART, list(Source).index(region.source), -abs(region.strength)
