"""Compare criteria of change on painted lesions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.change.pairs import ENLARGED, NEW
from benchmarks.cross_validation import show
from cascade_bids.bids.change_outputs import change_paths
from cascade_bids.bids.outputs import find_stats, output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.change.compare import expected_white_matter, find_states, measure_intervals
from cascade_bids.change.detect import CRITERION, ChangeCriterion
from cascade_bids.change.regions import Region
from cascade_bids.change.table import change_table
from cascade_bids.change.track import track_lesions
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.preprocess.resample import resample
from cascade_bids.transforms import read_transform

VALUES = {
    "peak": (0.06, 0.12, 0.2, 0.3),
    "strength": (4.0, 5.0, 6.0, 7.0),
    "part": (0.75, 0.8, 0.83),
}
"""Values that are tried, one by one, from `CRITERION` on."""

MOST_WRONG = 0.2
"""New lesions where there are none that a criterion may report in a pair."""


@dataclass(frozen=True)
class Pair:
    """Two sessions of a head in common space, and the lesions painted into it."""

    regions: list[list[Region]]
    probabilities: np.ndarray
    truth: np.ndarray
    lesions: pd.DataFrame
    point: OperatingPoint


def compare_criteria(datasets: Sequence[tuple[Path, Path]]) -> None:
    """Print how well each criterion does: one value after the other is chosen.

    Of those with few new lesions where there are none, the one with the highest mean is.

    Parameters
    ----------
    datasets
        Painted datasets, and their results.
    """
    pairs = [pair for bids, out in datasets for pair in _read_pairs(bids, out)]
    best, most = CRITERION, _score(pairs, CRITERION)
    show("criterion", pd.DataFrame([{**vars(best), **most}]))
    for name, values in VALUES.items():
        rows = []
        for value in values:
            criterion = replace(best, **{name: value})
            rows.append({**vars(criterion), **_score(pairs, criterion)})
        show(name, pd.DataFrame(rows))
        allowed = [row for row in rows if row["wrong_new"] <= MOST_WRONG * len(pairs)]
        chosen = max(allowed or rows, key=lambda row: row["mean"])
        best = replace(best, **{name: chosen[name]})
    print("chosen:", best)


def _read_pairs(bids: Path, out: Path) -> Iterator[Pair]:
    lesions = pd.read_csv(bids / "truth" / "lesions.tsv", sep="\t")
    for name, own in lesions.groupby("head"):
        scans = [
            Scan(found["subject"], found["session"], found.get("run"))
            for found, _ in find_stats(out, str(name))
        ]
        paths = [change_paths(out, scan) for scan in scans]
        flairs = [nib.load(path["common_flair"]) for path in paths]
        shape, affine = flairs[0].shape, flairs[0].affine
        places = [read_transform(path["from_common"]) for path in paths]
        brain = np.asarray(nib.load(paths[0]["common_brain"]).dataobj) > 0
        probabilities = np.stack(
            [
                _bring(output_path(out, scan, "lesion_probseg"), shape, affine, place, order=1)
                for scan, place in zip(scans, places, strict=True)
            ]
        )
        template = output_path(out, scans[0], "xfm", from_="FLAIR", to="MNI152NLin2009aSym")
        to_template = np.linalg.inv(read_transform(template)) @ places[0]
        regions = measure_intervals(
            np.stack([np.asarray(flair.dataobj) for flair in flairs]),
            probabilities,
            brain,
            expected_white_matter(shape, affine, to_template),
        )
        truth = _bring(bids / "truth" / f"{name}_2.nii.gz", shape, affine, places[1], order=0)
        stats = pd.read_json(output_path(out, scans[0], "stats"), typ="series")
        point = OperatingPoint(stats["threshold"], stats["min_lesion_mm3"], stats["peak"])
        yield Pair(regions, probabilities * brain, truth, own, point)


def _bring(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, place: np.ndarray, *, order: int
) -> np.ndarray:
    return np.asarray(resample(nib.load(path), shape, affine, place, order=order).dataobj)


def _score(pairs: list[Pair], criterion: ChangeCriterion) -> dict[str, float]:
    """Compute the lesion F1 of new and of enlarged lesions, DSC of new ones, and the mean."""
    overlap = np.zeros(2)
    counts = {kind: np.zeros(3) for kind in (NEW, ENLARGED)}
    for pair in pairs:
        states = find_states(pair.regions, pair.probabilities, pair.point, criterion, voxel_mm3=1.0)
        track = track_lesions(states)
        table = change_table(
            track, ("a", "b"), voxel_mm3=1.0, min_change_mm3=criterion.min_mm3, locations=None
        )
        for kind in counts:
            reported = table.loc[table["class"] == kind, "lesion"]
            painted = pair.lesions.loc[pair.lesions["kind"] == kind, "lesion"]
            is_reported = np.isin(track.labels[1], reported)
            found = np.unique(pair.truth[is_reported])
            if kind == NEW:
                is_painted = np.isin(pair.truth, painted)
                both = np.count_nonzero(is_painted & is_reported)
                overlap += 2 * both, is_painted.sum() + is_reported.sum()
            wrong = [
                number
                for number in reported
                if not np.isin(pair.truth[track.labels[1] == number], painted).any()
            ]
            counts[kind] += len(painted), int(np.isin(painted, found).sum()), len(wrong)
    scores = {
        kind: 2 * found / (painted + found + wrong)
        for kind, (painted, found, wrong) in counts.items()
    }
    scores["DSC"] = overlap[0] / overlap[1]
    return {
        **scores,
        "wrong_new": counts[NEW][2],
        "wrong_enlarged": counts[ENLARGED][2],
        "mean": float(np.mean(list(scores.values()))),
    }
