"""Brain masks and transforms of a run against reference derivatives, one row a scan.

Usage: python benchmarks/accuracy.py BIDS_DIR OUTPUT_DIR

BIDS_DIR holds ``derivatives/reference`` with brain masks and T1w-to-FLAIR transforms; OUTPUT_DIR
holds the derivatives of ``run.py BIDS_DIR OUTPUT_DIR participant``.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from cascade_bids.bids.outputs import find_stats
from cascade_bids.lesions.metrics import dice, mean_displacement_mm
from cascade_bids.network.weights import load_card
from cascade_bids.transforms import read_transform

BRAIN = "_space-FLAIR_desc-brain_mask.nii.gz"
TRANSFORM = "_from-T1w_to-FLAIR_mode-image_xfm.txt"


def compare_scan(stats: Path, output_dir: Path, reference_dir: Path) -> dict[str, object]:
    """Compare one scan's brain mask and transform with the reference."""
    stem = stats.name.removesuffix("_desc-lesions_stats.json")
    folder = reference_dir / stats.parent.relative_to(output_dir)
    found = nib.load(stats.with_name(stem + BRAIN))
    reference = nib.load(folder / (stem + BRAIN))
    inside = np.asarray(reference.dataobj) > 0
    points = apply_affine(reference.affine, np.argwhere(inside)[::20])
    displacement = mean_displacement_mm(
        read_transform(stats.with_name(stem + TRANSFORM)),
        read_transform(folder / (stem + TRANSFORM)),
        points,
    )
    numbers = pd.read_json(stats, typ="series")
    return {
        "scan": stem,
        "brain_dice": dice(np.asarray(found.dataobj) > 0, inside),
        "brain_ml": numbers["icv_ml"],
        "t1w_to_flair_mm": displacement,
        "load_ml": numbers["load_ml"],
        "lesions": numbers["count"],
    }


def main() -> None:
    """Print the table of the scans, and the leave-one-out scores of the method's card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("output_dir", type=Path)
    options = parser.parse_args()
    reference = options.bids_dir / "derivatives" / "reference"
    rows = [
        compare_scan(path, options.output_dir, reference)
        for _, path in find_stats(options.output_dir)
    ]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    scores = pd.DataFrame(load_card("valverde2017")["leave_one_out"]).T
    print("\nvalverde2017, leave-one-out scores of its card:\n" + scores.to_string())


if __name__ == "__main__":
    main()
