"""How right the weights of `cascade` are on what they have not learned from.

Usage: python benchmarks/weights.py WORK DATASET HEADS --out DIR [--card CARD …] [--folds DIR]

WORK is the work folder of a training or cross-validation of DATASET, whose prepared scans are
taken. The weights of every fold that lies there are asked about the scans that it left out, and
each further card about all scans of participants whom it does not know: with all contrasts, with
fewer, with thick slices, and about the mirrored head too (`--tta`). Folds are scored by the rule
that they got without their scans, and by that of the last card, in which these had a part; a second
table has their experts of made-up scans alone (docs/weights.md says what labelled scans have a part
in there). The last card is asked about healthy heads, and about the coverage of its intervals, on
scans made up from the heads (HEADS) that no training learned from.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cascade_bids.bids.scan import Scan
from cascade_bids.lesions.curves import average_precision, count_at_thresholds
from cascade_bids.lesions.metrics import count_lesions, dice
from cascade_bids.network.cascade import Stage, load_stages, run_cascade
from cascade_bids.network.jets import JetNetwork
from cascade_bids.network.weights import load_card, weights_id
from cascade_bids.training.answers import ask, ask_about_samples
from cascade_bids.training.calibration import Calibration, describe
from cascade_bids.training.cases import Case
from cascade_bids.training.config import known_participants
from cascade_bids.training.engine import Engine, make_up_scan
from cascade_bids.training.heads import load_donors, load_heads
from cascade_bids.training.held_out import HeldOut

CPU = torch.device("cpu")
HEALTHY = 16
"""Healthy heads that are made up."""
COVERED = 20
"""Samples on which the interval of the load is checked."""


@dataclass(frozen=True)
class Condition:
    """How a method is asked about a scan."""

    change: Callable[[Tensor], Tensor]
    """What is done to the contrasts, (C, X, Y, Z) float32, before."""
    mirrored: bool = False
    """Whether it is asked about the mirrored head too."""


def read_cases(work_dir: Path) -> list[Case]:
    """Give the prepared scans of a training."""
    settings = json.loads((work_dir / "settings.json").read_text())
    cases = []
    for label in settings["cases"]:
        subject, *session = (part.split("-", 1)[1] for part in label.split("_"))
        scan = Scan(subject, session[0] if session else None, None)
        cases.append(Case(scan, work_dir / "cases" / label, tuple(settings["contrasts"])))
    return cases


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
    """Name the conditions under which a method is asked about a scan."""
    both = keep_contrasts(case, "FLAIR", "T1w")
    return {
        "all contrasts": Condition(lambda volume: volume),
        "T1w+FLAIR": Condition(both),
        "T1w+FLAIR, mirrored too": Condition(both, mirrored=True),
        "FLAIR alone": Condition(keep_contrasts(case, "FLAIR")),
        "T1w+FLAIR, 3 mm slices": Condition(lambda volume: slice_thickly(both(volume))),
    }


def ask_case(
    stages: Sequence[Stage], case: Case, condition: Condition, card: Mapping[str, Any]
) -> HeldOut:
    """Ask the method of a card about a scan under a condition."""
    brain = np.array(case.brain)
    volume = condition.change(case.volume) * torch.from_numpy(brain)
    maps = run_cascade(
        stages,
        dict(zip(case.contrasts, volume.numpy(), strict=True)),
        brain,
        card["contrasts"],
        combination=card["combination"],
        affine=case.affine,
        mirrored=condition.mirrored,
    )
    return HeldOut(maps.probability, np.array(case.reference))


def rule_of(card: Path) -> Calibration:
    """Read the calibration of a card."""
    entries = load_card(str(card))
    given = {name: entries[name] for name in Calibration.__dataclass_fields__ if name in entries}
    return Calibration(**{"temperature": 1.0, "peak": entries["threshold"], **given})


def score(found: HeldOut, rule: Calibration) -> dict[str, float]:
    """Score the mask that a rule makes of an answer."""
    scaled = found.scale(rule.temperature)
    mask = scaled.label(rule) > 0
    counts = count_lesions(mask, found.lesions)
    return {
        "DSC": dice(mask, found.lesions),
        "LTPR": counts.ltpr,
        "LFPR": counts.lfpr,
        "L-F1": counts.lf1,
        "load_ml": mask.sum() / 1000,
        "true_ml": found.true_load_ml,
    }


def load_made_up(card: Path) -> list[Stage]:
    """Load the stages of a method, with the experts of made-up scans alone."""
    stages = load_stages(str(card), device=CPU)
    for stage in stages:
        if isinstance(stage.network, JetNetwork):
            stage.network.experts = stage.network.experts[:1]
    return stages


def score_left_out(
    cases: Sequence[Case], folds: Path, cards: Sequence[Path], *, made_up: bool = False
) -> list[dict[str, object]]:
    """Score the weights of folds and further cards on scans that they have not learned from."""
    rows = []
    for card in [*sorted(folds.glob("*/weights/*.json")), *([] if made_up else cards)]:
        entries = load_card(str(card))
        known = known_participants(entries)
        stages = load_made_up(card) if made_up else load_stages(str(card), device=CPU)
        rules = {"own": rule_of(card)}
        name = card.stem
        if folds in card.parents:
            name = f"without {card.parent.parent.name}"
            rules["last"] = rule_of(cards[-1])
        for case in cases:
            if f"sub-{case.scan.subject}" in known:
                continue
            for given, condition in conditions(case).items():
                found = ask_case(stages, case, condition, entries)
                # No rule has a part in it.
                ap = average_precision(count_at_thresholds(found.probability, found.lesions))
                for which, rule in rules.items():
                    row = {"weights": name, "scan": case.label, "given": given, "rule": which}
                    rows.append({**row, "AP": ap, **score(found, rule)})
    return rows


def measure_healthy(card: Path, engine: Engine) -> list[dict[str, object]]:
    """Measure what is found in healthy heads, whose contrasts are drawn."""
    stages, rule = load_stages(str(card), device=CPU), rule_of(card)
    combination = load_card(str(card))["combination"]
    heads = engine.to_check().heads
    rows: list[dict[str, object]] = []
    for number in range(HEALTHY):
        rng = torch.Generator().manual_seed(2 * 10**9 + number)
        sample = make_up_scan(heads[number % len(heads)], [], engine.contrasts, rng)
        channels = zip(engine.contrasts, sample.volume, strict=True)
        scaled = ask(stages, sample, engine.contrasts, combination).scale(rule.temperature)
        labels = scaled.label(rule)
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
    parser.add_argument("heads", type=Path)
    parser.add_argument("--card", type=Path, nargs="+", required=True)
    parser.add_argument("--folds", type=Path, help="weights of folds that lie elsewhere")
    parser.add_argument("--out", type=Path, required=True, help="keeps what was drawn and found")
    options = parser.parse_args()
    cases, last = read_cases(options.work), options.card[-1]
    folds = options.folds or options.work / "folds"
    show("Left-out scans", score_left_out(cases, folds, options.card))
    alone = score_left_out(cases, folds, options.card, made_up=True)
    show("Left-out scans, experts of made-up scans alone", alone)
    heads = tuple(load_heads(options.heads, options.work / "prepared" / "heads"))
    engine = Engine(cases[0].contrasts, heads, tuple(load_donors(options.dataset)))
    show(f"Healthy heads, {last.stem}", measure_healthy(last, engine))
    kept = options.out / weights_id(str(last))[:12]
    stages = load_stages(str(last), device=CPU)
    combination = load_card(str(last))["combination"]
    samples = ask_about_samples(
        stages, engine, kept, combination=combination, seed=2 * 10**6, count=COVERED
    )
    checked = describe(samples, rule_of(last))
    show(f"Calibration of {last.stem} on {COVERED} samples", [dict(checked)])


if __name__ == "__main__":
    main()
