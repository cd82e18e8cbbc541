"""Train the last network of perceptrons, on synthetic scans alone."""

import argparse
from pathlib import Path

from cascade_bids.cli.folders import require_outside, written_folders
from cascade_bids.cli.options import add_machine, add_out, add_seed, new_parser
from cascade_bids.cli.train_options import add_work_dir
from cascade_bids.config import ResourceConfig


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "train-context", "Train the last network of perceptrons, on synthetic scans alone."
    )
    parser.add_argument("label_maps", type=Path, help="folder of head*_dseg.nii.gz label maps")
    parser.add_argument(
        "masks", type=Path, help="folder of sub-*_space-MNI152*_label-lesion_mask.nii.gz"
    )
    add_out(parser, "where the weights go")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="participants whose lesions are left out, to test the weights on",
    )
    add_seed(parser)
    add_work_dir(add_machine(parser))
    return parser


def run(options: argparse.Namespace) -> int:
    """Train it, and print the card; return the exit code."""
    from cascade_bids.training.train_context import train_context

    for name, folder in written_folders(options.out, options.work_dir).items():
        for read in (options.label_maps, options.masks):
            require_outside(name, folder, read.resolve())
    card = train_context(
        options.label_maps.resolve(),
        options.masks.resolve(),
        options.out,
        work_dir=options.work_dir.resolve(),
        without=[label.removeprefix("sub-") for label in options.without],
        resources=ResourceConfig(
            device=options.device,
            nprocs=options.nprocs,
            omp_nthreads=options.omp_nthreads or options.nprocs,
        ),
        seed=options.random_seed,
    )
    print(card)
    return 0
