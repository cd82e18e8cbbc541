"""What prepares and checks runs on clusters and in containers."""

import argparse

from cascade_bids.commands.folders import require_outside
from cascade_bids.config import InputConfig


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


def run_plan(options: argparse.Namespace) -> int:
    """List the participants who have a scan that is not complete."""
    from cascade_bids.bids.inputs import load_filters
    from cascade_bids.plan import find_unfinished
    from cascade_bids.report.page import write_whole

    if options.out is not None:
        require_outside("--out", options.out.resolve(), options.bids_dir.resolve())
    inputs = InputConfig(
        bids_dir=options.bids_dir.resolve(),
        participant_labels=tuple(options.participant_label),
        session_labels=tuple(options.session_label),
        filters=load_filters(options.bids_filter_file) if options.bids_filter_file else {},
        validate=not options.skip_bids_validation,
    )
    text = "".join(f"{label}\n" for label in find_unfinished(inputs, options.output_dir))
    if options.out is None:
        print(text, end="")
    else:
        write_whole(options.out, text)
    return 0
