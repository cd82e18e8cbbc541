"""Find the participants that a run on a cluster still has to process."""

from os.path import lexists
from pathlib import Path

from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.results import read_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.config import InputConfig
from cascade_bids.errors import StartError
from cascade_bids.report.subject import FIGURES

_TOLD = 20
"""Most scans whose problems are printed."""


def find_unfinished(inputs: InputConfig, output_dir: Path | None) -> list[str]:
    """List the participants with a scan whose last run was not complete, or without a report.

    Parameters
    ----------
    inputs
        The dataset, and which of its images are used.
    output_dir
        Derivatives of earlier runs, which need not exist; None lists all participants.

    Returns
    -------
    list of str
        Labels without ``sub-``, in natural order. Participants with scans that cannot be processed
        are included, so that a run reports the reasons, if others can or the settings name them.

    Raises
    ------
    UsageError
        As of `cascade_bids.bids.inputs.find_scans`.
    StartError
        As well, and if no scan of the whole dataset can be processed.
    """

    def is_complete(scan: Scan) -> bool:
        if output_dir is None:
            return False
        # A task that was killed may have written only some of them.
        needed = [output_path(output_dir, scan, "figure", desc=name) for name in FIGURES]
        needed += [output_path(output_dir, scan, "stats"), output_dir / f"sub-{scan.subject}.html"]
        done = all(map(lexists, needed))  # a link, if it was not fetched
        return done and read_failure(output_dir, scan) is None

    scans = find_scans(inputs)
    problems = [f"  {scan.label}: {scan.problem}" for scan in scans if scan.problem is not None]
    if len(problems) == len(scans) and not inputs.participant_labels:
        rest = f"\n  … and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise StartError("no scan can be processed:\n" + "\n".join(problems[:_TOLD]) + rest)
    return list(dict.fromkeys(scan.subject for scan in scans if not is_complete(scan)))
