"""Find the scans of a dataset, of all participants or of those that are named."""

import sys
from pathlib import Path

from benchmarks.speed.probes import timed
from cascade_bids.bids.inputs import find_scans
from cascade_bids.config import InputConfig

config = InputConfig(bids_dir=Path(sys.argv[1]), participant_labels=tuple(sys.argv[2:]))
with timed() as found:
    found["scans"] = len(find_scans(config))
