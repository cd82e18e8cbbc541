"""Calibrate a method on what it has not learned from: left-out scans, and samples."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import torch

from cascade_bids.files import appearing
from cascade_bids.network.cascade import Stage, run_stages
from cascade_bids.training.calibration import Calibration, fit_rule
from cascade_bids.training.engine import Engine, make_up_scan
from cascade_bids.training.folds import Fold
from cascade_bids.training.held_out import HeldOut
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sample import Sample, optional_contrasts

SAMPLES_OF_FOLD = 10
"""Scans that are made up for each fold."""

SAMPLES_TO_CALIBRATE = 100
"""Scans that are made up for the interval of the load: fewer do not say how rare those are whose
lesions hardly differ from what lies around, which are the ones that make it wide."""

FEW = 1
"""So many participants count together as much as all scans that are made up, which are harder."""


def ask_about_samples(
    stages: Sequence[Stage],
    engine: Engine,
    folder: Path,
    *,
    combination: str,
    seed: int,
    count: int = SAMPLES_OF_FOLD,
) -> list[HeldOut]:
    """Make up scans of the heads that are kept for checking, and ask a method about them.

    Label maps of whole heads are preferred to healthy scans, whose labels are of the brain alone.

    Parameters
    ----------
    stages
        The method, of all contrasts of the engine.
    engine
        Makes up the scans; its lesions may have been learned from.
    folder
        Keeps the answers, which take some seconds each.
    combination
        See `cascade_bids.network.cascade.combine`.
    seed
        Of what is drawn.
    count
        How many scans.

    Returns
    -------
    list of HeldOut
        Cropped; none without heads.
    """
    checking = engine.to_check()
    heads = checking.label_maps or checking.healthy
    found = []
    for number in range(count if heads else 0):
        path = folder / f"{number}.npz"
        if not path.exists():
            head = heads[number % len(heads)]
            # Far from the seeds of the training.
            rng = torch.Generator().manual_seed(10**9 + 1000 * seed + number)
            sample = make_up_scan(head, engine.donors, engine.contrasts, rng)
            keep(ask(stages, sample, engine.contrasts, combination), path)
        # A hundred whole ones would take gigabytes.
        found.append(read(path).crop())
    return found


def ask(
    stages: Sequence[Stage], sample: Sample, contrasts: Sequence[str], combination: str
) -> HeldOut:
    """Ask the stages of a cascade about a sample."""
    flair = sample.volume[contrasts.index("FLAIR")].numpy()
    places = sample.places.numpy()
    brain = sample.brain.numpy()
    maps = run_stages(stages, sample.volume, flair, brain, combination=combination, places=places)
    return HeldOut(maps.probability, sample.lesions.numpy())


def ask_about_left_out(fold: Fold, stages: Sequence[Stage], recipe: Recipe) -> None:
    """Ask a fold's method about the scans that are left out, as often as `choose_hidden` says."""
    for case in fold.tested:
        for hidden in choose_hidden(case.contrasts, recipe):
            volume = case.volume.clone()
            volume[[case.contrasts.index(name) for name in hidden]] = 0
            maps = run_stages(
                stages,
                volume,
                case.flair,
                case.brain,
                combination=recipe.combination,
                places=case.places,
            )
            keep(HeldOut(maps.probability, case.reference), fold.answer(case, hidden))


def choose_hidden(contrasts: Sequence[str], recipe: Recipe) -> list[tuple[str, ...]]:
    """Say what is hidden in turn: nothing, then every choice of contrasts that may be missing.

    The rule is to hold for patients of whom there are fewer contrasts too.
    """
    optional = optional_contrasts(contrasts) if recipe.from_samples else []
    return [
        chosen for count in range(len(optional) + 1) for chosen in combinations(optional, count)
    ]


def is_done(fold: Fold, recipe: Recipe) -> bool:
    """Say whether a fold's method has been asked about all that is left out."""
    return all(
        fold.answer(case, hidden).exists()
        for case in fold.tested
        for hidden in choose_hidden(case.contrasts, recipe)
    )


def keep(one: HeldOut, path: Path) -> None:
    """Write an answer."""
    with appearing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, probability=one.probability, lesions=one.lesions)


def read(path: Path) -> HeldOut:
    """Read an answer that `keep` wrote."""
    with np.load(path) as arrays:
        return HeldOut(arrays["probability"], arrays["lesions"])


def weigh(people: Sequence[Sequence[HeldOut]], samples: Sequence[HeldOut]) -> list[HeldOut]:
    """Let n participants together count for n / (n + `FEW`), and samples for the rest.

    The rule that is best for a single patient, with few lesions or with many, is bad for others.
    Of each there are the answers about all scans, for some choices of contrasts, which share the
    participant's weight.
    """
    part = len(people) / (len(people) + FEW) if samples else 1.0
    shares = [(answers, part / len(people)) for answers in people] + [(samples, 1 - part)]
    return [replace(one, weight=share / len(group)) for group, share in shares for one in group]


def calibrate(
    recipe: Recipe, folds: Sequence[Fold]
) -> tuple[list[Calibration], Calibration | None]:
    """Give each fold its calibration, and one for the method that learns from all scans.

    That of a fold comes from the left-out scans of the other folds and the fold's own samples: no
    answer about the scans that are scored with it has a part in it. (The networks of the other
    folds did learn from these scans; only nested cross-validation would do without.)
    """
    if not recipe.from_samples:
        threshold = recipe.threshold
        uncalibrated = Calibration(1.0, threshold, recipe.min_lesion_mm3, threshold)
        return [uncalibrated] * len(folds), None
    people = [_read_answers(fold, recipe) for fold in folds]
    samples = [
        [read(path).crop() for path in sorted(fold.samples.glob("[0-9]*.npz"))] for fold in folds
    ]
    own = []
    for number, made_up in enumerate(samples):
        others = chain.from_iterable(people[:number] + people[number + 1 :])
        own.append(fit_rule(weigh(list(others), made_up)))
    everyone, everything = list(chain.from_iterable(people)), list(chain.from_iterable(samples))
    return own, fit_rule(weigh(everyone, everything))


def _read_answers(fold: Fold, recipe: Recipe) -> list[list[HeldOut]]:
    """Read the answers about each participant who is left out."""
    people: dict[str, list[HeldOut]] = {}
    for case in fold.tested:
        paths = [fold.answer(case, names) for names in choose_hidden(case.contrasts, recipe)]
        people.setdefault(case.scan.subject, []).extend(read(path).crop() for path in paths)
    return list(people.values())
