"""Compare how well a method fits scans that it learned from with scans that it did not.

Usage: python -m benchmarks.learned WORK

WORK is the work folder of ``cascade-bids crossval``. Each scan is predicted by the first fold that
learned from it, and scored at the operating point of that fold; beside it are the scores of the
fold that left it out. If both are alike, more patients of the same kind would help little.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.cross_validation import (
    NOTHING,
    Found,
    average,
    find_calibrations,
    read_folds,
    score,
    show,
)
from benchmarks.ensemble import load_weights
from benchmarks.weights import Condition, is_known, predict_case, read_cases


def predict_learned(work: Path, folds: list[Path]) -> list[Found]:
    """Predict each scan with a fold that knows it."""
    weights = {fold: load_weights(str(next(fold.glob("weights/*.json")))) for fold in folds}
    found = []
    for case in read_cases(work):
        fold = next(fold for fold in folds if is_known(case, weights[fold].card))
        card, stages = weights[fold]
        one = predict_case(stages, case, Condition(lambda volume: volume), card)
        source, _, scan = case.label.rpartition("/")
        found.append(Found(fold, source, scan, NOTHING, one))
        print(f"{case.label} by {fold.name}", flush=True)
    return found


def main() -> None:
    """Print the table of each scan, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    left_out = [one for one in read_folds(work) if one.without == NOTHING]
    calibrations = find_calibrations(left_out)
    learned = predict_learned(work, list(calibrations))
    tables = {
        "learned from": score(work, learned, calibrations),
        "left out": score(work, left_out, calibrations),
    }
    both = pd.concat({name: table.set_index(["source", "scan"]) for name, table in tables.items()})
    show("each scan", both[["DSC", "L-F1", "load_ml", "true_ml"]].unstack(0))
    means = pd.concat({name: average(table) for name, table in tables.items()}).swaplevel()
    show("means", means.sort_index())


if __name__ == "__main__":
    main()
