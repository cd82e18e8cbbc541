"""The entry point: which command the arguments name, and its exit code."""

import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from types import ModuleType

from cascade_bids.cli import bids_app, maintain, run, train
from cascade_bids.errors import CascadeBidsError

GROUPS: dict[str, ModuleType] = {"run": run, "train": train, "maintain": maintain}
"""Title of each group of commands in the help, and the folder with a file for each command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process when None.

    Returns
    -------
    int
        0 when all went well, 1 when a scan failed, 2 for wrong use, 70 when nothing could start.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    groups = {title: _find_commands(folder) for title, folder in GROUPS.items()}
    commands = {name: module for group in groups.values() for name, module in group.items()}
    if arguments and arguments[0] in commands:
        command = import_module(commands[arguments.pop(0)])
        parser = command.make_parser()
    else:
        command = bids_app
        parser = bids_app.make_parser(groups)
    options = parser.parse_args(arguments)
    _prepare_process(options.verbose)
    try:
        code: int = command.run(options)
    except CascadeBidsError as error:
        print(f"cascade-bids: error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print(
            "cascade-bids: interrupted; run again, and if both runs have the same --work-dir it "
            "goes on there",
            file=sys.stderr,
        )
        code = 130
    return code


def console() -> None:
    """Run `main` as the installed command ``cascade-bids``, in a process of its own."""
    # A batch job that is cancelled, or a container that is stopped, ends as tidily as at Ctrl-C.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())


def _find_commands(folder: ModuleType) -> dict[str, str]:
    """Return the commands of a folder: each name, and the module that holds it."""
    return {
        module.name.replace("_", "-"): f"{folder.__name__}.{module.name}"
        for module in pkgutil.iter_modules(folder.__path__)
    }


def _end(*_: object) -> None:
    """Interrupt what is done; told again, go on tidying up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _prepare_process(verbose: int) -> None:
    """Set what libraries read from the environment when they are imported or start a process."""
    # Registration repeats to the bit only with one thread; parallelism is across steps.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    # Nipype would ask the network for its newest version.
    os.environ["NO_ET"] = "1"
    # Its settings come with the package, so that a read-only home does no harm.
    os.environ["NIPYPE_CONFIG_DIR"] = str(files("cascade_bids") / "data" / "nipype")
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cascade_bids").setLevel(level)
    # The progress of a training is shown without -v, and the rest with it.
    progress = logging.getLogger("cascade_bids.training.progress")
    progress.setLevel(max(level - 10, logging.DEBUG))
