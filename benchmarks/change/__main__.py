"""Count which change is found on scans whose change is known.

Usage: python -m benchmarks.change DATA OUT {base,fit,painted,rescans,reference}

DATA holds openms-raw, ms3seg-raw, openms-mni and mslesseg-mni; OUT keeps results, and what is there
is not done again. `base` processes the raw ones. `fit` paints lesions into the heads of ms3seg-raw,
and into those of the last two, cut into slices, and compares criteria on them.
The others score the criterion of the program: `painted` on lesions that are painted into the heads
of openms-raw, `rescans` on three rescans of every head, where nothing changed, and `reference` on
the change that raters saw in sub-01 of openms-raw.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.change.fit import compare_criteria
from benchmarks.change.heads import Head, read_heads
from benchmarks.change.lesions import read_shapes
from benchmarks.change.pairs import ENLARGED, GONE, NEW, write_painted, write_rescans
from benchmarks.change.score import count_invented, score_painted, summarise
from benchmarks.change.slices import read_sliced
from benchmarks.cross_validation import show

RAW = {"openms": "openms-raw", "ms3seg": "ms3seg-raw"}
FITTED = ("sliced", "ms3seg")
"""What criteria are compared on."""
COUNTS = {
    "openms": {NEW: 15, ENLARGED: 5, GONE: 5},
    "ms3seg": {NEW: 6, ENLARGED: 4, GONE: 6},
    "sliced": {NEW: 12, ENLARGED: 8, GONE: 4},
}
"""Lesions painted into each head."""
SMALLEST_MM3 = {"openms": 5.0, "ms3seg": 20.0, "sliced": 5.0}
"""Of painted lesions: voxels of ms3seg-raw have 6 mm³."""
OPTIONS = {"sliced": ("--skull-strip", "skip")}
"""Of the runs on brains without a skull."""


def process(bids: Path, out: Path, *options: str) -> None:
    """Run the participant level, unless it has been run."""
    if not (out / "done").exists():
        program = Path(sys.executable).with_name("cascade-bids")
        command = [str(program), str(bids), str(out), "participant", "-w", str(out) + "-work"]
        subprocess.run([*command, *options], check=True)
        (out / "done").touch()


def base(data: Path, out: Path) -> dict[str, list[Head]]:
    """Process the raw heads, and read them with their results."""
    heads = {}
    for name, folder in RAW.items():
        process(data / folder, out / f"base-{name}")
        heads[name] = read_heads(data / folder, out / f"base-{name}", name)
    return heads


def painted(data: Path, out: Path, name: str) -> Path:
    """Paint lesions into the heads of a dataset, and process them."""
    bids = out / f"painted-{name}"
    if not bids.exists():
        heads = read_sliced(data) if name == "sliced" else base(data, out)[name]
        shapes = read_shapes(data / "openms-mni")
        write_painted(heads, bids, shapes, COUNTS[name], SMALLEST_MM3[name])
    process(bids, out / f"painted-{name}-out", *OPTIONS.get(name, ()))
    return bids


def rescans(data: Path, out: Path) -> None:
    """Print what is reported between rescans."""
    for name in RAW:
        bids = out / f"rescans-{name}"
        if not bids.exists():
            write_rescans(base(data, out)[name], bids)
        process(bids, out / f"rescans-{name}-out")
        table = count_invented(out / f"rescans-{name}-out")
        show(f"{name}, each pair", table)
        show(f"{name}, mean of {len(table)} pairs", table.mean(numeric_only=True).to_frame().T)


def reference(data: Path, out: Path) -> None:
    """Print how much of the change that raters saw in sub-01 is found."""
    base(data, out)
    stem = Path("sub-01", "ses-2", "anat", "sub-01_ses-2_space-FLAIR_desc-change")
    raters = data / RAW["openms"] / "derivatives" / "reference"
    image = nib.load(raters / f"{stem}_label-lesion_mask.nii.gz")
    true = np.asarray(image.dataobj) > 0
    drawn = np.asarray(nib.load(out / "base-openms" / f"{stem}_dseg.nii.gz").dataobj)
    found = np.isin(drawn, (1, 2))
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    print(
        f"sub-01: {(found & true).sum() / true.sum():.2f} of {true.sum() * voxel_ml:.2f} ml found "
        f"as new or enlarged; {(found & ~true).sum() * voxel_ml:.2f} ml elsewhere"
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=("base", "fit", "painted", "rescans", "reference"))
    options = parser.parse_args()
    data, out = options.data.resolve(), options.out.resolve()
    if options.what == "base":
        base(data, out)
    elif options.what == "fit":
        compare_criteria(
            [(painted(data, out, name), out / f"painted-{name}-out") for name in FITTED]
        )
    elif options.what == "painted":
        bids = painted(data, out, "openms")
        show("painted lesions", summarise(score_painted(bids, out / "painted-openms-out")))
    elif options.what == "rescans":
        rescans(data, out)
    else:
        reference(data, out)


if __name__ == "__main__":
    main()
