"""Train the brain extraction from scratch."""

import argparse
from pathlib import Path

from cascade_bids.cli.options import add_out, add_seed, add_verbose, new_parser
from cascade_bids.cli.train_options import add_work_dir


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("train-brain", "Train the brain extraction from scratch.")
    parser.add_argument("scans", type=Path, help="BIDS dataset of T1w heads with MUSE labels")
    parser.add_argument("label_maps", type=Path, help="folder of head*_dseg.nii.gz label maps")
    add_out(parser, "where the weights go")
    add_work_dir(parser)
    add_seed(parser)
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Train it, and print the card; return the exit code."""
    from cascade_bids.training.train_brain import train_brain

    card = train_brain(
        options.scans,
        options.label_maps,
        options.out,
        work_dir=options.work_dir,
        seed=options.random_seed,
    )
    print(card)
    return 0
