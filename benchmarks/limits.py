"""What stands in the way of better scores on the scans that weights are scored on.

Usage: python benchmarks/limits.py WORK [--folds DIR]

WORK as for benchmarks/weights.py. Prints for each patient how far masks can agree that differ by a
layer of voxels, the DSC of the threshold that would be best for the very scan, which lesions are
found, and where the voxels lie that are wrong. With T1w and FLAIR, by the weights and the
operating point that learned nothing from the patient.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from weights import CPU, conditions, is_known, predict_case, read_cases, show

from cascade_bids.lesions.label import CONNECTED
from cascade_bids.metrics.overlap import dice
from cascade_bids.models.card import MethodCard, load_card
from cascade_bids.models.cases import Case
from cascade_bids.models.predict import load_stages
from cascade_bids.training.calibration.out_of_fold import Prediction

GIVEN = "T1w+FLAIR"
THRESHOLDS = np.arange(0.05, 1, 0.05)
SIZES_MM3 = (0, 10, 50, 250, np.inf)


def find_card(folds: Path, case: Case) -> MethodCard:
    """Find the card of the fold that left a scan's participant out."""
    cards = (load_card(str(path)) for path in sorted(folds.glob("*/weights/*.json")))
    return next(card for card in cards if not is_known(case, card))


def compare_with_itself(reference: np.ndarray) -> dict[str, float]:
    """Compute the DSC of a mask with itself, changed by one voxel."""
    return {
        "a layer more": dice(reference, ndimage.binary_dilation(reference)),
        "a layer less": dice(reference, ndimage.binary_erosion(reference)),
        "moved by a voxel": dice(reference, np.roll(reference, 1, axis=0)),
    }


def find_best_threshold(found: Prediction) -> dict[str, float]:
    """Find the threshold with the highest DSC on the scan itself."""
    scores = [dice(found.probability >= threshold, found.lesions) for threshold in THRESHOLDS]
    best = int(np.argmax(scores))
    return {"best threshold": THRESHOLDS[best], "its DSC": scores[best]}


def count_by_size(mask: np.ndarray, found: Prediction) -> list[dict[str, object]]:
    """Count of lesions of each size how many are found, and their part of the load."""
    labels, count = ndimage.label(found.lesions, structure=CONNECTED)
    volumes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * found.voxel_mm3
    touched = np.isin(np.arange(1, count + 1), labels[mask])
    rows = []
    for low, high in pairwise(SIZES_MM3):
        chosen = (volumes >= low) & (volumes < high)
        share = volumes[chosen].sum() / volumes.sum()
        row = {"mm3": f"{low:g} to {high:g}", "lesions": int(chosen.sum())}
        rows.append({**row, "found": int(touched[chosen].sum()), "part of load": share})
    return rows


def divide_errors(mask: np.ndarray, found: Prediction) -> dict[str, float]:
    """Compute how much of a mask is wrong, ml: at lesions of the other mask, and far from any."""
    reference, voxel_ml = found.lesions, found.voxel_mm3 / 1000
    volumes = {"right": (mask & reference).sum() * voxel_ml}
    for name, one, other in (("false", mask, reference), ("missed", reference, mask)):
        labels, _ = ndimage.label(one, structure=CONNECTED)
        touching = np.isin(labels, np.setdiff1d(labels[other], [0])) & one
        volumes[f"{name}, at a lesion"] = (touching & ~other).sum() * voxel_ml
        volumes[f"{name}, apart"] = (one & ~touching).sum() * voxel_ml
    return volumes


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--folds", type=Path, help="weights of folds that lie elsewhere")
    options = parser.parse_args()
    folds = options.folds or options.work / "folds"
    limits, sizes = [], []
    for case in read_cases(options.work):
        card = find_card(folds, case)
        stages, condition = load_stages(card, device=CPU), conditions(case)[GIVEN]
        found = predict_case(stages, case, condition, card)
        mask = found.label(card.operating_point) > 0
        own = {"scan": case.label, "DSC": dice(mask, found.lesions), **find_best_threshold(found)}
        errors = divide_errors(mask, found)
        limits.append({**own, **compare_with_itself(found.lesions), **errors})
        sizes += [{"scan": case.label, **row} for row in count_by_size(mask, found)]
    facts = pd.DataFrame(limits).set_index("scan").T.reset_index(names="")
    show(f"Limits, {GIVEN}", facts.to_dict("records"))
    show(f"Lesions by size, {GIVEN}", sizes)


if __name__ == "__main__":
    main()
