"""The parsers of the BIDS App, and of what looks at its results."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from cascade_bids.arguments.shared import (
    add_choice,
    add_filters,
    add_machine,
    add_preparation,
    add_verbose,
    not_negative,
)
from cascade_bids.config import CONTRASTS, TEMPLATE_SPACE, VERSION, MethodConfig

RESEARCH_ONLY = "For research only: not a medical device."


def bids_app_parser(others: Iterable[str]) -> argparse.ArgumentParser:
    """Make the parser of ``bids_dir output_dir {participant,group}``; its help names `others`."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids",
        description="Find multiple-sclerosis lesions in a BIDS dataset of brain MRI.",
        epilog=f"Other commands, each with --help: cascade-bids {{{','.join(others)}}}. "
        + RESEARCH_ONLY,
    )
    parser.add_argument("bids_dir", type=Path, help="the raw BIDS dataset; never written to")
    parser.add_argument("output_dir", type=Path, help="where the derivatives go")
    parser.add_argument(
        "level",
        choices=("participant", "group"),
        help="participant: find lesions in every scan; group: the table and report of the cohort",
    )
    parser.add_argument("--version", action="version", version=f"cascade_bids {VERSION}")
    _add_run_options(parser)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be said of a run on a dataset."""
    choose = add_choice(parser)
    add_filters(choose)
    choose.add_argument(
        "--derivatives",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=PATH",
        help="derivatives of other pipelines whose brain masks to use",
    )
    choose.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="DIR",
        help="keep the index of a large dataset here, and use it again",
    )
    choose.add_argument(
        "--output-spaces",
        nargs="+",
        action="extend",
        default=[],
        choices=("T1w", TEMPLATE_SPACE),
        help="further spaces in which to write the lesion mask",
    )
    _add_processing(parser)


def _add_processing(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--method",
        default=MethodConfig.method,
        help="which networks find the lesions: a name, or the card (.json) of a method of your own "
        "(default: %(default)s)",
    )
    how.add_argument(
        "--separate-lesions",
        action="store_true",
        help="number confluent lesions one by one; for methods with a sphere head, such as ALL-Net",
    )
    how.add_argument(
        "--tta",
        action="store_true",
        help="ask about the mirrored head too and take the mean (test-time augmentation): twice as "
        "long in the networks",
    )
    add_preparation(how)
    machine = add_machine(parser)
    parser.set_defaults(nprocs=None)  # a plugin may say it
    machine.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="keep intermediate files here; a run with the same folder goes on where one broke off "
        "(default: a temporary folder)",
    )
    machine.add_argument(
        "--clean-workdir", action="store_true", help="empty the work folder after the run"
    )
    machine.add_argument(
        "--use-plugin",
        type=Path,
        metavar="FILE",
        help="run each step as a job of its own: YAML or JSON with Nipype's plugin and "
        "plugin_args, such as plugin: SLURM; needs a work folder that all nodes see",
    )
    machine.add_argument(
        "--stop-on-first-crash", action="store_true", help="don't go on after a scan failed"
    )


def plan_parser() -> argparse.ArgumentParser:
    """Make the parser that lists whom a run has to process."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids plan",
        description="List the participants of a dataset, one a line, for the tasks of an array "
        "job; those whose scans are complete in OUTPUT_DIR are left out. Takes the options of a "
        "run, so that what is wrong with them is told before the job waits.",
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("output_dir", type=Path, nargs="?", help="derivatives of earlier runs")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the list here (default: print it)"
    )
    _add_run_options(parser)
    return parser


def segment_parser() -> argparse.ArgumentParser:
    """Make the parser of one patient without BIDS."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids segment",
        description="Find the lesions of one patient, without BIDS.",
        epilog=RESEARCH_ONLY,
    )
    for contrast in CONTRASTS:
        parser.add_argument(
            f"--{contrast.lower()}",
            dest=contrast,
            type=Path,
            metavar="FILE",
            required=contrast == "FLAIR",
            help=f"the {contrast} image (.nii or .nii.gz)",
        )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the results go"
    )
    _add_processing(parser)
    return parser


def phantom_parser() -> argparse.ArgumentParser:
    """Make the parser of the phantom writer."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids phantom",
        description="Write a BIDS dataset of phantoms of known truth.",
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument("--random-seed", type=not_negative, default=0, metavar="N")
    add_verbose(parser)
    return parser


def compare_parser() -> argparse.ArgumentParser:
    """Make the parser of the comparison of found and planted loads."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids compare-loads",
        description="Print the load found in phantoms beside the planted one.",
    )
    parser.add_argument("bids_dir", type=Path, help="dataset of cascade-bids phantom")
    parser.add_argument("output_dir", type=Path, help="derivatives of a participant run on it")
    add_verbose(parser)
    return parser


def evaluate_parser() -> argparse.ArgumentParser:
    """Make the parser of the evaluation against reference masks."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids evaluate",
        description="Score lesion masks against those of a reference, scan by scan.",
    )
    parser.add_argument(
        "prediction", type=Path, metavar="PRED", help="BIDS dataset with the lesion masks to score"
    )
    parser.add_argument(
        "reference", type=Path, metavar="REF", help="BIDS dataset with the reference masks"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="PRED2",
        help="the masks of another method, to be tested against the first",
    )
    add_verbose(parser)
    return parser
