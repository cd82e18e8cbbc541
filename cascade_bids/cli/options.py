"""Options and types that several commands share."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade_bids.machine import usable_cores

RESEARCH_ONLY = "For research only: not a medical device."


def new_parser(
    command: str, description: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of a command; every option has one line in its help."""
    return argparse.ArgumentParser(
        prog=f"cascade-bids {command}".strip(),
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=_OneLine,
    )


class _OneLine(argparse.RawDescriptionHelpFormatter):
    """Keeps an option, its value and its help on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # The spelling with an underscore need not be shown, nor the value after each spelling.
        if not action.option_strings:
            return super()._format_action_invocation(action)
        shown = [text for text in action.option_strings if "_" not in text]
        value = ""
        if action.nargs != 0:
            default = self._get_default_metavar_for_optional(action)
            name = self._metavar_formatter(action, default)(1)[0]
            value = f" {name} …" if action.nargs == "+" else f" {name}"
        return ", ".join(shown) + value


class RenamedOption(argparse.Action):
    """Takes an old spelling of an option, with a notice of the new one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print the notice, and store the value as the new option does."""
        new = "--" + self.dest.replace("_", "-")
        print(f"cascade-bids: {option_string} is called {new} now", file=sys.stderr)
        setattr(namespace, self.dest, values)


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
        help="with or without sub- (default: all)",
    )
    choose.add_argument(
        "--session-label",
        "--session_label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="with or without ses- (default: all)",
    )
    return choose


def add_preparation(how: argparse._ArgumentGroup) -> None:
    """Add how scans are prepared."""
    how.add_argument(
        "--skull-strip",
        choices=("auto", "skip"),
        default="auto",
        help="skip: images show brain only (default: auto)",
    )
    add_seed(how)


def add_seed(parser: argparse._ActionsContainer) -> None:
    """Add the seed of random numbers."""
    parser.add_argument(
        "--random-seed",
        type=not_negative,
        default=0,
        metavar="N",
        help="seed of random numbers (default: %(default)s)",
    )


def add_machine(
    parser: argparse.ArgumentParser, threads: str = "as --nprocs"
) -> argparse._ArgumentGroup:
    """Add what a run may use of the machine; `threads` says how many a step has by default."""
    cores = usable_cores()
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="of networks; auto: a GPU if there is one",
    )
    machine.add_argument(
        "--nprocs",
        type=positive,
        default=cores,
        metavar="N",
        help=f"cores of all steps together (default: {cores}, all)",
    )
    machine.add_argument(
        "--omp-nthreads",
        type=positive,
        metavar="N",
        help=f"of one step (default: {threads})",
    )
    add_verbose(machine)
    return machine


def add_verbose(parser: argparse._ActionsContainer) -> None:
    """Add how much is logged."""
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log each step (-vv: everything)"
    )


def add_out(parser: argparse._ActionsContainer, what: str) -> None:
    """Add where new files go."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole_number(text, at_least=1)


def not_negative(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole_number(text, at_least=0)


def minutes(text: str) -> float:
    """Return a number of minutes above 0."""
    return _number_above_0(text, "minutes")


def gigabytes(text: str) -> float:
    """Return a number of GB above 0."""
    return _number_above_0(text, "GB")


def probability(text: str) -> float:
    """Return a probability above 0."""
    number = _number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability above 0 and up to 1")
    return number


def volume(text: str) -> float:
    """Return a volume in mm³, at least 0."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no volume in mm³")
    return number


def _number_above_0(text: str, unit: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of {unit} above 0; give the number alone"
        )
    return number


def _number(text: str) -> float:
    """Return a number, or NaN where there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _whole_number(text: str, at_least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = at_least - 1
    if number < at_least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {at_least}")
    return number
