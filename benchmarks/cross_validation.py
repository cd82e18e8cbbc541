"""Score a cross-validation: by source, by what was given, and far from every lesion.

Usage: python benchmarks/cross_validation.py WORK [WORK …]

WORK is the work folder of ``cascade-bids crossval``. Every scan is scored on the grid of its FLAIR,
at the operating point that its fold got without it; the interval of its load is found without it
too. Stage 1 alone gets an operating point of its own. A participant counts once, with the mean of
the scans; lesions are 26-connected and found by any overlap. `far_ml` is what is found farther than
5 mm from every lesion, `beyond_ml` what is left of that when lesions reach into the slices beside
theirs, since slices may lie farther apart than that.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from cascade_bids.cli.main import main as call
from cascade_bids.lesions.uncertainty import expected_error_ml, load_interval_ml
from cascade_bids.metrics.overlap import count_lesions, dice
from cascade_bids.models.card import load_card
from cascade_bids.training.calibration.calibrate import Calibration, calibrate_each
from cascade_bids.training.calibration.out_of_fold import Prediction, read_prediction

FAR_MM = 5.0
"""What is found farther than this from every lesion is told apart."""

LARGE_ML = 2.0
"""Of smaller loads no ratio is taken."""

WIDE_ML = 3.0
"""Of smaller loads the width of the interval is not taken."""

NOTHING = "nothing"
"""Of a scan that was predicted as it is."""


class Found(NamedTuple):
    """A prediction of a scan that its fold has not learned from."""

    fold: Path
    source: str
    scan: str
    without: str
    """What was hidden of it."""
    prediction: Prediction

    @property
    def participant(self) -> str:
        """Whose scan it is."""
        return self.scan.split("_")[0]


def read_folds(work: Path, stage: str = "") -> list[Found]:
    """Read the predictions of a cascade, or of its stages until one."""
    found = []
    for path in sorted(work.glob("folds/*/found/*/*.npz")):
        name = re.fullmatch(r"(.+?)(?:_without-(.+?))?(?:_stage-(.+))?", path.stem)
        if (name[3] or "") == stage:
            one = read_prediction(path)
            found.append(Found(path.parents[2], path.parent.name, name[1], name[2] or NOTHING, one))
    return found


def find_calibrations(found: Sequence[Found]) -> dict[Path, Calibration]:
    """Return the calibration of each fold: what its card states, which comes from the others."""
    paths = {one.fold: next(one.fold.glob("weights/*.json"), None) for one in found}
    if not any(paths.values()):  # of `ensemble`, which trains nothing
        return calibrate(found)
    cards = {fold: load_card(str(path)) for fold, path in paths.items()}
    # Of a published method the card states the operating point alone.
    return {
        fold: Calibration(card.operating_point, card.load_factor, card.confidence)
        for fold, card in cards.items()
    }


def group_people(found: Sequence[Found]) -> dict[Path, list[list[Prediction]]]:
    """Return the predictions of each participant of each fold."""
    people: dict[Path, dict[tuple[str, str], list[Prediction]]] = {}
    for one in found:
        own = people.setdefault(one.fold, {})
        own.setdefault((one.source, one.participant), []).append(one.prediction.crop())
    return {fold: list(own.values()) for fold, own in people.items()}


def calibrate(found: Sequence[Found]) -> dict[Path, Calibration]:
    """Find the calibration of each fold on the others."""
    people = group_people(found)
    each = calibrate_each(list(people.values()), [()] * len(people))
    return dict(zip(people, each, strict=True))


def score(
    work: Path, found: Sequence[Found], calibrations: Mapping[Path, Calibration]
) -> pd.DataFrame:
    """Score every prediction; a row for each scan and what was hidden of it."""
    return pd.DataFrame([_score(work, one, calibrations[one.fold]) for one in found])


def cross_validate(work: Path, shared: Path, arguments: Sequence[str]) -> pd.DataFrame:
    """Run ``cascade-bids crossval`` in a work folder; score every scan with all that there is.

    Folders of the same `shared` share the prepared scans.
    """
    work.mkdir(parents=True, exist_ok=True)
    for name in ("cases", "prepared"):
        (shared / name).mkdir(parents=True, exist_ok=True)
        if not (work / name).exists():
            (work / name).symlink_to((shared / name).absolute())
    code = call(["crossval", *arguments, "--out", str(work / "out"), "-w", str(work)])
    if code:
        raise SystemExit(code)
    found = [one for one in read_folds(work) if one.without == NOTHING]
    return score(work, found, find_calibrations(found))


def parse_with_rest(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line until ``--``; return what follows as it is."""
    own, rest = sys.argv[1:], []
    if "--" in own:
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    return parser.parse_args(own), rest


