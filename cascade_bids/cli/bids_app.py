"""The BIDS App: ``cascade-bids bids_dir output_dir {participant,group}``."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from cascade_bids.cli.options import RESEARCH_ONLY, new_parser
from cascade_bids.cli.run_options import (
    add_dataset_options,
    check_folders,
    participant_config,
    print_outcomes,
    read_inputs,
)
from cascade_bids.config import VERSION


def make_parser(groups: Mapping[str, Iterable[str]]) -> argparse.ArgumentParser:
    """Return the parser; its help names all other commands, in their groups."""
    listed = [f" {title:<8} {', '.join(names)}" for title, names in groups.items()]
    parser = new_parser(
        "",
        "Find multiple-sclerosis lesions in a BIDS dataset of brain MRI.",
        "\n".join(["other commands, each with --help:", *listed, RESEARCH_ONLY]),
    )
    parser.usage = "cascade-bids bids_dir output_dir {participant,group} [options]"
    parser.add_argument("bids_dir", type=Path, help="the raw BIDS dataset, never written to")
    parser.add_argument("output_dir", type=Path, help="where the derivatives go")
    parser.add_argument(
        "level",
        choices=("participant", "group"),
        help="find lesions, or sum up the cohort",
    )
    parser.add_argument("--version", action="version", version=f"cascade_bids {VERSION}")
    add_dataset_options(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the participant or the group level; return the exit code."""
    output_dir = options.output_dir.resolve()
    if options.level == "group":
        from cascade_bids.app.group import run_group

        print(run_group(output_dir))
        return 0
    check_folders(options)
    from cascade_bids.app.participant import run_participants

    inputs, spaces = read_inputs(options), tuple(options.output_spaces)
    config = participant_config(options, output_dir, inputs, spaces)
    return print_outcomes(run_participants(config), output_dir)
