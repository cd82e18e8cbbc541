"""Which participants a run on a cluster still has to process."""

from pathlib import Path

from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import output_path
from cascade_bids.config import InputConfig


def find_unfinished(inputs: InputConfig, output_dir: Path | None) -> list[str]:
    """List the participants who have a scan without lesion statistics.

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
    return list(
        dict.fromkeys(
            scan.subject
            for scan in find_scans(inputs)
            if output_dir is None or not output_path(output_dir, scan, "stats").exists()
        )
    )
