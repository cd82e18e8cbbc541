"""What each command understands: one parser for each."""

import argparse
import math
import os
from collections.abc import Iterable
from pathlib import Path

from cascade_bids.config import CONTRASTS, TEMPLATE_SPACE, VERSION, MethodConfig

RESEARCH_ONLY = "For research only: not a medical device."


def bids_app_parser(others: Iterable[str]) -> argparse.ArgumentParser:
    """Make the parser of ``bids_dir output_dir {participant,group}``; its help names `others`."""
    parser = argparse.ArgumentParser(
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
    choose = _add_choice(parser)
    choose.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON that narrows the images, e.g. {"flair": {"acquisition": "3d"}}',
    )
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
        "--skip-bids-validation",
        action="store_true",
        help="also index files whose names BIDS does not know",
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
    return parser


def _add_choice(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    choose = parser.add_argument_group("which images")
    choose.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="participants to process, with or without sub- (default: all)",
    )
    choose.add_argument(
        "--session-label",
        "--session_label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    return choose


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
    _add_preparation(how)
    machine = _add_machine(parser)
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
        "--stop-on-first-crash", action="store_true", help="don't go on after a scan failed"
    )


def _add_preparation(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--skull-strip",
        choices=("auto", "skip"),
        default="auto",
        help="auto: extract the brain; skip: the images show only brain (default: %(default)s)",
    )
    how.add_argument(
        "--random-seed",
        type=_not_negative,
        default=0,
        metavar="N",
        help="seed of all that is random (default: %(default)s)",
    )


def _add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    cores = _count_cores()
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where networks run; auto takes a GPU where there is one (default: %(default)s)",
    )
    machine.add_argument(
        "--nprocs",
        type=_positive,
        default=cores,
        metavar="N",
        help="steps that run at the same time (default: all cores, here %(default)s)",
    )
    machine.add_argument(
        "--omp-nthreads",
        type=_positive,
        metavar="N",
        help="threads of one step (default: as --nprocs)",
    )
    _add_verbose(machine)
    return machine


def _add_verbose(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="tell each step (-vv: everything)"
    )


def segment_parser() -> argparse.ArgumentParser:
    """Make the parser of one patient without BIDS."""
    parser = argparse.ArgumentParser(
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
        prog="cascade-bids phantom", description="Write a BIDS dataset of phantoms of known truth."
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument("--random-seed", type=_not_negative, default=0, metavar="N")
    _add_verbose(parser)
    return parser


def compare_parser() -> argparse.ArgumentParser:
    """Make the parser of the comparison of found and planted loads."""
    parser = argparse.ArgumentParser(
        prog="cascade-bids compare-loads",
        description="Print the load found in phantoms beside the planted one.",
    )
    parser.add_argument("bids_dir", type=Path, help="dataset of cascade-bids phantom")
    parser.add_argument("output_dir", type=Path, help="derivatives of a participant run on it")
    _add_verbose(parser)
    return parser


def evaluate_parser() -> argparse.ArgumentParser:
    """Make the parser of the evaluation against reference masks."""
    parser = argparse.ArgumentParser(
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
    _add_verbose(parser)
    return parser


def train_parser() -> argparse.ArgumentParser:
    """Make the parser of the training of a method."""
    parser = argparse.ArgumentParser(
        prog="cascade-bids train", description="Train a published method on labelled scans."
    )
    _add_labelled(parser)
    parser.add_argument("--name", help="what the trained method is called (default: as --method)")
    return parser


def crossval_parser() -> argparse.ArgumentParser:
    """Make the parser of cross-validation."""
    parser = argparse.ArgumentParser(
        prog="cascade-bids crossval",
        description="Train on all participants but those of one fold, and score those; repeat.",
    )
    _add_labelled(parser)
    parser.add_argument(
        "--folds", default="loo", metavar="loo|N", help="leave one participant out, or N folds"
    )
    return parser


def _add_labelled(parser: argparse.ArgumentParser, *, adapts: bool = False) -> None:
    parser.add_argument("dataset", type=Path, help="BIDS dataset of images and lesion masks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new files go here")
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="folder of sub-…_label-lesion_mask.nii.gz (default: the dataset; derivatives of this "
        "program need it)",
    )
    _add_choice(parser)
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
            type=_positive,
            metavar="N",
            help="how many networks vote (allnet only; default: 5)",
        )
    how.add_argument(
        "--max-minutes",
        type=_minutes,
        metavar="N",
        help="training time of all networks of a fold together (default: until the loss stops "
        "falling, of ALL-Net 400 epochs for each network)",
    )
    _add_preparation(how)
    _add_work_dir(_add_machine(parser))


def finetune_parser() -> argparse.ArgumentParser:
    """Make the parser of the adaptation to a scanner."""
    parser = argparse.ArgumentParser(
        prog="cascade-bids finetune",
        description="Train the last layers of a method anew on as little as one labelled scan.",
    )
    _add_labelled(parser, adapts=True)
    parser.add_argument("--name", required=True, help="what the adapted method is called")
    return parser


def import_parser() -> argparse.ArgumentParser:
    """Make the parser that takes over models of nicMSlesions."""
    parser = argparse.ArgumentParser(
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
    _add_verbose(parser)
    return parser


def train_brain_parser() -> argparse.ArgumentParser:
    """Make the parser of the training of the brain extraction."""
    parser = argparse.ArgumentParser(
        prog="cascade-bids train-brain", description="Train the brain extraction from scratch."
    )
    parser.add_argument("scans", type=Path, help="BIDS dataset of T1w heads, MUSE labels beside")
    parser.add_argument("head_labels", type=Path, help="folder of head*_dseg.nii.gz label maps")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the weights")
    _add_work_dir(parser)
    parser.add_argument("--random-seed", type=_not_negative, default=0, metavar="N")
    _add_verbose(parser)
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


def _count_cores() -> int:
    """Count the cores that this process may use; where nobody can tell (macOS), all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(text: str) -> int:
    return _whole_number(text, at_least=1)


def _not_negative(text: str) -> int:
    return _whole_number(text, at_least=0)


def _minutes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return number


def _whole_number(text: str, at_least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = at_least - 1
    if number < at_least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {at_least}")
    return number
