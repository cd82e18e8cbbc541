"""Options and types that several commands share."""

import argparse
import math
from pathlib import Path

from cascade_bids.machine import usable_cores


def add_choice(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add which participants and sessions are taken."""
    choose = parser.add_argument_group("which images")
    choose.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="participants to process, with or without sub- (default: all)",
    )
    choose.add_argument(
        "--session-label",
        "--session_label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    return choose


def add_filters(choose: argparse._ArgumentGroup) -> None:
    """Add what narrows or widens which images are found."""
    choose.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON that narrows the images, e.g. {"flair": {"acquisition": "3d"}}',
    )
    choose.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="also index files whose names BIDS does not know",
    )


def add_preparation(how: argparse._ArgumentGroup) -> None:
    """Add how scans are prepared."""
    how.add_argument(
        "--skull-strip",
        choices=("auto", "skip"),
        default="auto",
        help="auto: extract the brain; skip: the images show only brain (default: %(default)s)",
    )
    how.add_argument(
        "--random-seed",
        type=not_negative,
        default=0,
        metavar="N",
        help="seed of all that is random (default: %(default)s)",
    )


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what a run may use of the machine."""
    cores = usable_cores()
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where networks run; auto takes a GPU where there is one (default: %(default)s)",
    )
    machine.add_argument(
        "--nprocs",
        type=positive,
        default=cores,
        metavar="N",
        help=f"steps that run at the same time (default: all cores, here {cores})",
    )
    machine.add_argument(
        "--omp-nthreads",
        type=positive,
        metavar="N",
        help="threads of one step (default: as --nprocs)",
    )
    add_verbose(machine)
    return machine


def add_verbose(parser: argparse._ActionsContainer) -> None:
    """Add how much is told."""
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="tell each step (-vv: everything)"
    )


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole_number(text, at_least=1)


def not_negative(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole_number(text, at_least=0)


def minutes(text: str) -> float:
    """Read a number of minutes above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return number


def _whole_number(text: str, at_least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = at_least - 1
    if number < at_least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {at_least}")
    return number
