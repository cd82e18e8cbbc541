"""The parser of what checks an installation."""

import argparse

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
