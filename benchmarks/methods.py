"""Compare every published method and `cascade` on sources that they have not seen: one table.

Usage: python -m benchmarks.methods WORK [--methods NAME …] [--yardstick CARD …] -- CROSSVAL_OPTIONS

CROSSVAL_OPTIONS are those of ``cascade-bids crossval``, without ``--method``, ``--out`` and
``--work-dir``; ``--folds source`` leaves every source out in turn, and ``--max-minutes`` trains all
for equally long. Each method is a cross-validation of its own in WORK, and goes on where it broke
off; all share the prepared scans. The rows of ALL-Net are its ablation, one network each: with five
that vote as published, each would have a fifth of the time. A yardstick is a card that has seen
none of the scans, at its own operating point. The paired tests are Wilcoxon's, by participant.
"""

import argparse
from pathlib import Path

import pandas as pd
from scipy.stats import wilcoxon

from benchmarks.cross_validation import (
    NOTHING,
    Found,
    average,
    cross_validate,
    parse_with_rest,
    score,
    show,
)
from benchmarks.ensemble import load_weights
from benchmarks.weights import Condition, calibration_of, predict_case, read_cases
from cascade_bids.training.calibration.out_of_fold import read_prediction, write_prediction
from cascade_bids.training.recipes import find_recipe

BASE = "allnet-base"
ABLATION = (BASE, "allnet-anaconv", "allnet-lesloss", "allnet")
METHODS = ("cascade", "valverde2017", "msseg2016", *ABLATION)
MEASURES = ("DSC", "L-F1")


def train(method: str, work: Path, arguments: list[str]) -> pd.DataFrame:
    """Train and score a method; a row for each scan."""
    seeds = ["--seeds", "1"] if method in ABLATION else []
    # Anatomical coordinates are channels of the prepared scans.
    anatomy = find_recipe(method).takes_anatomy
    shared = work / ("shared-anatomy" if anatomy else "shared")
    return cross_validate(work / method, shared, ["--method", method, *seeds, *arguments])


def measure_card(name: str, prepared: Path, out: Path) -> pd.DataFrame:
    """Score a card on all scans that a method was trained on, each predicted once."""
    card, stages = load_weights(name)
    found = []
    for case in read_cases(prepared):
        source, _, scan = case.label.rpartition("/")
        path = out / card.weights_sha256[:12] / source / f"{scan}.npz"
        if not path.exists():
            given = Condition(lambda volume: volume)
            write_prediction(predict_case(stages, case, given, card), path)
            print(f"{case.label} by {name}", flush=True)
        found.append(Found(Path(name), source, scan, NOTHING, read_prediction(path)))
    return score(prepared, found, {Path(name): calibration_of(card)})


def compare(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Test each method against the first, and each part of ALL-Net against none of them."""
    people = {
        name: table.groupby(["source", "participant"])[list(MEASURES)].mean()
        for name, table in tables.items()
    }
    first = next(iter(people))
    pairs = [(first, name) for name in people if name != first]
    if BASE in people:
        pairs += [(BASE, name) for name in ABLATION[1:] if name in people]
    rows = []
    for one, other in pairs:
        both = people[one].index.intersection(people[other].index)
        row: dict[str, object] = {"method": other, "against": one, "participants": len(both)}
        for name in MEASURES:
            more = people[other].loc[both, name] - people[one].loc[both, name]
            row[f"{name} more"] = more.mean()
            row[f"{name}: p"] = wilcoxon(more).pvalue
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the scores of each method by source, and the paired tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--yardstick", nargs="+", default=[])
    options, arguments = parse_with_rest(parser)
    tables = {name: train(name, options.work, arguments) for name in options.methods}
    for name in options.yardstick:
        prepared = options.work / options.methods[0]
        tables[Path(name).stem] = measure_card(name, prepared, options.work / "yardsticks")
    means = {name: average(table) for name, table in tables.items()}
    show("all methods", pd.concat(means).swaplevel().sort_index())
    show("paired tests, by participant", compare(tables), index=False)


if __name__ == "__main__":
    main()
