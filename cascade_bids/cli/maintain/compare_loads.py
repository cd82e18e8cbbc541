"""Print the loads found in phantoms beside the true ones."""

import argparse
from pathlib import Path

from cascade_bids.cli.options import add_verbose, new_parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("compare-loads", "Print the loads found in phantoms beside the true ones.")
    parser.add_argument("bids_dir", type=Path, help="dataset of cascade-bids phantom")
    parser.add_argument("output_dir", type=Path, help="derivatives of a participant run on it")
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the table; return the exit code."""
    from cascade_bids.phantom import compare_loads

    print(compare_loads(options.bids_dir, options.output_dir).round(3).to_string(index=False))
    return 0
