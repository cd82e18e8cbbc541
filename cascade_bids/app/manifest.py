"""A manifest of the compared sessions, for other programs."""

import logging
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd

from cascade_bids.app.read_stats import read_all
from cascade_bids.bids.change_outputs import change_paths, find_comparisons
from cascade_bids.bids.scan import Scan
from cascade_bids.files import write_text

logger = logging.getLogger(__name__)

MANIFEST = "longitudinal_manifest.tsv"
"""Name of the manifest, at the root of the derivatives."""


def write_manifest(output_dir: Path) -> None:
    """Write the manifest that lesiontrack, mscard and msdataqc read, or remove an outdated one.

    A row is a session with its images in common space. A session needs a T1w and a time, and a
    participant two of them; who has not is left out. Paths are relative to the manifest.

    Parameters
    ----------
    output_dir
        Root of the derivatives.

    Raises
    ------
    CascadeBidsError
        If it cannot be written.
    """
    rows: list[dict[str, Any]] = []
    # What is damaged is told with the table of changes.
    sessions, _ = read_all(find_comparisons(output_dir)[0], output_dir, partial(_list, output_dir))
    for subject, own in sessions:
        if len(own) > 1:
            rows += own
        else:
            logger.info("sub-%s is not in %s: it needs times and T1w images", subject, MANIFEST)
    target = output_dir / MANIFEST
    if rows:
        write_text(target, pd.DataFrame(rows).to_csv(sep="\t", index=False))
    else:
        target.unlink(missing_ok=True)


def _list(root: Path, subject: str, stats: Any) -> tuple[str, list[dict[str, Any]]]:
    """Return the rows of a participant; none if the time between two sessions is not known."""
    lengths = [interval["years"] for interval in stats["intervals"]]
    if not all(lengths):
        return subject, []
    times = [round(time, 4) for time in accumulate([0.0, *lengths])]
    rows = []
    for session, run, time in zip(stats["sessions"], stats["runs"], times, strict=True):
        paths = change_paths(root, Scan(subject, session.removeprefix("ses-"), run))
        if not paths["common_t1w"].exists():
            continue
        images = {
            column: paths[name].relative_to(root).as_posix()
            for column, name in {
                "t1": "common_t1w",
                "flair": "common_flair",
                "mask": "common_mask",
                "brainmask": "common_brain",
            }.items()
        }
        # msdataqc has other names for the session and its time.
        rows.append(
            {
                "subject": f"sub-{subject}",
                "session": session,
                "time_years": time,
                **images,
                "visit": session,
                "time": time,
            }
        )
    return subject, rows
