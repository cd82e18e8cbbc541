"""The commands `train` and `crossval`: from a labelled dataset to weights, or to a table."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from cascade_bids.config import VERSION, InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.lesions.metrics import dice, lesion_detection
from cascade_bids.lesions.postprocess import label_lesions
from cascade_bids.network.cascade import Stage, run_stages
from cascade_bids.network.device import prepare_device
from cascade_bids.report.page import write_whole
from cascade_bids.training.cascade import save_cascade, train_stages
from cascade_bids.training.cases import Case
from cascade_bids.training.loop import Schedule
from cascade_bids.training.recipes import Recipe, find_recipe
from cascade_bids.training.workflow import prepare_cases

log = logging.getLogger(__name__)


SCORES = "scores.json"
"""File of the work folder that a cross-validation leaves for the card of a later training."""


@dataclass(frozen=True)
class TrainConfig:
    """What a training was asked to do."""

    inputs: InputConfig
    """Which scans to learn from."""
    method: str
    """Name of a recipe."""
    contrasts: tuple[str, ...]
    """Channels of the networks, in this order."""
    masks_dir: Path | None
    """Where the lesion masks are; the dataset when None."""
    preprocess: PreprocessConfig
    """How scans are brought to the network grid; its seed is that of the training too."""
    resources: ResourceConfig
    """What the training may use; its work folder keeps cases, checkpoints and curves."""
    max_minutes: float | None = None
    """Minutes of training for a whole cascade; None trains until the loss stops falling."""

    @property
    def work_dir(self) -> Path:
        """The work folder."""
        if self.resources.work_dir is None:
            raise UsageError("training needs a work folder (-w)")
        return self.resources.work_dir


def train_method(config: TrainConfig, name: str, out_dir: Path) -> Path:
    """Train a method on all labelled scans, and write weights and card.

    A cross-validation with the same work folder, and so of the same training, has its scores
    written into the card.

    Parameters
    ----------
    config
        What to train on what.
    name
        What the trained method is to be called.
    out_dir
        Where weights and card go.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When there is nothing to learn from, or the work folder is another training's.
    StartError
        When a scan cannot be prepared.
    """
    recipe = find_recipe(config.method)
    device, cases = start_training(config)
    stages = train_stages(
        recipe,
        cases,
        config.work_dir / "all",
        schedule=stage_schedule(recipe, config),
        seed=config.preprocess.random_seed,
        device=device,
    )
    scores = config.work_dir / SCORES
    facts = {
        "seed": config.preprocess.random_seed,
        "training_scans": [case.label for case in cases],
        "max_minutes": config.max_minutes,
        "cross_validation": json.loads(scores.read_text()) if scores.exists() else None,
    }
    return save_cascade(name, stages, recipe, facts, config.contrasts, out_dir)


def cross_validate(config: TrainConfig, folds: str, out_dir: Path) -> tuple[Path, Path]:
    """Train a method for each fold on the others, and segment the fold's scans.

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
        When there are too few participants, or the work folder is another training's.
    StartError
        When a scan cannot be prepared.
    """
    recipe = find_recipe(config.method)
    device, cases = start_training(config)
    predictions, references = out_dir / "predictions", out_dir / "references"
    for folder in (predictions, references):
        _describe(folder, config.method)
    for held_out in make_folds([case.subject for case in cases], folds):
        tested = [case for case in cases if case.subject in held_out]
        if all(_paths(predictions, case)["mask"].exists() for case in tested):
            log.info("fold of %s is done already", ", ".join(sorted(held_out)))
            continue
        stages = train_stages(
            recipe,
            [case for case in cases if case.subject not in held_out],
            config.work_dir / "folds" / "-".join(sorted(held_out)),
            schedule=stage_schedule(recipe, config),
            seed=config.preprocess.random_seed,
            device=device,
        )
        for case in tested:
            _save_mask(_paths(references, case)["mask"], case.lesions, case.affine)
            _predict(stages, recipe, case, _paths(predictions, case))
    scores = {case.label: _score(_paths(predictions, case)["mask"], case) for case in cases}
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


def start_training(config: TrainConfig) -> tuple[torch.device, list[Case]]:
    """Choose the device, bring the scans to the network grid, and claim the work folder.

    Raises
    ------
    UsageError
        When there is nothing to learn from, or the work folder is another training's.
    StartError
        When a scan cannot be prepared.
    """
    device = prepare_device(config.resources.device, config.resources.omp_nthreads)
    cases = prepare_cases(
        config.inputs,
        config.contrasts,
        masks_dir=config.masks_dir,
        preprocess=config.preprocess,
        resources=config.resources,
    )
    # Nipype's steps may have set another number of threads.
    prepare_device(config.resources.device, config.resources.omp_nthreads)
    _claim(config, cases)
    log.info("%d scans to learn from", len(cases))
    return device, cases


def _claim(config: TrainConfig, cases: Sequence[Case]) -> None:
    """Refuse a work folder whose checkpoints are of another training."""
    settings = {
        "method": config.method,
        "contrasts": list(config.contrasts),
        "max_minutes": config.max_minutes,
        "seed": config.preprocess.random_seed,
        "version": VERSION,
        "cases": {case.label: _fingerprint(case) for case in cases},
    }
    path = config.work_dir / "settings.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in settings if settings[name] != before.get(name)]
        if changed:
            raise UsageError(
                f"{config.work_dir} belongs to a training with other {', '.join(changed)}; "
                "give another work folder, or empty it"
            )
    write_whole(path, json.dumps(settings, indent=2))


def _fingerprint(case: Case) -> str:
    digest = hashlib.sha256()
    for name in ("volume.npy", "lesions.npy"):
        digest.update((case.folder / name).read_bytes())
    return digest.hexdigest()


def stage_schedule(recipe: Recipe, config: TrainConfig) -> Schedule:
    """Share the minutes equally among the stages."""
    minutes = config.max_minutes and config.max_minutes / len(recipe.stages)
    return replace(recipe.schedule, max_minutes=minutes)


def _predict(
    stages: Sequence[Stage], recipe: Recipe, case: Case, paths: Mapping[str, Path]
) -> None:
    probability = run_stages(
        stages, case.volume, case.flair, case.brain, combination=recipe.combination
    )
    labels = label_lesions(
        probability,
        threshold=recipe.threshold,
        min_lesion_mm3=recipe.min_lesion_mm3,
        voxel_mm3=1.0,
    )
    _save(paths["probseg"], probability.astype(np.float32), case.affine)
    _save_mask(paths["mask"], labels > 0, case.affine)


def _score(mask: Path, case: Case) -> dict[str, float]:
    """Score a found mask for the card."""
    found, lesions = np.asarray(nib.Nifti1Image.from_filename(mask).dataobj) > 0, case.lesions
    ltpr, lfpr = lesion_detection(found, lesions)
    return {
        "dice": round(dice(found, lesions), 4),
        "ltpr": round(ltpr, 4),
        "lfpr": round(lfpr, 4),
        "load_ml": round(float(found.sum()) / 1000, 2),
        "reference_load_ml": round(float(lesions.sum()) / 1000, 2),
    }


def _paths(folder: Path, case: Case) -> dict[str, Path]:
    parts = [part for part in case.label.split("_") if part.startswith(("sub-", "ses-"))]
    stem = folder.joinpath(*parts, "anat")
    return {
        suffix: stem / f"{case.label}_space-network_label-lesion_{suffix}.nii.gz"
        for suffix in ("mask", "probseg")
    }


def _save_mask(path: Path, inside: np.ndarray, affine: np.ndarray) -> None:
    _save(path, inside.astype(np.uint8), affine)


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    with appearing(path) as beside:
        nib.Nifti1Image(values, affine).to_filename(beside)


def _describe(folder: Path, method: str) -> None:
    description: dict[str, Any] = {
        "Name": f"cross-validation of {method}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "cascade_bids", "Version": VERSION}],
    }
    write_whole(folder / "dataset_description.json", json.dumps(description, indent=2))
