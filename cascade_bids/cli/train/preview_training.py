"""Draw a sheet of the scans that a training learns from."""

import argparse

from cascade_bids.cli.options import new_parser, positive
from cascade_bids.cli.train_options import add_training, train_config


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "preview-training", "Draw a sheet of the scans that a training learns from."
    )
    add_training(parser)
    parser.add_argument("--samples", type=positive, default=8, metavar="N", help="(default: 8)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Draw the sheet, and print its path; return the exit code."""
    from cascade_bids.training.preview import preview

    config = train_config(options, options.method, options.contrasts)
    print(preview(config, options.samples, options.out))
    return 0
