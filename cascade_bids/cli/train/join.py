"""Make one method of several, which takes the mean of their probabilities."""

import argparse
import sys

from cascade_bids.cli.options import add_out, add_verbose, new_parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "join", "Make one method of several, which takes the mean of their probabilities."
    )
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="names, or cards (….json)")
    parser.add_argument("--name", required=True, help="what the joined method is called")
    add_out(parser, "where the weights go")
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Join the methods, and print the card; return the exit code."""
    from cascade_bids.models.join import join_methods

    print(join_methods(options.methods, options.name, options.out))
    print(
        "temperature and operating point are those of the first; loads have no interval and "
        "lesions no confidence, since nobody calibrated the mean",
        file=sys.stderr,
    )
    return 0
