"""The row of the masks: whether both builds find the same lesions in real scans."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.speed.builds import Bench, SkipError, keep_run
from benchmarks.speed.table import Row, answer
from cascade_bids.metrics.overlap import dice
from cascade_bids.models.device import FLOAT32, choose_precision

DATASETS = ("openms-raw", "ms3seg-raw")
MIN_DICE, SAME_DICE = 0.97, 0.995
LARGE_ML = 2.0
"""Loads from here on are compared by their ratio, and masks by their overlap."""
MOST_OFF = 0.03
"""Largest difference of such loads, as a part of the old one."""
MOST_OFF_ML = 0.1
"""Largest difference of smaller loads, ml."""

AGAIN = {"openms-raw": ("01", "20"), "ms3seg-raw": ("07", "08", "14")}
"""Participants whom the old build processes with another seed too: how well it agrees with itself.
"""


def measure_masks(bench: Bench) -> list[Row]:
    """Compare the masks of both builds, scan by scan, and write ``masks.tsv``."""
    found = [row for name in DATASETS for row in _compare_dataset(bench, name)]
    table = pd.DataFrame(found).merge(pd.DataFrame(_compare_seeds(bench)), how="left")
    bench.out.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(bench.out / "masks.tsv", sep="\t", index=False, na_rep="n/a")
    print(table.round(4).to_string(index=False), flush=True)
    large = table[table["old_ml"] >= LARGE_ML]
    row = Row(
        "masks",
        f"lowest DSC of masks, loads of at least {LARGE_ML:g} ml : old build",
        ratio="" if large.empty else f"{large['dsc'].min():.4f}",
        bar=f"≥ {MIN_DICE:g}",
        met=answer(bool((table["met"] == "yes").all())),
        n=str(len(table)),
        build=bench.this.state,
        base=bench.old.state,
        notes=f"{(table['met'] == 'yes').sum()} of {len(table)} scans within the bars, masks.tsv; "
        f"lowest DSC of the old build with itself, by another seed: {table['again_dsc'].min():.4f}",
    )
    return [row]


def measure_precision(bench: Bench) -> list[Row]:
    """Compare masks of bfloat16 with those of float32, of the same build and raw sessions."""
    precision = choose_precision("auto", "cpu")
    if precision == FLOAT32:
        raise SkipError("the processor has no instructions for bfloat16")
    name = "openms-raw"
    dataset, outs = bench.dataset(name), []
    for label, options in {name: (), f"{name}-float32": ("--precision", "float32")}.items():
        outs.append(keep_run(bench, bench.this, label, dataset, *options) / "out")
    found = [
        dice(_read(path)[0], _read(outs[1] / path.relative_to(outs[0]))[0])
        for path in sorted(outs[0].rglob("*space-FLAIR_label-lesion_mask.nii.gz"))
    ]
    row = Row(
        "precision",
        f"lowest DSC of masks in {precision} : float32",
        ratio=f"{min(found):.4f}",
        bar=f"≥ {SAME_DICE:g}",
        met=answer(min(found) >= SAME_DICE),
        n=str(len(found)),
        build=bench.this.state,
        notes=", ".join(f"{one:.4f}" for one in found),
    )
    return [row]


def judge_masks(overlap: float, load_ml: float, old_ml: float) -> bool:
    """Return whether a scan's masks agree well enough.

    Parameters
    ----------
    overlap
        DSC of both masks.
    load_ml, old_ml
        Loads of this and of the old build, ml.

    Returns
    -------
    bool
        Of large loads, by overlap and relative difference; of small ones, by difference.
    """
    if old_ml >= LARGE_ML:
        return overlap >= MIN_DICE and abs(load_ml - old_ml) <= MOST_OFF * old_ml
    return abs(load_ml - old_ml) <= MOST_OFF_ML


def _compare_dataset(bench: Bench, name: str) -> Iterator[dict[str, object]]:
    dataset = bench.dataset(name)
    outs = [keep_run(bench, build, name, dataset) / "out" for build in (bench.this, bench.old)]
    files = {path.relative_to(out) for out in outs for path in out.rglob("*lesion_mask.nii.gz")}
    for file in sorted(files):
        row: dict[str, object] = {"dataset": name, "scan": file.name.split("_space-")[0]}
        if not all((out / file).exists() for out in outs):
            yield {**row, "dsc": np.nan, "load_ml": np.nan, "old_ml": np.nan, "met": "no"}
            continue
        (mask, load), (old, old_load) = (_read(out / file) for out in outs)
        overlap = dice(mask, old)
        met = answer(judge_masks(overlap, load, old_load))
        yield {**row, "dsc": overlap, "load_ml": load, "old_ml": old_load, "met": met}


def _compare_seeds(bench: Bench) -> Iterator[dict[str, object]]:
    """Compare the old build with itself, with another seed of the registration."""
    for name, labels in AGAIN.items():
        dataset, first = bench.dataset(name), keep_run(bench, bench.old, name, bench.dataset(name))
        options = ("--random-seed", "1", "--participant-label", *labels)
        again = keep_run(bench, bench.old, f"{name}-again", dataset, *options) / "out"
        for path in sorted(again.rglob("*space-FLAIR_label-lesion_mask.nii.gz")):
            file = path.relative_to(again)
            (mask, load), (old, _) = _read(path), _read(first / "out" / file)
            scan = file.name.split("_space-")[0]
            yield {"dataset": name, "scan": scan, "again_dsc": dice(mask, old), "again_ml": load}


def _read(path: Path) -> tuple[np.ndarray, float]:
    """Return a mask and its volume in ml."""
    image = nib.Nifti1Image.from_filename(path)
    mask = np.asarray(image.dataobj) > 0
    return mask, mask.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
