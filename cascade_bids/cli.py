"""The command line: which command the arguments ask for, and its exit code."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files

from cascade_bids.arguments.app import (
    bids_app_parser,
    compare_parser,
    evaluate_parser,
    phantom_parser,
    plan_parser,
    segment_parser,
)
from cascade_bids.arguments.doctor import doctor_parser
from cascade_bids.arguments.training import (
    crossval_parser,
    finetune_parser,
    import_parser,
    join_parser,
    preview_parser,
    train_brain_parser,
    train_context_parser,
    train_parser,
)
from cascade_bids.commands.app import run_bids_app, run_plan, run_segment
from cascade_bids.commands.doctor import run_doctor
from cascade_bids.commands.evaluation import run_compare, run_evaluate, run_phantom
from cascade_bids.commands.training import (
    run_crossval,
    run_finetune,
    run_import,
    run_join,
    run_preview,
    run_train,
    run_train_brain,
    run_train_context,
)
from cascade_bids.errors import CascadeBidsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments ask for.

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
    if arguments and arguments[0] in COMMANDS:
        make_parser, run = COMMANDS[arguments.pop(0)]
        options = make_parser().parse_args(arguments)
    else:
        run = run_bids_app
        options = bids_app_parser(COMMANDS).parse_args(arguments)
    _prepare_process(options.verbose)
    try:
        code = run(options)
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
    # What a training tells now and then shall be seen without -v, and the rest with it.
    progress = logging.getLogger("cascade_bids.training.progress")
    progress.setLevel(max(level - 10, logging.DEBUG))


COMMANDS: dict[
    str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int]]
] = {
    "segment": (segment_parser, run_segment),
    "plan": (plan_parser, run_plan),
    "doctor": (doctor_parser, run_doctor),
    "train": (train_parser, run_train),
    "crossval": (crossval_parser, run_crossval),
    "finetune": (finetune_parser, run_finetune),
    "preview-training": (preview_parser, run_preview),
    "import-nicmslesions": (import_parser, run_import),
    "join": (join_parser, run_join),
    "train-brain": (train_brain_parser, run_train_brain),
    "train-context": (train_context_parser, run_train_context),
    "phantom": (phantom_parser, run_phantom),
    "compare-loads": (compare_parser, run_compare),
    "evaluate": (evaluate_parser, run_evaluate),
}
"""Commands beside the BIDS App: what they understand and what they do."""
