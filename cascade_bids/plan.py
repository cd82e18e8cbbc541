"""Which participants a run on a cluster still has to process."""

from pathlib import Path

from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import InputConfig
from cascade_bids.report.subject import FIGURES


def find_unfinished(inputs: InputConfig, output_dir: Path | None) -> list[str]:
    """List the participants who have a scan without lesion statistics or figures, or no report.

    Parameters
    ----------
    inputs
        The dataset, and what to take of it.
    output_dir
        Derivatives of earlier runs, which need not exist; None for all participants.

    Returns
    -------
    list of str
        Labels without ``sub-``, in natural order. Scans that can't be processed count too, so that
        a run names what stands in their way.

    Raises
    ------
    UsageError, StartError
        As of `cascade_bids.bids.inputs.find_scans`.
    """

    def is_complete(scan: Scan) -> bool:
        if output_dir is None:
            return False
        # A task that was killed may have left some of them without the others.
        needed = [output_path(output_dir, scan, "figure", desc=name) for name in FIGURES]
        needed += [output_path(output_dir, scan, "stats"), output_dir / f"sub-{scan.subject}.html"]
        return all(path.exists() for path in needed)

    scans = find_scans(inputs)
    return list(dict.fromkeys(scan.subject for scan in scans if not is_complete(scan)))
