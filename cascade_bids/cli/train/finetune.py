"""Adapt a method to the scanner of a few labelled scans."""

import argparse

from cascade_bids.cli.options import new_parser
from cascade_bids.cli.train_options import add_labelled, train_config


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "finetune", "Adapt a method to a scanner on as little as one labelled scan."
    )
    how = add_labelled(parser)
    how.add_argument("--from", dest="source", required=True, metavar="METHOD", help="name or card")
    parser.add_argument("--name", required=True, help="what the adapted method is called")
    return parser


def run(options: argparse.Namespace) -> int:
    """Adapt the method, and print the card; return the exit code."""
    from cascade_bids.models.card import load_card
    from cascade_bids.training.finetune import finetune

    card = load_card(options.source)
    config = train_config(options, card.name, card.contrasts)
    print(finetune(config, card, options.name, options.out))
    return 0
