"""Train on all participants but those of one fold, and score those; repeat."""

import argparse

from cascade_bids.cli.options import new_parser
from cascade_bids.cli.run.evaluate import evaluate_masks
from cascade_bids.cli.train_options import add_training, train_config


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "crossval", "Train on all participants but those of one fold, and score those; repeat."
    )
    add_training(parser)
    parser.add_argument(
        "--folds",
        default="loo",
        metavar="loo|source|N",
        help="leave one participant out, or one dataset, or make N folds of participants",
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Cross-validate the method, and score what was left out; return the exit code."""
    from cascade_bids.training.crossval import cross_validate

    config = train_config(options, options.method, options.contrasts)
    out = options.out.resolve()
    codes = []
    for source, predictions, references in cross_validate(config, options.folds, out):
        print(source)
        codes.append(evaluate_masks(predictions, references, out / source))
    return max(codes)
