"""Score a cross-validation: by source, by what was given, and far from every lesion.

Usage: python benchmarks/cross_validation.py WORK [WORK …]

WORK is the work folder of ``cascade-bids crossval``. Every scan is scored on the grid of its FLAIR,
at the operating point that its fold got without it. A participant counts once, with the mean of the
scans; lesions are 26-connected and found by any overlap.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from cascade_bids.metrics.overlap import count_lesions, dice
from cascade_bids.models.card import load_card
from cascade_bids.training.calibration.out_of_fold import read_prediction

FAR_MM = 5.0
"""What is found farther than this from every lesion is told apart."""

LARGE_ML = 2.0
"""Of smaller loads no ratio is taken."""


def score_folds(work: Path) -> pd.DataFrame:
    """Score every prediction of the folds; a row for each scan and what was given of it."""
    return pd.DataFrame(_rows(work))


def _rows(work: Path) -> Iterator[dict[str, object]]:
    for card_path in sorted(work.glob("folds/*/weights/*.json")):
        point = load_card(str(card_path)).operating_point
        for path in sorted((card_path.parents[1] / "found").rglob("*.npz")):
            label, _, hidden = path.stem.partition("_without-")
            source = path.parent.name
            one = read_prediction(path)
            found = one.label(point) > 0
            counts = count_lesions(found, one.lesions)
            affine = np.load(work / "cases" / source / label / "reference_affine.npy")
            spacing = nib.affines.voxel_sizes(affine)
            far = found.copy()
            if one.lesions.any():
                far &= ndimage.distance_transform_edt(~one.lesions, spacing) > FAR_MM
            yield {
                "source": source,
                "scan": label,
                "participant": label.split("_")[0],
                "without": hidden or "nothing",
                "threshold": point.threshold,
                "DSC": dice(found, one.lesions),
                "L-F1": counts.lf1,
                "load_ml": one.load_ml(point),
                "true_ml": one.true_load_ml,
                "far_ml": far.sum() * one.voxel_mm3 / 1000,
            }


def average(table: pd.DataFrame) -> pd.DataFrame:
    """Return means of each source and of all, a participant counting once."""
    measures = ["DSC", "L-F1", "far_ml"]
    people = table.groupby(["source", "participant"])[measures].mean()
    rows = {source: people.loc[source].mean() for source in dict.fromkeys(table["source"])}
    rows["all"] = people.mean()
    for name, part in [*table.groupby("source"), ("all", table)]:
        large = part[part["true_ml"] >= LARGE_ML]
        ratio = large["load_ml"] / large["true_ml"]
        rows[name]["load ratio"] = ratio.median()
        rows[name]["within 0.67 to 1.5"] = ratio.between(0.67, 1.5).mean()
    return pd.DataFrame(rows).T


def show(title: str, table: pd.DataFrame, *, index: bool = True) -> None:
    """Print a table."""
    print(f"\n{title}\n{table.to_string(index=index, float_format='{:.3f}'.format)}", flush=True)


def main() -> None:
    """Print the tables of each cross-validation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, nargs="+")
    for work in parser.parse_args().work:
        table = score_folds(work)
        given = table[table["without"] == "nothing"]
        show(f"{work}: each scan", given.drop(columns=["without", "participant"]), index=False)
        for without, part in table.groupby("without"):
            show(f"without {without}", average(part))


if __name__ == "__main__":
    main()
