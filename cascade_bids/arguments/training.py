"""The parsers of what makes methods: trainings, and the import of trained ones."""

import argparse
from pathlib import Path

from cascade_bids.arguments.shared import (
    add_choice,
    add_machine,
    add_preparation,
    add_verbose,
    minutes,
    not_negative,
    positive,
)
from cascade_bids.config import CONTRASTS, MethodConfig


def train_parser() -> argparse.ArgumentParser:
    """Make the parser of the training of a method."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids train",
        description="Train a method on labelled scans.",
    )
    _add_labelled(parser)
    parser.add_argument("--name", help="what the trained method is called (default: as --method)")
    return parser


def crossval_parser() -> argparse.ArgumentParser:
    """Make the parser of cross-validation."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids crossval",
        description="Train on all participants but those of one fold, and score those; repeat.",
    )
    _add_labelled(parser)
    parser.add_argument(
        "--folds", default="loo", metavar="loo|N", help="leave one participant out, or N folds"
    )
    return parser


def _add_labelled(parser: argparse.ArgumentParser, *, adapts: bool = False) -> None:
    parser.add_argument(
        "dataset",
        type=Path,
        help="BIDS dataset of images and lesion masks, or derivatives of this program",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new files go here")
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="folder of sub-…_label-lesion_mask.nii.gz (default: the dataset; derivatives of this "
        "program need it)",
    )
    add_choice(parser)
    how = parser.add_argument_group("how")
    if adapts:
        how.add_argument("--from", dest="source", required=True, metavar="METHOD")
    else:
        how.add_argument("--method", default=MethodConfig.method, help="(default: %(default)s)")
        how.add_argument(
            "--contrasts",
            nargs="+",
            choices=CONTRASTS,
            default=["FLAIR", "T1w"],
            help="channels, in this order (default: FLAIR T1w)",
        )
        how.add_argument(
            "--seeds",
            type=positive,
            metavar="N",
            help="how many networks vote (allnet only; default: 5)",
        )
        how.add_argument(
            "--heads",
            type=Path,
            metavar="DIR",
            help="whole-head label maps (head*_dseg.nii.gz) from which scans are made up (cascade "
            "only)",
        )
        how.add_argument(
            "--healthy",
            type=Path,
            metavar="DIR",
            help="BIDS dataset of T1w of healthy heads, MUSE labels beside "
            "(derivatives/dlmuse/…_desc-dlmuse_dseg.nii.gz); lesions are painted into them, and "
            "the other contrasts made up (cascade only)",
        )
        how.add_argument(
            "--unlabelled",
            type=Path,
            metavar="DIR",
            help="raw BIDS dataset of whole heads; its scans of FLAIR and T1w without a lesion "
            "mask, best of patients with few lesions, show what is no lesion (cascade only); all "
            "of them, whatever the other options say of labelled scans",
        )
        how.add_argument(
            "--start-from",
            metavar="METHOD",
            help="method or card (….json) whose weights the networks start with (cascade only)",
        )
    how.add_argument(
        "--max-minutes",
        type=minutes,
        metavar="N",
        help="training time of all networks of a fold together (default: until the loss stops "
        "falling; 400 epochs for each network of ALL-Net, 12 of cascade)",
    )
    add_preparation(how)
    _add_work_dir(add_machine(parser))


def preview_parser() -> argparse.ArgumentParser:
    """Make the parser that draws training samples."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids preview-training",
        description="Draw a sheet of the samples that a training is shown.",
    )
    _add_labelled(parser)
    parser.add_argument("--samples", type=positive, default=8, metavar="N", help="(default: 8)")
    return parser


def finetune_parser() -> argparse.ArgumentParser:
    """Make the parser of the adaptation to a scanner."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids finetune",
        description="Train the last layers of a method anew on as little as one labelled scan.",
    )
    _add_labelled(parser, adapts=True)
    parser.add_argument("--name", required=True, help="what the adapted method is called")
    return parser


def import_parser() -> argparse.ArgumentParser:
    """Make the parser that takes over models of nicMSlesions."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids import-nicmslesions",
        description="Turn a trained nicMSlesions model into a method.",
    )
    parser.add_argument("model_dir", type=Path, help="folder of model_1.hdf5 and model_2.hdf5")
    parser.add_argument("--name", required=True, help="what the method is to be called")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for weights and card (default: among those of the program, for --method NAME; from "
        "elsewhere, --method DIR/NAME.json)",
    )
    parser.add_argument(
        "--contrasts",
        nargs="+",
        choices=CONTRASTS,
        default=[],
        help="channels, in the order of the training (default: T1w FLAIR)",
    )
    add_verbose(parser)
    return parser


def join_parser() -> argparse.ArgumentParser:
    """Make the parser that makes one method of several."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids join",
        description="Make one method of several, which takes the mean of their probabilities.",
    )
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="names, or cards (….json)")
    parser.add_argument("--name", required=True, help="what the joined method is called")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the weights")
    add_verbose(parser)
    return parser


def train_brain_parser() -> argparse.ArgumentParser:
    """Make the parser of the training of the brain extraction."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids train-brain",
        description="Train the brain extraction from scratch.",
    )
    parser.add_argument("scans", type=Path, help="BIDS dataset of T1w heads, MUSE labels beside")
    parser.add_argument("head_labels", type=Path, help="folder of head*_dseg.nii.gz label maps")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the weights")
    _add_work_dir(parser)
    parser.add_argument("--random-seed", type=not_negative, default=0, metavar="N")
    add_verbose(parser)
    return parser


def train_context_parser() -> argparse.ArgumentParser:
    """Make the parser of the training of the network that cascade asks at the end."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="cascade-bids train-context",
        description="Train the last network of cascade, on made-up scans alone.",
    )
    parser.add_argument("heads", type=Path, help="folder of head*_dseg.nii.gz label maps")
    parser.add_argument(
        "masks", type=Path, help="folder of sub-*_space-MNI152*_label-lesion_mask.nii.gz"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the weights")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="participants whose lesions are left out, so that the weights can be tested on them",
    )
    parser.add_argument("--random-seed", type=not_negative, default=0, metavar="N")
    _add_work_dir(add_machine(parser))
    return parser


def _add_work_dir(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="checkpoints and curves; the same folder goes on where a training broke off",
    )
