"""``python -m tests.faults.one_process``: the program with quick stand-ins, in its own process."""

import sys

from nipype.pipeline.plugins import LinearPlugin

from cascade_bids.cli.main import main
from cascade_bids.workflows import execution

from .heads import quick

if __name__ == "__main__":
    execution.WorkersPlugin = lambda arguments: LinearPlugin(plugin_args=arguments)  # type: ignore[misc,assignment]
    with quick():
        sys.exit(main())
