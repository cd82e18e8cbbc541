"""Measure the default method against its bars, in one table.

Usage: python -m benchmarks.figures DATA OUT [--folds WORK] [--sources WORK WORK] [--published WORK]

DATA holds the labelled datasets, the raw sessions and the label maps. The first WORK is that of
``benchmarks.ensemble``; the others are those of ``cascade-bids crossval``: of `cascade` on folds by
participant and by source, and of `valverde2017` on folds by participant. OUT keeps what the shipped
weights find. Speed has its own command, ``make bench``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.cross_validation import (
    NOTHING,
    average,
    find_calibrations,
    pick_scans,
    read_folds,
    score,
    show,
)
from benchmarks.stability import EXTRACTED, compare_sessions, measure_shifts, run_pipeline
from benchmarks.weights import measure_healthy
from cascade_bids.models.card import load_card
from cascade_bids.training.data.label_maps import load_label_maps
from cascade_bids.training.synthesis.generator import ScanGenerator

METHOD = "ensemble"
CONTRASTS = ("FLAIR", "T1w", "T2w")
ALONE = "T1w+T2w"
"""What is hidden when the FLAIR is alone."""

BARS = {"openms-mni": ">= 0.70", "ms3seg-raw": ">= 0.68"}
"""Lowest DSC of sources."""

VISITED = "mslesseg-mni/sub-14"
"""Participant with a bar of their own."""


class Figure(NamedTuple):
    """A line of the table."""

    what: str
    found: float
    bar: str


def score_folds(work: Path) -> pd.DataFrame:
    """Score the scans of a cross-validation; see `cross_validation.score`."""
    found = read_folds(work)
    return score(work, found, find_calibrations(found))


def measure_folds(table: pd.DataFrame) -> Iterator[Figure]:
    """Measure a cross-validation on folds by participant."""
    whole = table[table["without"] == NOTHING]
    means = average(whole)
    every = means.loc["all"]
    yield Figure("out of fold, all: DSC", every["DSC"], ">= 0.70")
    yield Figure("out of fold, all: L-F1", every["L-F1"], ">= 0.75")
    for source, bar in BARS.items():
        yield Figure(f"{source}: DSC", means.loc[source, "DSC"], bar)
    source, person = VISITED.split("/")
    own = whole[(whole["source"] == source) & (whole["participant"] == person)]
    yield Figure(f"{VISITED}: DSC", own["DSC"].mean(), ">= 0.78")
    yield Figure("load found : true, median", every["load ratio"], "0.9 to 1.1")
    yield Figure("... within 0.67 to 1.5", every["within 0.67 to 1.5"], ">= 0.90")
    yield Figure("far from every lesion, ml", whole["far_ml"].mean(), "<= 0.4")
    alone = table[table["without"] == ALONE]
    same = average(pick_scans(whole, alone)).loc["all", "DSC"]
    lost = same - average(alone).loc["all", "DSC"]
    yield Figure("DSC lost with FLAIR alone", lost, "<= 0.04")
    yield Figure("interval holds the load", every["in interval"], ">= 0.85")
    yield Figure("width of the interval / load", every["width / load"], "<= 0.8")


def measure_sources(*tables: pd.DataFrame) -> Iterator[Figure]:
    """Measure what folds by source lose against folds by participant, which come first."""
    means: list[float] = []
    for table in tables:
        by_source = average(table[table["without"] == NOTHING]).drop(index="all")
        means.append(by_source["DSC"].mean())
    yield Figure("DSC lost on unseen sources", means[0] - means[1], "<= 0.08")


def measure_published(work: Path) -> Iterator[Figure]:
    """Measure a cross-validation of `valverde2017`."""
    yield Figure("valverde2017: DSC", average(score_folds(work)).loc["all", "DSC"], ">= 0.50")


def measure_heads(data: Path, out: Path) -> Iterator[Figure]:
    """Measure what the shipped weights find in healthy synthetic heads."""
    maps = load_label_maps(data / "head-labels", out / "label-maps")
    rows = measure_healthy(load_card(METHOD), ScanGenerator(CONTRASTS, tuple(maps), ()))
    mean = pd.DataFrame(rows).iloc[-1]
    yield Figure("healthy heads, mean: ml", mean["load_ml"], "<= 0.3")
    yield Figure("healthy heads, mean: lesions", mean["lesions"], "<= 2")


def measure_stability(data: Path, out: Path) -> Iterator[Figure]:
    """Measure how much the loads of the shipped weights move when they should not."""
    raw = data / "openms-raw"
    run_pipeline(raw, out / "raw", METHOD, "--participant-label", "01")
    same = compare_sessions(raw, out / "raw")["dice"]
    yield Figure("openms-raw sub-01, unchanged: Dice", same, ">= 0.75")
    for source, label, how in (("openms-mni", "19", EXTRACTED), ("ms3seg-raw", "04", ())):
        _, cv = measure_shifts(data / source, label, out, METHOD, *how)
        yield Figure(f"{source} sub-{label}, shifted: CV of the load, %", cv, "<= 3")


def main() -> None:
    """Print each line as soon as it is there, and then all as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--sources", type=Path, nargs=2)
    parser.add_argument("--published", type=Path)
    options = parser.parse_args()
    parts: list[Iterator[Figure]] = []
    if options.folds:
        parts.append(measure_folds(score_folds(options.folds)))
    if options.sources:
        parts.append(measure_sources(*map(score_folds, options.sources)))
    if options.published:
        parts.append(measure_published(options.published))
    parts += [
        measure_heads(options.data, options.out),
        measure_stability(options.data, options.out),
    ]
    figures = []
    for figure in (figure for part in parts for figure in part):
        print(f"{figure.what}: {figure.found:.3f} ({figure.bar})", flush=True)
        figures.append(figure)
    show(METHOD, pd.DataFrame(figures), index=False)


if __name__ == "__main__":
    main()
