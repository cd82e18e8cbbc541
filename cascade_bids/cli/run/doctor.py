"""Check the installation."""

import argparse

from cascade_bids.cli.options import add_verbose, new_parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "doctor", "Check the installation: packages, device, memory, weights, templates."
    )
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print what was checked; return 70 when something is wrong."""
    from rich.console import Console
    from rich.table import Table

    from cascade_bids.app.doctor import examine

    table = Table("what", "state", "found")
    findings = examine()
    for finding in findings:
        table.add_row(finding.what, "ok" if finding.is_well else "WRONG", finding.found)
    Console().print(table)
    return 0 if all(finding.is_well for finding in findings) else 70
