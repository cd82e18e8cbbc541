"""How much the load moves when it should not: shifted scans, and two sessions of one patient.

Usage: python benchmarks/stability.py OUT --method METHOD [--shift BIDS_DIR LABEL] [--raw BIDS_DIR]

`--shift` writes five copies of a brain-extracted scan after small rigid motions, and runs the whole
pipeline on each. `--raw` runs it on both sessions of sub-01 of openms-raw, and compares the masks
where the reference sees no change.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from cascade_bids.metrics.overlap import dice
from cascade_bids.transforms import read_transform

SHIFTS = 5
"""Copies of a scan."""
EXTRACTED = ("--skull-strip", "skip")
"""Options for a scan without skull."""
MOST = 3.0
"""Largest turn about each axis in degrees, and shift along it in mm."""


def shift_scan(dataset: Path, label: str, folder: Path) -> None:
    """Write a scan's FLAIR and T1w after small rigid motions, each copy as a participant."""
    rng = np.random.default_rng(0)
    about = {"Name": "shifted", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(json.dumps(about))
    for number in range(SHIFTS):
        turn = Rotation.from_euler("xyz", rng.uniform(-MOST, MOST, 3), degrees=True).as_matrix()
        motion = nib.affines.from_matvec(turn, rng.uniform(-MOST, MOST, 3))
        name = f"sub-{label}shift{number}"
        for contrast in ("FLAIR", "T1w"):
            image = nib.load(next((dataset / f"sub-{label}").rglob(f"*_{contrast}.nii.gz")))
            moved = nib.Nifti1Image(image.get_fdata(dtype=np.float32), motion @ image.affine)
            target = folder / name / "anat" / f"{name}_{contrast}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            # On the grid as it was, so that every voxel is another mixture of the patient.
            resample_from_to(moved, image, order=1).to_filename(target)


def run_pipeline(bids: Path, out: Path, method: str, *options: str) -> pd.DataFrame:
    """Run participant and group level; give the cohort's table."""
    program = Path(sys.executable).with_name("cascade-bids")
    both = [str(program), str(bids), str(out)]
    subprocess.run([*both, "participant", "--method", method, *options], check=True)
    subprocess.run([*both, "group"], check=True)
    return pd.read_csv(out / "lesions.tsv", sep="\t", dtype={"participant_id": str})


def measure_shifts(
    dataset: Path, label: str, out: Path, method: str, *options: str
) -> tuple[pd.Series, float]:
    """Measure the loads, ml, of a scan after small rigid motions, and how they vary: CV, %."""
    bids = out / f"shifted-{label}"
    shift_scan(dataset, label, bids)
    loads = run_pipeline(bids, out / f"shifted-{label}-out", method, *options)["load_ml"]
    return loads, 100 * loads.std() / loads.mean()


def compare_sessions(raw: Path, out: Path) -> dict[str, float]:
    """Compare the masks of sub-01's sessions.

    Returns
    -------
    dict
        ``dice`` of both where the reference sees no change; ``new_ml``, what the reference has that
        is new in the second session, and ``found_ml``, what is found of it there.
    """
    found, changed, to_common = [], [], []
    for session in ("ses-1", "ses-2"):
        folder, name = Path("sub-01", session, "anat"), f"sub-01_{session}"
        reference = raw / "derivatives" / "reference" / folder
        found.append(nib.load(out / folder / f"{name}_space-FLAIR_label-lesion_mask.nii.gz"))
        change = f"{name}_space-FLAIR_desc-change_label-lesion_mask.nii.gz"
        changed.append(nib.load(reference / change))
        from_common = read_transform(reference / f"{name}_from-FLAIR_to-common_mode-image_xfm.txt")
        to_common.append(np.linalg.inv(from_common))

    def compared(number: int, image: nib.Nifti1Image) -> np.ndarray:
        inside = (np.asarray(image.dataobj) > 0).astype(np.float32)
        placed = nib.Nifti1Image(inside, to_common[number] @ image.affine)
        grid = (found[0].shape, to_common[0] @ found[0].affine)
        return resample_from_to(placed, grid, order=1).get_fdata() >= 0.5

    first, second = (compared(number, image) for number, image in enumerate(found))
    lost, new = (compared(number, image) for number, image in enumerate(changed))
    voxel_ml = abs(np.linalg.det(found[0].affine)) / 1000
    return {
        "dice": dice(first & ~(lost | new), second & ~(lost | new)),
        "new_ml": new.sum() * voxel_ml,
        "found_ml": (second & new).sum() * voxel_ml,
    }


def main() -> None:
    """Print a line for each question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--shift", nargs=2, metavar=("BIDS_DIR", "LABEL"))
    parser.add_argument("--raw", type=Path, metavar="BIDS_DIR")
    options = parser.parse_args()
    if options.shift:
        dataset, label = options.shift
        loads, cv = measure_shifts(Path(dataset), label, options.out, options.method, *EXTRACTED)
        print(f"sub-{label}, {SHIFTS} rigid shifts: {loads.tolist()} ml, CV {cv:.1f} %")
    if options.raw:
        out = options.out / "raw"
        table = run_pipeline(options.raw, out, options.method, "--participant-label", "01")
        compared = compare_sessions(options.raw, out)
        print(
            f"sub-01, two sessions: {table['load_ml'].tolist()} ml, Dice where nothing changed "
            f"{compared['dice']:.3f}, {compared['found_ml']:.2f} of {compared['new_ml']:.2f} ml of "
            "new lesions found"
        )


if __name__ == "__main__":
    main()
