"""When the sessions of a participant were acquired."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd
from bids.utils import natural_sort

logger = logging.getLogger(__name__)

DAYS_PER_YEAR = 365.25
"""For the length of intervals."""


@dataclass(frozen=True)
class SessionOrder:
    """The sessions of a participant in the order of time."""

    sessions: tuple[str, ...]
    """Their labels, without ``ses-``."""
    years: tuple[float | None, ...]
    """Length of each interval; None without times, or if it is less than a day."""
    source: str
    """What tells the order: the name of a table, or ``labels``."""


def order_sessions(bids_dir: Path, subject: str, sessions: Sequence[str]) -> SessionOrder:
    """Bring the sessions of a participant into the order of time.

    Times are the ``acq_time`` of ``sub-X_sessions.tsv``, else of the earliest anatomical image of
    each session in its ``scans.tsv``. If neither tells all of them, the order is that of the
    labels, in which ``ses-2`` comes before ``ses-10``.

    Parameters
    ----------
    bids_dir
        Root of the raw dataset.
    subject
        Label of the participant, without ``sub-``.
    sessions
        Labels of the sessions, without ``ses-``.

    Returns
    -------
    SessionOrder
        The sessions, the time between them, and what tells it.
    """
    folder = bids_dir / f"sub-{subject}"
    table = folder / f"sub-{subject}_sessions.tsv"
    listed = _read_times(table, "session_id")
    scans = {
        session: _read_times(
            folder / f"ses-{session}" / f"sub-{subject}_ses-{session}_scans.tsv", "filename"
        )
        for session in sessions
    }
    sources = {
        table.name: {one: listed.get(f"ses-{one}") for one in sessions},
        "scans.tsv": {
            one: min((time for name, time in scans[one].items() if "anat/" in name), default=None)
            for one in sessions
        },
    }
    for source, times in sources.items():
        known = {session: time for session, time in times.items() if time is not None}
        if len(known) == len(sessions):
            ordered = sorted(natural_sort(sessions), key=lambda one: known[one])
            days = [(known[b] - known[a]).total_seconds() / 86400 for a, b in pairwise(ordered)]
            years = tuple(round(day / DAYS_PER_YEAR, 4) if day >= 1 else None for day in days)
            return SessionOrder(tuple(ordered), years, source)
    ordered = natural_sort(sessions)
    return SessionOrder(tuple(ordered), (None,) * (len(ordered) - 1), "labels")


def _read_times(path: Path, key: str) -> dict[str, datetime]:
    """Read the acquisition times of a table; what has none, or an odd one, is left out."""
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, encoding="utf-8-sig")
        rows = list(zip(table[key], table["acq_time"], strict=True))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s tells no acquisition times (%s)", path, error)
        return {}
    times = {}
    for name, text in rows:
        try:
            time = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            continue
        # Some have a time zone and some do not; days matter, not hours.
        times[str(name)] = time.replace(tzinfo=None)
    return times
