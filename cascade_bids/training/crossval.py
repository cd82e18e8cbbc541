"""The command `crossval`: train fold by fold, and segment what was left out."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch

from cascade_bids.bids.outputs import BIDS_VERSION, output_path, write_json
from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.files import alone, appearing, write_text
from cascade_bids.lesions.measure import voxel_volume_mm3
from cascade_bids.metrics.overlap import dice, lesion_detection
from cascade_bids.models.card import ModelCard, rewrite_card
from cascade_bids.models.cases import Case
from cascade_bids.training.calibration.calibrate import Calibration, calibrate_folds
from cascade_bids.training.calibration.out_of_fold import (
    Prediction,
    is_done,
    predict_left_out,
    predict_synthetic,
    read_prediction,
)
from cascade_bids.training.config import TrainConfig, known_before, stage_schedules
from cascade_bids.training.folds import Fold, split_cases
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import Recipe
from cascade_bids.training.sources import describe_generator
from cascade_bids.training.stages import count_rounds, save_stages, train_stages
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.train import SCORES, start_training

log = logging.getLogger(__name__)


class Scored(NamedTuple):
    """What a cross-validation found in the scans of one dataset, as two BIDS derivatives."""

    source: str
    """Name of the dataset."""
    predictions: Path
    """Found masks and probability maps, on the grids of the FLAIRs."""
    references: Path
    """Reference masks."""


def cross_validate(config: TrainConfig, folds: str, out_dir: Path) -> list[Scored]:
    """Train a method for each fold on the others, and segment the fold's scans.

    A fold that the work folder has is not trained again, unless for longer. Processes of the same
    command share the folds.

    Parameters
    ----------
    config
        What to train on what.
    folds
        As of `folds.make_folds`.
    out_dir
        Where the masks of each dataset go, in a folder of its name.

    Returns
    -------
    list of Scored
        One for each dataset.

    Raises
    ------
    UsageError
        When there are too few participants, the work folder is another training's, or `out_dir`
        holds masks of scans that are not among these.
    StartError
        When a scan cannot be prepared.
    ScanError
        When the T1w of a scan shows no tissues.
    """
    recipe = config.find_recipe()
    device, cases, generator = start_training(config, recipe, source=config.start_from)
    _warn_of_known(known_before(config, recipe), cases)
    parted = split_cases(cases, folds, config.work_dir / "folds")
    for fold in parted:
        donors = generator and generator.without(fold.left_out).donors
        if not donors and not any(case.lesions.any() for case in fold.learned):
            raise UsageError(
                f"without {', '.join(sorted(fold.left_out))} no scan has a lesion to learn from; "
                "take fewer --folds, or add a participant with lesions"
            )
    sources = dict.fromkeys(case.source for case in cases)
    scored = {
        source: Scored(source, out_dir / source / "predictions", out_dir / source / "references")
        for source in sources
    }
    for one in scored.values():
        for folder in (one.predictions, one.references):
            _refuse_others(folder, [case for case in cases if case.source == one.source])
            _describe(folder, config.method)
    _train_folds(parted, config, recipe, generator, device)
    calibrations, overall = calibrate_folds(recipe, parted)
    for fold, calibration in zip(parted, calibrations, strict=True):
        if overall is not None:
            rewrite_card(fold.weights / f"{config.method}.json", calibration.to_card())
        for case in fold.tested:
            _write(case, read_prediction(fold.prediction(case)), calibration, scored[case.source])
    scores = {case.label: _score(scored[case.source].predictions, case) for case in cases}
    result = {"folds": folds, "scans": scores, "calibration": overall and overall.to_card()}
    write_text(config.work_dir / SCORES, json.dumps(result, indent=2))
    return list(scored.values())


def _train_folds(
    folds: Sequence[Fold],
    config: TrainConfig,
    recipe: Recipe,
    generator: ScanGenerator | None,
    device: torch.device,
) -> None:
    """Train the method of each fold, unless another process of the same command does."""
    for wait in (False, True):
        for fold in folds:
            with alone(fold.folder / "training.lock", wait=wait) as own:
                if not own:
                    log.info("another process trains %s", fold.name)
                elif not is_done(fold, recipe):
                    known = generator and generator.without(fold.left_out)
                    with show_training(fold.name, len(recipe.stages) * count_rounds(known)):
                        _train_fold(fold, config, recipe, known, device)
                elif not wait:
                    log.info("%s is done already", fold.name)


def _train_fold(
    fold: Fold,
    config: TrainConfig,
    recipe: Recipe,
    generator: ScanGenerator | None,
    device: torch.device,
) -> None:
    """Train the method of a fold, and keep its predictions of the scans that are left out."""
    seed = config.preprocess.random_seed
    stages = train_stages(
        recipe,
        fold.learned,
        config.contrasts,
        fold.folder,
        schedules=stage_schedules(recipe, config),
        seed=seed,
        device=device,
        generator=generator,
        start=config.load_start(device),
    )
    facts = {
        "training_scans": [case.label for case in fold.learned],
        **describe_generator(config, generator),
    }
    save_stages(config.method, stages, recipe, facts, config.contrasts, fold.weights)
    if generator is not None and recipe.learns_from_synthetic:
        predict_synthetic(
            stages, generator, fold.synthetic, combination=recipe.combination, seed=seed
        )
    predict_left_out(fold, stages, recipe, config.contrasts, device)


def _warn_of_known(cards: Sequence[ModelCard], cases: Sequence[Case]) -> None:
    """Warn when other weights have learned from someone who is to be left out."""
    for card in cards:
        # Cards of before knew no datasets.
        names = {name for c in cases for name in (c.participant, f"sub-{c.scan.subject}")}
        both = sorted(card.participants & names)
        if both:
            log.warning(
                "%s has learned from %s; if they are the participants of these names here, their "
                "scores are not those of unseen ones",
                card.name,
                ", ".join(both),
            )


def _refuse_others(folder: Path, cases: Sequence[Case]) -> None:
    """Refuse a folder with masks of further scans, which would be scored with the others."""
    anyone = (Scan("*", None, None), Scan("*", "*", None))
    patterns = [output_path(Path(), scan, "lesion_mask") for scan in anyone]
    found = {path for pattern in patterns for path in folder.glob(str(pattern))}
    others = found - {output_path(folder, case.scan, "lesion_mask") for case in cases}
    if others:
        raise UsageError(
            f"{min(others)} is of another cross-validation; give another --out, or empty it"
        )


def _write(case: Case, found: Prediction, calibration: Calibration, scored: Scored) -> None:
    """Write the probability map and the mask of a scan, and its reference."""
    labels = found.label(calibration.operating_point)
    mask, probseg, reference = (
        output_path(root, case.scan, name)
        for root, name in (
            (scored.predictions, "lesion_mask"),
            (scored.predictions, "lesion_probseg"),
            (scored.references, "lesion_mask"),
        )
    )
    _save(probseg, found.probability.astype(np.float32), case.reference_affine)
    _save_mask(mask, labels > 0, case.reference_affine)
    _save_mask(reference, found.lesions, case.reference_affine)


def _score(predictions: Path, case: Case) -> dict[str, float]:
    """Score the found mask of a scan for the card."""
    image = nib.Nifti1Image.from_filename(output_path(predictions, case.scan, "lesion_mask"))
    found, lesions = np.asarray(image.dataobj) > 0, case.reference
    voxel_ml = voxel_volume_mm3(image.affine) / 1000
    ltpr, lfpr = lesion_detection(found, lesions)
    return {
        "dice": round(dice(found, lesions), 4),
        "ltpr": round(ltpr, 4),
        "lfpr": round(lfpr, 4),
        "load_ml": round(float(found.sum() * voxel_ml), 2),
        "reference_load_ml": round(float(lesions.sum() * voxel_ml), 2),
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
