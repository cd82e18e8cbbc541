"""Read what the derivatives tell of the comparison of a participant's sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cascade_bids.app.read_stats import count, number, read_all, signed
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.results import read_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.change.table import CLASSES, STABLE
from cascade_bids.report.change import ChangeReport

SETTINGS = ("min_change_mm3", "min_change_percent", "version")
"""Settings that must be equal in all comparisons for their changes to be comparable."""


@dataclass(frozen=True)
class Comparison:
    """The content of a ``…_desc-change_stats.json``."""

    sessions: tuple[str, ...]
    """Names of the sessions, in the order of time."""
    order: str
    """What tells the order: the name of a table, or ``labels``."""
    warnings: tuple[str, ...]
    """What to look at before the numbers are used."""
    intervals: tuple[dict[str, Any], ...]
    """Columns of ``changes.tsv`` besides ``participant_id`` for each interval."""
    settings: dict[str, str]
    """Those of `SETTINGS`."""


def parse_comparison(stats: Mapping[str, Any]) -> Comparison:
    """Check and convert the statistics of a comparison.

    Parameters
    ----------
    stats
        Content of the file.

    Returns
    -------
    Comparison
        What they tell.

    Raises
    ------
    ValueError, TypeError, KeyError
        If the file is damaged.
    """
    sessions = tuple(str(name) for name in stats["sessions"])
    about = {"method": str(stats["method"]), "version": str(stats["version"])}
    intervals = tuple({**_interval(interval), **about} for interval in stats["intervals"])
    ends = [(interval["session_from"], interval["session_to"]) for interval in intervals]
    if not ends or ends != list(pairwise(sessions)):
        raise ValueError("its intervals are not those between its sessions")
    return Comparison(
        sessions,
        str(stats["order"]),
        tuple(str(warning) for warning in stats["warnings"]),
        intervals,
        {name: str(stats[name]) for name in SETTINGS},
    )


def report_change(root: Path, scan: Scan) -> ChangeReport | None:
    """Read what the page of a participant shows of the comparison of its sessions.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        A scan of the participant.

    Returns
    -------
    ChangeReport or None
        The numbers, or why there are none; None if the sessions were not to be compared.
    """
    if scan.session is None:
        return None
    subject = Scan(scan.subject, None, None)
    cause = read_failure(root, subject)
    problems = [] if cause is None else [f"The last comparison {cause.rstrip('.')}."]
    path = output_path(root, subject, "change_stats")
    found = [(None, path)] if path.exists() or path.is_symlink() else []
    parsed, damaged = read_all(found, root, lambda _, stats: parse_comparison(stats))
    problems += damaged
    if parsed:
        comparison, table = parsed[0], output_path(root, subject, "change_table")
        return ChangeReport(
            comparison.intervals, comparison.order, comparison.warnings, table, problems
        )
    return ChangeReport(problems=problems) if problems else None


def _interval(interval: Mapping[str, Any]) -> dict[str, Any]:
    row = {
        "session_from": interval["from"],
        "session_to": interval["to"],
        "years": number(interval["years"]),
    }
    for name in CLASSES:
        row[f"{name}_count"] = int(count(interval[name]["count"]))
        if name != STABLE:
            row[f"{name}_ml"] = signed(interval[name]["change_ml"])
    # It is null without times.
    per_year = interval["per_year"]
    for name in CLASSES:
        if name != STABLE:
            row[f"{name}_per_year"] = number(per_year and per_year[name]["count"])
            row[f"{name}_ml_per_year"] = signed(per_year and per_year[name]["change_ml"])
    return row
