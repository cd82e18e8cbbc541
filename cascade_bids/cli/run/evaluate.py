"""Score lesion masks against those of a reference."""

import argparse
from pathlib import Path

from cascade_bids.cli.folders import require_outside, written_folders
from cascade_bids.cli.options import add_out, add_verbose, new_parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser(
        "evaluate", "Score lesion masks against those of a reference, scan by scan."
    )
    parser.add_argument(
        "prediction", type=Path, metavar="PRED", help="BIDS dataset with the masks to score"
    )
    parser.add_argument(
        "reference", type=Path, metavar="REF", help="BIDS dataset with the reference masks"
    )
    add_out(parser, "where the results go")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="PRED2",
        help="masks of another method, to be tested against the first",
    )
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Score the masks; return the exit code."""
    out = written_folders(options.out, None)["output_dir"]
    for dataset in filter(None, (options.prediction, options.reference, options.compare)):
        require_outside("--out", out, dataset.resolve())
    return evaluate_masks(options.prediction, options.reference, out, options.compare)


def evaluate_masks(prediction: Path, reference: Path, out: Path, other: Path | None = None) -> int:
    """Score masks, print the means, and return the exit code."""
    from rich.console import Console
    from rich.table import Table

    from cascade_bids.evaluation import evaluate

    result = evaluate(prediction, reference, out, other=other)
    table = Table("mean over the scans", *result.cohort["predictions"])
    for measure in ("dsc", "ltpr", "lfpr", "lf1", "hd95_mm", "isbi2015_score", "miccai2008_score"):
        means = (p["measures"][measure]["mean"] for p in result.cohort["predictions"].values())
        table.add_row(measure, *("n/a" if mean is None else f"{mean:.3f}" for mean in means))
    Console().print(table)
    for failure in result.failures:
        print(failure)
    print(f"{len(result.table)} scored, {len(result.failures)} failed; results in {out}")
    return 1 if result.failures else 0
