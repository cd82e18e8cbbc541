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

from cascade_bids.bids.outputs import find_stats, output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.metrics.overlap import dice, mean_displacement_mm
from cascade_bids.models.card import load_card
from cascade_bids.transforms import read_transform


def compare_scan(scan: Scan, output_dir: Path, reference_dir: Path) -> dict[str, object]:
    """Compare one scan's brain mask and transform with the reference."""
    found, reference = (
        nib.load(output_path(root, scan, "brain_mask")) for root in (output_dir, reference_dir)
    )
    inside = np.asarray(reference.dataobj) > 0
    points = apply_affine(reference.affine, np.argwhere(inside)[::20])
    transforms = (
        read_transform(output_path(root, scan, "xfm", from_="T1w", to="FLAIR"))
        for root in (output_dir, reference_dir)
    )
    displacement = mean_displacement_mm(*transforms, points)
    numbers = pd.read_json(output_path(output_dir, scan, "stats"), typ="series")
    return {
        "scan": scan.label,
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
    scans = [
        Scan(entities["subject"], entities.get("session"), entities.get("run"))
        for entities, _ in find_stats(options.output_dir)
    ]
    rows = [compare_scan(scan, options.output_dir, reference) for scan in scans]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    scores = pd.DataFrame(load_card("valverde2017").entries()["cross_validation"]["scans"]).T
    print("\nvalverde2017, leave-one-out scores of its card:\n" + scores.to_string())


if __name__ == "__main__":
    main()
