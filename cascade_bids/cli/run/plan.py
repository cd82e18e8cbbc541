"""List the participants who are not complete, for the tasks of an array job."""

import argparse
from pathlib import Path

from cascade_bids.cli.folders import require_outside
from cascade_bids.cli.options import new_parser
from cascade_bids.cli.run_options import (
    add_dataset_options,
    check_folders,
    read_inputs,
    read_method,
    read_plugin_file,
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "plan",
        "List the participants of a dataset, one a line, for the tasks of an array job; those\n"
        "whose scans are complete in OUTPUT_DIR are left out. Takes the options of a run, so\n"
        "that what is wrong with them is found before the job waits.",
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("output_dir", type=Path, nargs="?", help="derivatives of earlier runs")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the list here (default: print it)"
    )
    add_dataset_options(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """List the participants who have a scan that is not complete; return the exit code."""
    output_dir = options.output_dir
    check_folders(options)
    if options.out is not None:
        require_outside("--out", options.out.resolve(), options.bids_dir.resolve())
    from cascade_bids.app.participant import load_cards
    from cascade_bids.app.plan import find_unfinished
    from cascade_bids.bids.outputs import read_ours
    from cascade_bids.files import write_text

    if output_dir is not None:
        read_ours(output_dir)
    read_plugin_file(options)
    load_cards(read_method(options))
    text = "".join(f"{label}\n" for label in find_unfinished(read_inputs(options), output_dir))
    if options.out is None:
        print(text, end="")
    else:
        write_text(options.out, text)
    return 0
