"""The change table: what became of each lesion, and counts for each interval."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cascade_bids.change.track import Track

NEW, ENLARGED, STABLE, SHRUNK, GONE = CLASSES = ("new", "enlarged", "stable", "shrunk", "gone")
"""What became of a lesion between two sessions."""

COLUMNS = (
    "lesion",
    "session_id",
    "class",
    "volume_mm3",
    "change_mm3",
    "first_session",
    "last_session",
    "location",
    "split_from",
    "merged_into",
)
"""Columns of the change table, in order."""

MIN_CHANGE_PERCENT = 20.0
"""By how much a lesion must grow or shrink, in percent of its smaller volume."""


def classify(before_mm3: float, after_mm3: float, min_change_mm3: float) -> str:
    """Return what became of a lesion between two sessions.

    Parameters
    ----------
    before_mm3, after_mm3
        Its volume in both sessions, mm³; 0 where it is not.
    min_change_mm3
        Smallest change, mm³. A smaller one is none, and so is one of less than
        `MIN_CHANGE_PERCENT` of the smaller volume, unless the lesion is new or gone.

    Returns
    -------
    str
        One of `CLASSES`. Exchanging the volumes exchanges new and gone, and enlarged and shrunk.

    Examples
    --------
    >>> classify(0.0, 12.0, 3.0), classify(100.0, 110.0, 3.0), classify(100.0, 130.0, 3.0)
    ('new', 'stable', 'enlarged')
    """
    if not before_mm3:
        return NEW
    if not after_mm3:
        return GONE
    needed = max(min_change_mm3, MIN_CHANGE_PERCENT / 100 * min(before_mm3, after_mm3))
    if abs(after_mm3 - before_mm3) < needed:
        return STABLE
    return ENLARGED if after_mm3 > before_mm3 else SHRUNK


def change_table(
    track: Track,
    sessions: Sequence[str],
    *,
    voxel_mm3: float,
    min_change_mm3: float,
    locations: Mapping[int, str] | None,
) -> pd.DataFrame:
    """Build the change table: a row for each lesion in each session that it is seen in.

    A lesion that is gone, or has merged into another, has a row with the volume 0 in that session.
    Of lesions that merge, and of the parts of one that splits, the change of all of them together
    is that of the one that keeps its number; the others have no class.

    Parameters
    ----------
    track
        The lesions.
    sessions
        Names of the sessions, in the order of time.
    voxel_mm3
        Volume of a voxel, mm³.
    min_change_mm3
        For `classify`.
    locations
        Number of each lesion to where in the brain it lies; None if nothing is known of the
        orientation of the head.

    Returns
    -------
    DataFrame
        The columns `COLUMNS`, by lesion and time. In the first session there is no ``class`` and no
        ``change_mm3``.
    """
    size = int(track.labels.max(initial=0)) + 1
    volumes = np.array(
        [np.bincount(labels.ravel(), minlength=size) * voxel_mm3 for labels in track.labels]
    )
    rows = []
    for lesion in range(1, size):
        present = np.flatnonzero(volumes[:, lesion])
        if not present.size:  # an earlier run gave the number to what is no lesion any more
            continue
        fixed = {
            "lesion": lesion,
            "first_session": sessions[present[0]],
            "last_session": sessions[present[-1]],
            "location": None if locations is None else locations[lesion],
        }
        for number in range(present[0], len(sessions)):
            after = volumes[number, lesion]
            before = volumes[number - 1, lesion] if number else 0.0
            if after or before:
                change = _change(track, volumes, number, lesion, min_change_mm3)
                rows.append({**fixed, "session_id": sessions[number], **change})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"split_from": "Int64", "merged_into": "Int64"}
    )


def _change(
    track: Track, volumes: np.ndarray, number: int, lesion: int, min_change_mm3: float
) -> dict[str, Any]:
    """Return the entries of a lesion in a session that compare it with the session before."""
    splits, merges = track.split_from[number], track.merged_into[number]
    split_from, merged_into = splits.get(lesion), merges.get(lesion)
    entry: dict[str, Any] = {
        "volume_mm3": volumes[number, lesion],
        "split_from": split_from,
        "merged_into": merged_into,
        "class": None,
        "change_mm3": np.nan,
    }
    if number == 0 or split_from is not None or merged_into is not None:
        return entry
    parts = [part for part, whole in splits.items() if whole == lesion]
    joined = [part for part, whole in merges.items() if whole == lesion]
    before = volumes[number - 1, [lesion, *joined]].sum()
    after = volumes[number, [lesion, *parts]].sum()
    return entry | {
        "class": classify(before, after, min_change_mm3),
        "change_mm3": after - before,
    }


def summarise_intervals(
    table: pd.DataFrame, sessions: Sequence[str], years: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Summarise the change table for each interval between consecutive sessions.

    Parameters
    ----------
    table
        From `change_table`.
    sessions
        Names of the sessions, in the order of time.
    years
        Length of each interval; None if it is not known.

    Returns
    -------
    list of dict
        For each interval ``from``, ``to``, ``years``, and for each of `CLASSES` its ``count`` and
        ``change_ml``, by how much these lesions grew or, below 0, shrank; ``per_year`` has the same
        divided by the years, or is None.
    """
    intervals = []
    for (earlier, later), length in zip(pairwise(sessions), years, strict=True):
        rows = table[table["session_id"] == later]
        changes = {}
        for name in CLASSES:
            own = rows[rows["class"] == name]
            changes[name] = {
                "count": len(own),
                "change_ml": round(float(own["change_mm3"].sum()) / 1000, 4),
            }
        per_year = None
        if length:
            per_year = {
                name: {key: round(value / length, 4) for key, value in change.items()}
                for name, change in changes.items()
            }
        intervals.append(
            {"from": earlier, "to": later, "years": length, **changes, "per_year": per_year}
        )
    return intervals
