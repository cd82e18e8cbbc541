"""Phantoms, and scores of masks."""

import argparse
from pathlib import Path

from cascade_bids.commands.folders import require_outside, written_folders


def run_phantom(options: argparse.Namespace) -> int:
    """Write a phantom dataset."""
    from cascade_bids.phantom import write_phantom

    for scan in write_phantom(options.out, seed=options.random_seed):
        print(f"{scan.label}: {len(scan.lesions)} lesions, {scan.load_ml:.2f} ml")
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Print the loads found beside the planted ones."""
    from cascade_bids.phantom import compare_loads

    print(compare_loads(options.bids_dir, options.output_dir).round(3).to_string(index=False))
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """Score masks against references."""
    out = written_folders(options.out, None)["output_dir"]
    for dataset in filter(None, (options.prediction, options.reference, options.compare)):
        require_outside("--out", out, dataset.resolve())
    return evaluate_masks(options.prediction, options.reference, out, options.compare)


def evaluate_masks(prediction: Path, reference: Path, out: Path, other: Path | None = None) -> int:
    """Score masks, print the means, and give the exit code."""
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
