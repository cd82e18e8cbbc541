"""Write a BIDS dataset of phantoms with known lesions."""

import argparse
from pathlib import Path

from cascade_bids.cli.options import add_seed, add_verbose, new_parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("phantom", "Write a BIDS dataset of phantoms with known lesions.")
    parser.add_argument("out", type=Path, metavar="DIR", help="new or empty folder")
    add_seed(parser)
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Write the dataset; return the exit code."""
    from cascade_bids.phantom import write_phantom

    for scan in write_phantom(options.out, seed=options.random_seed):
        print(f"{scan.label}: {len(scan.lesions)} lesions, {scan.load_ml:.2f} ml")
    return 0
