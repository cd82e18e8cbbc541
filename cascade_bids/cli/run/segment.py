"""Find the lesions of one patient, without BIDS."""

import argparse
from pathlib import Path

from cascade_bids.cli.folders import written_folders
from cascade_bids.cli.options import RESEARCH_ONLY, add_out, new_parser
from cascade_bids.cli.run_options import add_processing, participant_config, print_outcomes
from cascade_bids.config import CONTRASTS, InputConfig


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("segment", "Find the lesions of one patient, without BIDS.", RESEARCH_ONLY)
    for contrast in CONTRASTS:
        parser.add_argument(
            f"--{contrast.lower()}",
            dest=contrast,
            type=Path,
            metavar="FILE",
            required=contrast == "FLAIR",
            help=f"the {contrast} image (.nii or .nii.gz)",
        )
    add_out(parser, "where the results go")
    add_processing(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Find the lesions; return the exit code."""
    from cascade_bids.app.participant import run_scans
    from cascade_bids.bids.scan import patient_scan

    others = {c: getattr(options, c) for c in CONTRASTS[1:] if getattr(options, c) is not None}
    scan = patient_scan(options.FLAIR, others)
    output_dir = written_folders(options.out, options.work_dir)["output_dir"]
    inputs = InputConfig(bids_dir=options.FLAIR.resolve().parent)
    config = participant_config(options, output_dir, inputs, ())
    return print_outcomes(run_scans([scan], config), output_dir)
