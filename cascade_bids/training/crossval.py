"""The command `crossval`: train fold by fold, and segment what was left out."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from cascade_bids.bids.outputs import BIDS_VERSION, output_path, write_json
from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.lesions.metrics import dice, lesion_detection
from cascade_bids.lesions.postprocess import label_lesions
from cascade_bids.network.cascade import Stage, run_stages
from cascade_bids.report.page import write_whole
from cascade_bids.training.cascade import train_stages
from cascade_bids.training.cases import Case
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.train import (
    SCORES,
    TrainConfig,
    stage_schedule,
    start_engine,
    start_training,
)

log = logging.getLogger(__name__)

SPACE = "network"
"""Space of the masks: the network grid of each scan."""

MARKER = "done.json"
"""File in the work folder of a fold with the SHA-256 of what it wrote."""


def cross_validate(config: TrainConfig, folds: str, out_dir: Path) -> tuple[Path, Path]:
    """Train a method for each fold on the others, and segment the fold's scans.

    A fold whose masks are all in `out_dir`, and as this work folder wrote them, is left as it is.

    Parameters
    ----------
    config
        What to train on what.
    folds
        ``loo`` leaves out one participant at a time; a number makes so many folds.
    out_dir
        Where the found and the reference masks go, as two BIDS derivatives that can be evaluated.

    Returns
    -------
    tuple of Path
        Folder of the found masks and probability maps, folder of the reference masks.

    Raises
    ------
    UsageError
        When there are too few participants, the work folder is another training's, or `out_dir`
        holds masks of scans that are not among these.
    StartError
        When a scan cannot be prepared.
    """
    recipe = config.find_recipe()
    device, cases = start_training(config, recipe)
    engine = start_engine(config, recipe, cases)
    parted = make_folds([case.scan.subject for case in cases], folds)
    for held_out in parted:
        if not any(case.lesions.any() for case in cases if case.scan.subject not in held_out):
            raise UsageError(
                f"without {', '.join(sorted(held_out))} no scan has a lesion to learn from; take "
                "fewer --folds, or add a participant with lesions"
            )
    predictions, references = out_dir / "predictions", out_dir / "references"
    for folder in (predictions, references):
        _refuse_others(folder, cases)
        _describe(folder, config.method)
    for number, held_out in enumerate(parted, start=1):
        tested = [case for case in cases if case.scan.subject in held_out]
        folder = config.work_dir / "folds" / _fold_name(held_out)
        name = f"sub-{min(held_out)}" if len(held_out) == 1 else f"fold {number} of {len(parted)}"
        if _is_done(folder, out_dir):
            log.info("%s is done already", name)
            continue
        with show_training(name, len(recipe.stages)):
            stages = train_stages(
                recipe,
                [case for case in cases if case.scan.subject not in held_out],
                folder,
                schedule=stage_schedule(recipe, config),
                seed=config.preprocess.random_seed,
                device=device,
                engine=engine and engine.without(held_out),
            )
        written: list[Path] = []
        for case in tested:
            reference = output_path(references, case.scan, "lesion_mask", space=SPACE)
            _save_mask(reference, case.reference, case.affine)
            written += [reference, *_predict(stages, recipe, case, predictions)]
        _mark_done(folder, out_dir, written)
    scores = {case.label: _score(predictions, case) for case in cases}
    write_whole(config.work_dir / SCORES, json.dumps({"folds": folds, "scans": scores}, indent=2))
    return predictions, references


def make_folds(subjects: Sequence[str], folds: str) -> list[set[str]]:
    """Share participants among folds; all scans of a participant stay together.

    Parameters
    ----------
    subjects
        Participant of each scan.
    folds
        ``loo`` or a number.

    Returns
    -------
    list of set of str
        The participants of each fold.

    Raises
    ------
    UsageError
        When `folds` is neither, or there are fewer participants than folds.

    Examples
    --------
    >>> [sorted(fold) for fold in make_folds(["1", "1", "2", "3"], "2")]
    [['1', '3'], ['2']]
    """
    different = list(dict.fromkeys(subjects))
    count = len(different) if folds == "loo" else int(folds) if folds.isdecimal() else 0
    if not 2 <= count <= len(different):
        raise UsageError(
            f"--folds {folds}: give loo, or a number from 2 to that of the participants with a "
            f"mask, which is {len(different)}"
        )
    return [set(different[start::count]) for start in range(count)]


def _fold_name(held_out: set[str]) -> str:
    """Name a fold by its participants, or by their hash where they are too many for a file name."""
    name = "-".join(sorted(held_out))
    return name if len(name) <= 100 else hashlib.sha256(name.encode()).hexdigest()[:16]


def _is_done(folder: Path, out_dir: Path) -> bool:
    """Say whether the masks of a fold are still those that this training wrote."""
    marker = folder / MARKER
    if not marker.exists():
        return False
    written = json.loads(marker.read_text(encoding="utf-8"))
    return all(_digest(out_dir / name) == digest for name, digest in written.items())


def _mark_done(folder: Path, out_dir: Path, written: Sequence[Path]) -> None:
    """Remember what a fold wrote; files of the same names may be of another training."""
    digests = {path.relative_to(out_dir).as_posix(): _digest(path) for path in written}
    write_whole(folder / MARKER, json.dumps(digests, indent=2))


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _refuse_others(folder: Path, cases: Sequence[Case]) -> None:
    """Refuse a folder with masks of further scans, which would be scored with the others."""
    anyone = (Scan("*", None, None), Scan("*", "*", None))
    patterns = [output_path(Path(), scan, "lesion_mask", space=SPACE) for scan in anyone]
    found = {path for pattern in patterns for path in folder.glob(str(pattern))}
    others = found - {output_path(folder, c.scan, "lesion_mask", space=SPACE) for c in cases}
    if others:
        raise UsageError(
            f"{min(others)} is of another cross-validation; give another --out, or empty it"
        )


def _predict(stages: Sequence[Stage], recipe: Recipe, case: Case, root: Path) -> list[Path]:
    """Write the probability map and the mask of a scan."""
    probability, _ = run_stages(
        stages, case.volume, case.flair, case.brain, combination=recipe.combination
    )
    labels = label_lesions(
        probability,
        threshold=recipe.threshold,
        min_lesion_mm3=recipe.min_lesion_mm3,
        voxel_mm3=1.0,
    )
    mask, probseg = (
        output_path(root, case.scan, name, space=SPACE)
        for name in ("lesion_mask", "lesion_probseg")
    )
    _save(probseg, probability.astype(np.float32), case.affine)
    _save_mask(mask, labels > 0, case.affine)
    return [probseg, mask]


def _score(predictions: Path, case: Case) -> dict[str, float]:
    """Score the found mask of a scan for the card."""
    mask = output_path(predictions, case.scan, "lesion_mask", space=SPACE)
    found, lesions = np.asarray(nib.Nifti1Image.from_filename(mask).dataobj) > 0, case.reference
    ltpr, lfpr = lesion_detection(found, lesions)
    return {
        "dice": round(dice(found, lesions), 4),
        "ltpr": round(ltpr, 4),
        "lfpr": round(lfpr, 4),
        "load_ml": round(float(found.sum()) / 1000, 2),
        "reference_load_ml": round(float(lesions.sum()) / 1000, 2),
    }


def _save_mask(path: Path, inside: np.ndarray, affine: np.ndarray) -> None:
    _save(path, inside.astype(np.uint8), affine)


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    with appearing(path) as beside:
        nib.Nifti1Image(values, affine).to_filename(beside)


def _describe(folder: Path, method: str) -> None:
    description: dict[str, Any] = {
        "Name": f"cross-validation of {method}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "cascade_bids", "Version": VERSION}],
    }
    write_json(folder / "dataset_description.json", description)
