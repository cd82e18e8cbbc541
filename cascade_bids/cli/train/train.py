"""Train a method on labelled scans."""

import argparse

from cascade_bids.cli.options import new_parser
from cascade_bids.cli.train_options import add_training, train_config


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("train", "Train a method on labelled scans.")
    add_training(parser)
    parser.add_argument("--name", help="what the trained method is called (default: as --method)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Train the method, and print the card; return the exit code."""
    from cascade_bids.training.train import train_method

    config = train_config(options, options.method, options.contrasts)
    print(train_method(config, options.name or options.method, options.out))
    return 0
