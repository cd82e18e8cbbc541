"""Tell what of the errors in each source is convention: those near the ventricles apart.

Usage: python -m benchmarks.conventions WORK

WORK is the work folder of ``cascade-bids crossval``. Raters differ in whether caps and smooth rims
of ventricles are lesion. For each source and distance to the fluid of the ventricles, the table has
the volume that is true and the one that is found in a mean scan, how much of the true is found, how
much of the found is true, and the DSC.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from benchmarks.cross_validation import NOTHING, Found, find_calibrations, read_folds, show
from benchmarks.weights import read_cases
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.lesions.location import VENTRICLE, load_atlas
from cascade_bids.models.cases import Case
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.resample import resample

DARK = -3.0
"""Below this the FLAIR, z-scores, shows fluid."""

AROUND = 6
"""Voxels around the ventricles of the atlas in which fluid is theirs."""

EDGES_MM = (0, 3, 6, 12, np.inf)
"""Between these lie the distances of the rows."""


def measure_distance(case: Case) -> np.ndarray:
    """Measure how far each voxel of the FLAIR lies from the fluid of the ventricles, mm."""
    atlas = load_atlas()
    to_atlas = np.linalg.inv(atlas.affine) @ case.to_template
    ventricle = ndimage.affine_transform(
        (np.asarray(atlas.dataobj) == VENTRICLE).astype(np.float32),
        to_atlas[:3, :3],
        to_atlas[:3, 3],
        output_shape=case.brain.shape,
        order=0,
    )
    near = ndimage.binary_dilation(ventricle > 0, iterations=AROUND)
    distance = ndimage.distance_transform_edt(~(near & (case.flair < DARK)))
    # The network grid has voxels of 1 mm.
    image = make_image(distance.astype(np.float32), case.affine)
    shape, affine = case.reference.shape, case.reference_affine
    placed = resample(image, shape, affine, np.linalg.inv(case.to_flair), order=1)
    return np.asarray(placed.dataobj)


def count_by_distance(case: Case, of: Found, point: OperatingPoint) -> list[dict[str, object]]:
    """Count the volumes of each distance, ml."""
    one, distance = of.prediction, measure_distance(case)
    found = one.label(point) > 0
    rows: list[dict[str, object]] = []
    for low, high in pairwise(EDGES_MM):
        within = (distance >= low) & (distance < high)
        masks = {
            "true_ml": one.lesions,
            "found_ml": found,
            "both_ml": found & one.lesions,
        }
        volumes = {
            name: int((mask & within).sum()) * one.voxel_mm3 / 1000 for name, mask in masks.items()
        }
        rows.append({"source": of.source, "scan": of.scan, "from_mm": low, **volumes})
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    cases = {case.label: case for case in read_cases(work)}
    found = [one for one in read_folds(work) if one.without == NOTHING]
    calibrations = find_calibrations(found)
    rows = [
        row
        for one in found
        for row in count_by_distance(
            cases[f"{one.source}/{one.scan}"], one, calibrations[one.fold].operating_point
        )
    ]
    means = pd.DataFrame(rows).groupby(["source", "from_mm"]).mean(numeric_only=True)
    means["found of true"] = means["both_ml"] / means["true_ml"]
    means["true of found"] = means["both_ml"] / means["found_ml"]
    means["DSC"] = 2 * means["both_ml"] / (means["true_ml"] + means["found_ml"])
    show(f"{work}: by the distance to the ventricles", means.drop(columns="both_ml"))


if __name__ == "__main__":
    main()
