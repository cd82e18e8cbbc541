"""Score a cascade, other weights and the mean of both, and make the shipped `ensemble` of them.

Usage: python -m benchmarks.ensemble WORK OUT --card CARD [CARD …] [--ship]

WORK is the work folder of ``cascade-bids crossval --method cascade``. Each scan that a fold left
out is also predicted by the first card that does not know the participant. OUT keeps these
predictions, and the means as a work folder that `benchmarks.cross_validation` scores. With
``--ship``, `cascade` and `perceptrons` as they lie with the program are joined, with calibration
and scores found here.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.cross_validation import (
    NOTHING,
    Found,
    average,
    calibrate,
    group_people,
    read_folds,
    score,
    show,
)
from benchmarks.weights import CPU, Condition, is_known, keep_contrasts, predict_case, read_cases
from cascade_bids.files import write_text
from cascade_bids.models.card import WEIGHTS_DIR, MethodCard, load_card
from cascade_bids.models.cases import Case
from cascade_bids.models.join import join_entries
from cascade_bids.models.predict import Stage, load_stages
from cascade_bids.training.calibration.calibrate import calibrate_people
from cascade_bids.training.calibration.out_of_fold import read_prediction, write_prediction

NAME = "ensemble"
MEMBERS = ("cascade", "perceptrons")

WEIGHTS = (0.0, 0.5, 0.6, 0.7, 1.0)
"""Of the cascade, that are tried."""

WEIGHT = 0.6
"""That which ships."""


class Weights(NamedTuple):
    """A method that is ready to predict."""

    card: MethodCard
    stages: Sequence[Stage]


def load_weights(name: str) -> Weights:
    """Load a method whose probabilities are not scaled, as those of members are not."""
    card = replace(load_card(name), temperature=1.0)
    return Weights(card, load_stages(card, device=CPU))


def predict_other(one: Found, case: Case, others: Sequence[Weights], out: Path) -> Found:
    """Predict what a fold predicted, once, with other weights."""
    card, stages = next(other for other in others if not is_known(case, other.card))
    path = _path(one, out / card.weights_sha256[:12])
    if not path.exists():
        hidden = one.without.split("+")
        kept = [name for name in case.contrasts if name not in hidden]
        given = Condition(keep_contrasts(case, *kept))
        write_prediction(predict_case(stages, case, given, card), path)
        print(f"{case.label} without {one.without}, by {card.path}", flush=True)
    return one._replace(prediction=read_prediction(path))


def average_both(one: Found, other: Found, weight: float) -> Found:
    """Take the mean of two predictions; the first has a weight."""
    both = one.prediction.probability, other.prediction.probability
    mean = np.average(both, axis=0, weights=(weight, 1 - weight)).astype(np.float32)
    return one._replace(prediction=replace(one.prediction, probability=mean))


def _path(one: Found, out: Path) -> Path:
    suffix = "" if one.without == NOTHING else f"_without-{one.without}"
    return out / "folds" / one.fold.name / "found" / one.source / f"{one.scan}{suffix}.npz"


def score_mean(work: Path, found: Sequence[Found]) -> pd.DataFrame:
    """Score what was found with all contrasts, each fold at the point of the others."""
    given = [one for one in found if one.without == NOTHING]
    return average(score(work, given, calibrate(found)))


def ship(found: Sequence[Found], whole: pd.DataFrame) -> Path:
    """Write the card of the members joined, whose weights stay where they are."""
    people = group_people(found)
    every = calibrate_people(chain.from_iterable(people.values()))
    stages = [stage for name in MEMBERS for stage in load_card(name).entries()["stages"]]
    scores = whole[["DSC", "L-F1"]].astype(float).round(4).to_dict("index")
    joined = join_entries(MEMBERS)
    entries = {
        "name": NAME,
        **joined,
        "members": [
            {**member, "weight": weight}
            for member, weight in zip(joined["members"], (WEIGHT, 1 - WEIGHT), strict=True)
        ],
        "cross_validation": {"folds": str(len(people)), "sources": scores},
        **every.to_card(),
        "stages": stages,
    }
    return write_text(WEIGHTS_DIR / f"{NAME}.json", json.dumps(entries, indent=2) + "\n")


def main() -> None:
    """Print the scores of each alone and of means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--card", nargs="+", required=True)
    parser.add_argument("--ship", action="store_true")
    options = parser.parse_args()
    cascade = read_folds(options.work)
    cases = {case.label: case for case in read_cases(options.work)}
    weights = [load_weights(name) for name in options.card]
    others = [
        predict_other(one, cases[f"{one.source}/{one.scan}"], weights, options.out / "others")
        for one in cascade
    ]
    if not (options.out / "cases").exists():
        (options.out / "cases").symlink_to((options.work / "cases").resolve())
    pairs = list(zip(cascade, others, strict=True))
    for weight in WEIGHTS:
        mean = [average_both(*pair, weight) for pair in pairs]
        show(f"cascade with a weight of {weight}", score_mean(options.work, mean))
    mean = [average_both(*pair, WEIGHT) for pair in pairs]
    for one in mean:
        write_prediction(one.prediction, _path(one, options.out))
    if options.ship:
        print(ship(mean, score_mean(options.work, mean)))


if __name__ == "__main__":
    main()
