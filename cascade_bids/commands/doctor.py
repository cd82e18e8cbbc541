"""What checks an installation."""

import argparse


def run_doctor(options: argparse.Namespace) -> int:
    """Print what was checked; give 70 when something is wrong."""
    from rich.console import Console
    from rich.table import Table

    from cascade_bids.doctor import examine

    table = Table("what", "state", "found")
    findings = examine()
    for finding in findings:
        table.add_row(finding.what, "ok" if finding.is_well else "WRONG", finding.found)
    Console().print(table)
    return 0 if all(finding.is_well for finding in findings) else 70