def is_far(lesions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return what lies farther than `FAR_MM` from every lesion; all of it if there is none."""
    if not lesions.any():
        return np.ones(lesions.shape, bool)
    return ndimage.distance_transform_edt(~lesions, sizes) > FAR_MM


def reach_next_slices(lesions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Carry lesions on into the slices beside their own."""
    along = [1, 1, 1]
    along[int(np.argmax(sizes))] = 3
    return ndimage.binary_dilation(lesions, np.ones(along, bool))


def _score(work: Path, of: Found, calibration: Calibration) -> dict[str, object]:
    one, point = of.prediction, calibration.operating_point
    found = one.label(point) > 0
    counts = count_lesions(found, one.lesions)
    affine = np.load(work / "cases" / of.source / of.scan / "reference_affine.npy")
    sizes = nib.affines.voxel_sizes(affine)
    far = found & is_far(one.lesions, sizes)
    beyond = found & is_far(reach_next_slices(one.lesions, sizes), sizes)
    load, low, high = one.load_ml(point), np.nan, np.nan
    if calibration.load_factor is not None:
        error = expected_error_ml(one.probability, one.voxel_mm3)
        low, high = load_interval_ml(load, error, calibration.load_factor)
    return {
        "source": of.source,
        "scan": of.scan,
        "participant": of.participant,
        "without": of.without,
        "threshold": point.threshold,
        "DSC": dice(found, one.lesions),
        "L-F1": counts.lf1,
        "load_ml": load,
        "true_ml": one.true_load_ml,
        "far_ml": far.sum() * one.voxel_mm3 / 1000,
        "beyond_ml": beyond.sum() * one.voxel_mm3 / 1000,
        "low_ml": low,
        "high_ml": high,
    }


def average(table: pd.DataFrame) -> pd.DataFrame:
    """Return means of each source and of all, a participant counting once."""
    measures = ["DSC", "L-F1", "far_ml", "beyond_ml"]
    people = table.groupby(["source", "participant"])[measures].mean()
    rows = {source: people.loc[source].mean() for source in dict.fromkeys(table["source"])}
    rows["all"] = people.mean()
    for name, part in [*table.groupby("source"), ("all", table)]:
        large = part[part["true_ml"] >= LARGE_ML]
        ratio = large["load_ml"] / large["true_ml"]
        rows[name]["load ratio"] = ratio.median()
        rows[name]["within 0.67 to 1.5"] = ratio.between(0.67, 1.5).mean()
        known = part.dropna(subset="low_ml")
        rows[name]["in interval"] = known.eval("low_ml <= true_ml <= high_ml").mean()
        width = known.query(f"load_ml > {WIDE_ML}").eval("(high_ml - low_ml) / load_ml")
        rows[name]["width / load"] = width.median()
    return pd.DataFrame(rows).T


def pick_scans(table: pd.DataFrame, of: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of those scans that another table has."""
    scans = ["source", "scan"]
    return table.merge(of[scans].drop_duplicates(), on=scans)


def show(title: str, table: pd.DataFrame, *, index: bool = True) -> None:
    """Print a table."""
    print(f"\n{title}\n{table.to_string(index=index, float_format='{:.3f}'.format)}", flush=True)


def main() -> None:
    """Print the tables of each cross-validation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, nargs="+")
    for work in parser.parse_args().work:
        found = read_folds(work)
        table = score(work, found, find_calibrations(found))
        given = table[table["without"] == NOTHING]
        show(f"{work}: each scan", given.drop(columns=["without", "participant"]), index=False)
        show("with all that there is", average(given))
        for without, part in table[table["without"] != NOTHING].groupby("without"):
            show(f"without {without}", average(part))
            show("the same scans with it", average(pick_scans(given, part)))
        first = read_folds(work, stage="1")
        if first:
            show("stage 1 alone", average(score(work, first, calibrate(first))))


if __name__ == "__main__":
    main()
