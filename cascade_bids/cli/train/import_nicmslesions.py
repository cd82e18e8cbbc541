"""Turn a trained nicMSlesions model into a method."""

import argparse
from pathlib import Path

from cascade_bids.cli.options import add_verbose, new_parser
from cascade_bids.cli.train_options import require_different
from cascade_bids.config import CONTRASTS


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("import-nicmslesions", "Turn a trained nicMSlesions model into a method.")
    parser.add_argument("model_dir", type=Path, help="folder of model_1.hdf5 and model_2.hdf5")
    parser.add_argument("--name", required=True, help="what the method is to be called")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for weights and card (default: among those of the program)",
    )
    parser.add_argument(
        "--contrasts",
        nargs="+",
        choices=CONTRASTS,
        default=[],
        metavar="CONTRAST",
        help="channels, in the order of the training (default: T1w FLAIR)",
    )
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Import the model, and print the card; return the exit code."""
    from cascade_bids.models.architectures.nicmslesions import import_nicmslesions
    from cascade_bids.models.card import WEIGHTS_DIR

    require_different(options.contrasts)
    out = options.out or WEIGHTS_DIR
    print(import_nicmslesions(options.model_dir, options.name, out, contrasts=options.contrasts))
    return 0
