"""How right the weights of `perceptrons` are on what they have not learned from.

Usage: python benchmarks/weights.py WORK DATASET LABEL_MAPS --out DIR [--card CARD …] [--folds DIR]

WORK is the work folder of a training or cross-validation of DATASET, whose prepared scans are
taken. The weights of every fold that lies there predict the scans that it left out, and each
further card all scans of participants that it does not know: with all contrasts, with fewer, with
thick slices, and with the mirrored head too (`--tta`). Folds are scored at the operating point that
they got without their scans, and at that of the last card, in which these had a part; a second
table has their experts of synthetic scans alone (docs/experiments tells what labelled scans have a
part in there). The last card also predicts healthy heads, and the coverage of its intervals is
checked on synthetic scans of label maps that no training learned from.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cascade_bids.bids.scan import Scan
from cascade_bids.config import InputConfig
from cascade_bids.metrics.curves import average_precision, count_at_thresholds
from cascade_bids.metrics.overlap import count_lesions, dice
from cascade_bids.models.card import MethodCard, load_card
from cascade_bids.models.cases import Case
from cascade_bids.models.predict import Stage, load_stages, predict_lesions, predict_members
from cascade_bids.models.probabilities import scale_temperature
from cascade_bids.training.calibration.calibrate import Calibration, check_calibration
from cascade_bids.training.calibration.out_of_fold import (
    Prediction,
    bring_to_flair,
    predict_synthetic,
)
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.data.donors import load_donors
from cascade_bids.training.data.label_maps import load_label_maps
from cascade_bids.training.synthesis.generator import ScanGenerator, make_synthetic_scan

CPU = torch.device("cpu")
HEALTHY = 16
"""Synthetic healthy heads."""
COVERED = 20
"""Synthetic scans on which the interval of the load is checked."""


@dataclass(frozen=True)
class Condition:
    """What a method is given of a scan."""

    change: Callable[[Tensor], Tensor]
    """What is done to the contrasts, (C, X, Y, Z) float32, before."""
    mirrored: bool = False
    """Whether it sees the mirrored head too."""


def read_cases(work_dir: Path) -> list[Case]:
    """Load the prepared scans of a training."""
    settings = json.loads((work_dir / "settings.json").read_text())
    cases = []
    for label, contrasts in settings["contrasts of cases"].items():
        source, _, own = label.rpartition("/")
        subject, *session = (part.split("-", 1)[1] for part in own.split("_"))
        scan = Scan(subject, session[0] if session else None, None)
        folder = work_dir / "cases" / label
        cases.append(Case(scan, folder, tuple(contrasts), source))
    return cases


def is_known(case: Case, card: MethodCard) -> bool:
    """Return whether weights have learned from a participant."""
    return case.participant in card.participants


def keep_contrasts(case: Case, *names: str) -> Callable[[Tensor], Tensor]:
    """Set all other contrasts to 0, as they are when a scan lacks them."""
    kept = torch.tensor([float(name in names) for name in case.contrasts])
    return lambda volume: volume * kept[:, None, None, None]


def slice_thickly(volume: Tensor) -> Tensor:
    """Average over axial slices of 3 mm and interpolate back."""
    x, y, z = volume.shape[1:]
    thick = F.interpolate(volume[None], size=(x, y, round(z / 3)), mode="area")
    return F.interpolate(thick, size=(x, y, z), mode="trilinear")[0]


def conditions(case: Case) -> dict[str, Condition]:
    """Return the conditions under which a method predicts a scan."""
    both = keep_contrasts(case, "FLAIR", "T1w")
    return {
        "all contrasts": Condition(lambda volume: volume),
        "T1w+FLAIR": Condition(both),
        "T1w+FLAIR, mirrored too": Condition(both, mirrored=True),
        "FLAIR alone": Condition(keep_contrasts(case, "FLAIR")),
        "T1w+FLAIR, 3 mm slices": Condition(lambda volume: slice_thickly(both(volume))),
    }


def predict_case(
    stages: Sequence[Stage], case: Case, condition: Condition, card: MethodCard
) -> Prediction:
    """Predict a scan under a condition, on the grid of its FLAIR."""
    brain = np.array(case.brain)
    channels = condition.change(case.channels) * torch.from_numpy(brain)
    maps = predict_lesions(
        stages,
        card,
        dict(zip(case.contrasts, channels.numpy(), strict=True)),
        brain,
        affine=case.affine,
        mirrored=condition.mirrored,
    )
    return bring_to_flair(maps.probability, case)


def calibration_of(card: MethodCard) -> Calibration:
    """Return the calibration of a card."""
    return Calibration(card.operating_point, card.load_factor, card.confidence)


def score(found: Prediction, calibration: Calibration) -> dict[str, float]:
    """Score the mask that a calibration makes of a prediction."""
    mask = found.label(calibration.operating_point) > 0
    counts = count_lesions(mask, found.lesions)
    return {
        "DSC": dice(mask, found.lesions),
        "LTPR": counts.ltpr,
        "LFPR": counts.lfpr,
        "L-F1": counts.lf1,
        "load_ml": found.load_ml(calibration.operating_point),
        "true_ml": found.true_load_ml,
    }


def load_synthetic_experts(card: MethodCard) -> list[Stage]:
    """Load the stages of a method, with the experts of synthetic scans alone."""
    stages = load_stages(card, device=CPU)
    for stage in stages:
        if "experts" in stage.network.arguments:
            stage.network.experts = stage.network.experts[:1]
    return stages


def score_left_out(
    cases: Sequence[Case], folds: Path, cards: Sequence[Path], *, synthetic: bool = False
) -> list[dict[str, object]]:
    """Score the weights of folds and further cards on scans that they have not learned from."""
    rows = []
    for path in [*sorted(folds.glob("*/weights/*.json")), *([] if synthetic else cards)]:
        card = load_card(str(path))
        stages = load_synthetic_experts(card) if synthetic else load_stages(card, device=CPU)
        calibrations = {"own": calibration_of(card)}
        name = path.stem
        if folds in path.parents:
            name = f"without {path.parent.parent.name}"
            calibrations["last"] = calibration_of(load_card(str(cards[-1])))
        for case in cases:
            if is_known(case, card):
                continue
            for given, condition in conditions(case).items():
                found = predict_case(stages, case, condition, card)
                # No operating point has a part in it.
                ap = average_precision(count_at_thresholds(found.probability, found.lesions))
                for which, calibration in calibrations.items():
                    row = {"weights": name, "scan": case.label, "given": given, "point": which}
                    rows.append({**row, "AP": ap, **score(found, calibration)})
    return rows


def measure_healthy(card: MethodCard, generator: ScanGenerator) -> list[dict[str, object]]:
    """Measure what is found in healthy heads, whose contrasts are drawn."""
    stages, contrasts = load_stages(card, device=CPU), generator.contrasts
    anatomies = generator.to_check().anatomies
    rows: list[dict[str, object]] = []
    for number in range(HEALTHY):
        rng = torch.Generator().manual_seed(2 * 10**9 + number)
        sample = make_synthetic_scan(anatomies[number % len(anatomies)], [], contrasts, rng)
        channels = zip(contrasts, sample.channels, strict=True)
        maps = predict_members(stages, card.members, sample.to_volume(contrasts))
        probability = scale_temperature(maps.probability, card.temperature)
        labels = Prediction(probability, sample.lesions.numpy()).label(card.operating_point)
        row = {"contrasts": "+".join(name for name, image in channels if image.any())}
        rows.append({**row, "load_ml": (labels > 0).sum() / 1000, "lesions": int(labels.max())})
    means = pd.DataFrame(rows).mean(numeric_only=True)
    return [*rows, {"contrasts": "mean", **means.to_dict()}]


def show(title: str, rows: Sequence[dict[str, object]]) -> None:
    """Print a table as soon as it is there."""
    table = pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format)
    print(f"\n{title}\n{table}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("--card", type=Path, nargs="+", required=True)
    parser.add_argument("--folds", type=Path, help="weights of folds that lie elsewhere")
    parser.add_argument("--out", type=Path, required=True, help="keeps what was drawn and found")
    options = parser.parse_args()
    cases, last = read_cases(options.work), load_card(str(options.card[-1]))
    (alone,) = last.members  # of joined methods the calibration is not checked
    folds = options.folds or options.work / "folds"
    show("Left-out scans", score_left_out(cases, folds, options.card))
    alone = score_left_out(cases, folds, options.card, synthetic=True)
    show("Left-out scans, experts of synthetic scans alone", alone)
    maps = load_label_maps(options.label_maps, options.work / "prepared" / "label-maps")
    dataset = LabelledDataset(InputConfig(options.dataset), options.dataset)
    donors = tuple(load_donors(dataset))
    generator = ScanGenerator(cases[0].contrasts, tuple(maps), donors)
    show(f"Healthy heads, {last.name}", measure_healthy(last, generator))
    found = predict_synthetic(
        load_stages(last, device=CPU),
        generator,
        options.out / last.sha256[:12],
        combination=alone.combination,
        seed=2 * 10**6,
        count=COVERED,
    )
    scaled = [
        replace(one, probability=scale_temperature(one.probability, last.temperature))
        for one in found
    ]
    checked = check_calibration(scaled, calibration_of(last))
    show(f"Calibration of {last.name} on {COVERED} synthetic scans", [dict(checked)])


if __name__ == "__main__":
    main()
