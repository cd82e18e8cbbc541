"""Cross-validate `cascade` without one of the random changes of its crops at a time.

Usage: python -m benchmarks.augmentation WORK [--variants NAME …] -- CROSSVAL_OPTIONS

CROSSVAL_OPTIONS are those of ``cascade-bids crossval``, without ``--out`` and ``--work-dir``. Each
variant is a cross-validation of its own in WORK; all share the prepared scans. A run with the same
WORK goes on where it broke off. Prints the mean scores of each source and of all.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pandas as pd

from benchmarks.cross_validation import average, cross_validate, parse_with_rest, show
from cascade_bids.models.cases import Case
from cascade_bids.training.fit import augmented_crops

WHOLE = "all changes"
HARD = "labels without parts of voxels"
VARIANTS = (WHOLE, HARD, *(f"no {change}" for change in augmented_crops.CHANCES))


@contextmanager
def changed(variant: str) -> Iterator[None]:
    """Draw crops as a variant does."""
    if variant == HARD:
        with mock.patch.object(Case, "share", Case.lesions):
            yield
        return
    never = {} if variant == WHOLE else {variant.removeprefix("no "): 0.0}
    with mock.patch.dict(augmented_crops.CHANCES, never):
        yield


def measure(variant: str, work: Path, arguments: list[str]) -> pd.DataFrame:
    """Train and score a variant."""
    with changed(variant):
        table = average(cross_validate(work / variant.replace(" ", "-"), work, arguments))
    show(variant, table)
    return table


def main() -> None:
    """Print a row of each variant for each source and all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options, arguments = parse_with_rest(parser)
    tables = {name: measure(name, options.work, arguments) for name in options.variants}
    show("all variants", pd.concat(tables).swaplevel().sort_index())


if __name__ == "__main__":
    main()
