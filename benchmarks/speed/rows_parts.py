"""Rows of parts of a run: the search for scans, the networks on CPU and GPU, dense evaluation."""

from functools import partial
from pathlib import Path

import nibabel as nib
import torch

from benchmarks.speed.builds import Bench, SkipError
from benchmarks.speed.datasets import write_empty_dataset
from benchmarks.speed.measure import measure_in_turn, run_probe
from benchmarks.speed.rows_program import temporary_folder
from benchmarks.speed.table import Row, answer, compare
from cascade_bids.metrics.overlap import dice

BRAIN = "sub-19"
"""Of openms-mni: three contrasts without skull, 182 x 218 x 182 voxels of 1 mm, 49 ml of lesion."""

THREADS = 2
"""Of the networks that are compared."""

MIN_DICE = 0.99
"""Lowest DSC of the masks of GPU and CPU."""

LARGEST = 10_000
"""Participants for which there is a bar."""


def measure_discovery(bench: Bench, which: str, bar: float) -> list[Row]:
    """Measure how long the scans of ``one`` participant or of ``all`` are looked for."""
    rows = []
    for count in (10, 1000, LARGEST):
        dataset = write_empty_dataset(bench.folder / f"empty-{count}", count)
        labels = ["00007"] if which == "one" else []
        variants = {
            "find_scans": partial(run_probe, "find_scans", dataset, *labels),
            "os.walk": partial(run_probe, "walk", dataset),
        }
        costs = measure_in_turn(variants, bench.repeats)
        what = f"scans of {which} of {count} participants : os.walk of the dataset"
        row = compare(
            f"discovery_{which}_{count}",
            what,
            costs["find_scans"],
            costs["os.walk"],
            of="wall",
            bar=bar if count == LARGEST else None,
            build=bench.this.state,
            base="os.walk",
            notes="empty FLAIR, T1w and T2w with sidecars; imports excluded",
        )
        rows.append(row)
    return rows


def measure_dense(bench: Bench) -> list[Row]:
    """Measure dense evaluation of a patch-based network, beside patch by patch."""
    variants = {way: partial(run_probe, "dense", way) for way in ("dense", "patches")}
    costs = measure_in_turn(variants, bench.repeats)
    row = compare(
        "dense",
        "dense evaluation of valverde2017, 48³ voxels : patch by patch",
        costs["dense"],
        costs["patches"],
        of="cpu",
        build=bench.this.state,
        base=bench.this.state,
    )
    return [row]


def measure_gpu(bench: Bench) -> list[Row]:
    """Measure images without skull to masks on a GPU, beside the CPU, and compare the masks."""
    if not torch.cuda.is_available():
        raise SkipError("no GPU")
    folder = find_brain(bench)
    with temporary_folder(bench) as kept:
        masks = {device: kept / f"{device}.nii.gz" for device in ("cuda", "cpu")}
        variants = {
            device: partial(run_probe, "networks", folder, "--device", device, "--mask", mask)
            for device, mask in masks.items()
        }
        costs = measure_in_turn(variants, bench.repeats)
        found = [nib.Nifti1Image.from_filename(mask).get_fdata() for mask in masks.values()]
    overlap = dice(*found)
    row = compare(
        "gpu",
        "images without skull to masks on a GPU : CPU",
        costs["cuda"],
        costs["cpu"],
        of="wall",
        build=bench.this.state,
        base=bench.this.state,
        notes=f"transfers included, start of CUDA excluded; {torch.cuda.get_device_name()}",
    )
    masks_row = Row(
        "gpu_masks",
        "DSC of the masks of GPU : CPU",
        ratio=f"{overlap:.4f}",
        bar=f"≥ {MIN_DICE:g}",
        met=answer(overlap >= MIN_DICE),
        n="1",
        build=bench.this.state,
        base=bench.this.state,
    )
    return [row, masks_row]


def find_brain(bench: Bench) -> Path:
    """Return the folder of the images without skull that networks are measured on."""
    return bench.dataset("openms-mni") / BRAIN / "anat"
