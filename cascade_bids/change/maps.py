"""Draw what changed, voxel by voxel."""

import numpy as np
import pandas as pd

from cascade_bids.change.table import CLASSES, ENLARGED, GONE, NEW, SHRUNK, STABLE
from cascade_bids.change.track import Track

VALUES = {name: value for value, name in enumerate(CLASSES, start=1)}
"""Class to its value in a change map; 0 is no lesion."""


def change_map(track: Track, table: pd.DataFrame, sessions: list[str], later: int) -> np.ndarray:
    """Draw the change in one interval.

    Parameters
    ----------
    track
        The lesions.
    table
        From `change.table.change_table`.
    sessions
        Names of the sessions, in the order of time.
    later
        Number of the session that ends the interval, from 1.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) uint8, `VALUES`: all of a new or gone lesion, of an enlarged one what was not
        lesion before, of a shrunk one what is lesion no more. The rest of these, and lesions
        without change, are stable.
    """
    before, after = track.labels[later - 1], track.labels[later]
    rows = table[(table["session_id"] == sessions[later]) & table["class"].notna()]
    names = np.zeros(int(track.labels.max(initial=0)) + 1, np.uint8)
    names[rows["lesion"]] = rows["class"].map(VALUES)
    for others in (track.split_from[later], track.merged_into[later]):
        for part, whole in others.items():
            names[part] = names[whole]
    was, is_ = names[before], names[after]
    drawn = np.where(after > 0, VALUES[STABLE], 0).astype(np.uint8)
    drawn[is_ == VALUES[NEW]] = VALUES[NEW]
    drawn[(is_ == VALUES[ENLARGED]) & (before == 0)] = VALUES[ENLARGED]
    drawn[(was == VALUES[SHRUNK]) & (after == 0)] = VALUES[SHRUNK]
    drawn[was == VALUES[GONE]] = VALUES[GONE]
    return drawn
