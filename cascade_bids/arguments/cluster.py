"""The parsers of what prepares and checks runs on clusters and in containers."""

import argparse
from pathlib import Path

from cascade_bids.arguments.app import add_run_options
from cascade_bids.arguments.shared import add_verbose


def doctor_parser() -> argparse.ArgumentParser:
    """Make the parser that checks an installation."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids doctor",
        description="Check the installation: packages, device, memory, weights, templates.",
    )
    add_verbose(parser)
    return parser


def plan_parser() -> argparse.ArgumentParser:
    """Make the parser that lists whom a run has to process."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids plan",
        description="List the participants of a dataset, one a line, for the tasks of an array "
        "job; those whose scans are complete in OUTPUT_DIR are left out. Takes the options of a "
        "run, so that what is wrong with them is told before the job waits.",
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("output_dir", type=Path, nargs="?", help="derivatives of earlier runs")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the list here (default: print it)"
    )
    add_run_options(parser)
    return parser
