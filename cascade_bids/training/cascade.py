"""Train a cascade of patch networks, and score it on participants that it has not seen."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from cascade_bids.config import VERSION
from cascade_bids.lesions.metrics import dice, lesion_detection
from cascade_bids.lesions.postprocess import label_lesions
from cascade_bids.network.architectures import PatchNetwork
from cascade_bids.network.cascade import CandidateRule, Stage
from cascade_bids.network.dense import PatchReader, evaluate_dense
from cascade_bids.network.weights import FIND_LESIONS, save_method
from cascade_bids.training.cases import Case, load_cases
from cascade_bids.training.loop import Schedule, fit
from cascade_bids.training.sampling import VoxelSet, balanced_batches

log = logging.getLogger(__name__)

RULES = (CandidateRule(flair_above_z=0.5), CandidateRule(previous_above=0.5))
"""Candidates of the two stages of Valverde et al. 2017, section 2.2."""

THRESHOLD = 0.5
MIN_LESION_MM3 = 10.0
"""Fixed beforehand, not chosen on the scans that the scores are reported on."""

PATCHES_PER_EPOCH = 16_384
BATCH_SIZE = 256


def train_method(
    dataset: Path,
    out_dir: Path,
    *,
    work_dir: Path,
    name: str = "valverde2017",
    contrasts: Sequence[str] = ("FLAIR", "T1w"),
    participants: Sequence[str] = (),
    schedule: Schedule | None = None,
    seed: int = 0,
) -> Path:
    """Train on all scans, score by leaving each one out in turn, and write weights and card.

    Parameters
    ----------
    dataset
        As for `cases.load_cases`.
    out_dir
        Where weights and card go.
    work_dir
        Checkpoints and curves; the same folder continues a broken training.
    name
        What the method is called.
    contrasts
        What the networks take; FLAIR first.
    participants
        Who is learned from, without ``sub-``; everybody when empty.
    schedule
        How long each stage is trained.
    seed
        Of first weights, drawn voxels and augmentation.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When the dataset has nothing to learn from.
    """
    schedule = schedule or Schedule(max_epochs=12, patience=5, learning_rate=1e-3)
    cases = load_cases(dataset, contrasts, participants)
    scores = {}
    for left_out in cases if len(cases) > 1 else []:
        others = [case for case in cases if case is not left_out]
        folder = work_dir / f"without-{left_out.label}"
        stages = train_stages(others, folder, schedule=schedule, seed=seed)
        scores[left_out.label] = score(stages, left_out)
        log.info("without %s: %s", left_out.label, scores[left_out.label])
    stages = train_stages(cases, work_dir / "all", schedule=schedule, seed=seed)
    return save_method(
        name,
        [
            (
                stage.network,
                {
                    "architecture": "PatchNetwork",
                    "arguments": {"channels_in": len(contrasts)},
                    "candidates": {
                        k: v for k, v in vars(stage.candidates).items() if v is not None
                    },
                },
            )
            for stage in stages
        ],
        {
            "task": FIND_LESIONS,
            "contrasts": list(contrasts),
            "normalisation": "z-scores of the brain tissue, without its extreme 2 %",
            "threshold": THRESHOLD,
            "min_lesion_mm3": MIN_LESION_MM3,
            "version": VERSION,
            "seed": seed,
            "training_scans": [case.label for case in cases],
            "leave_one_out": scores,
            "provenance": "docs/weights.md",
        },
        out_dir,
    )


def train_stages(
    cases: Sequence[Case], work_dir: Path, *, schedule: Schedule, seed: int
) -> list[Stage]:
    """Train one stage after the other, each on what the one before it leaves.

    Parameters
    ----------
    cases
        Scans to learn from.
    work_dir
        Checkpoints and curves of each stage.
    schedule
        How long each stage is trained.
    seed
        Of first weights, drawn voxels and augmentation.

    Returns
    -------
    list of Stage
        In evaluation mode.
    """
    stages: list[Stage] = []
    found = [np.zeros(case.brain.shape, np.float32) for case in cases]
    for number, rule in enumerate(RULES, start=1):
        candidates = [
            rule.select(case.flair, case.brain, previous)
            for case, previous in zip(cases, found, strict=True)
        ]
        sets = [_voxels(case, asked) for case, asked in zip(cases, candidates, strict=True)]
        network = _train_network(sets, work_dir / f"stage{number}", schedule, seed + number)
        stages.append(Stage(network, rule))
        found = [
            evaluate_dense(network, case.volume, asked)
            for case, asked in zip(cases, candidates, strict=True)
        ]
    return stages


def score(stages: Sequence[Stage], case: Case) -> dict[str, Any]:
    """Score a cascade on a scan that it has not seen.

    Returns
    -------
    dict
        Dice, LTPR, LFPR (26-connected, any overlap), and found and reference load in ml.
    """
    found = np.zeros(case.brain.shape, np.float32)
    for stage in stages:
        candidates = stage.candidates.select(case.flair, case.brain, found)
        found = evaluate_dense(stage.network, case.volume, candidates)
    labels = label_lesions(found, threshold=THRESHOLD, min_lesion_mm3=MIN_LESION_MM3, voxel_mm3=1.0)
    ltpr, lfpr = lesion_detection(labels > 0, case.lesions)
    return {
        "dice": round(dice(labels > 0, case.lesions), 4),
        "ltpr": round(ltpr, 4),
        "lfpr": round(lfpr, 4),
        "load_ml": round(float((labels > 0).sum()) / 1000, 2),
        "reference_load_ml": round(float(case.lesions.sum()) / 1000, 2),
    }


def _voxels(case: Case, asked: np.ndarray) -> VoxelSet:
    return VoxelSet(
        PatchReader(case.volume, PatchNetwork.patch_size),
        np.argwhere(case.lesions),
        np.argwhere(asked & ~case.lesions),
    )


def _train_network(
    sets: Sequence[VoxelSet], folder: Path, schedule: Schedule, seed: int
) -> PatchNetwork:
    torch.manual_seed(seed)
    contrasts = sets[0].patches.read(torch.zeros((1, 3), dtype=torch.int64)).shape[1]
    network = PatchNetwork(contrasts)
    learned = [voxels.half(validation=False) for voxels in sets]
    checked = [voxels.half(validation=True) for voxels in sets]
    checks = list(
        balanced_batches(
            checked,
            patches=PATCHES_PER_EPOCH // 4,
            batch_size=BATCH_SIZE,
            rng=torch.Generator().manual_seed(seed),
            augmented=False,
        )
    )
    fit(
        network,
        batches=lambda epoch: balanced_batches(
            learned,
            patches=PATCHES_PER_EPOCH,
            batch_size=BATCH_SIZE,
            rng=torch.Generator().manual_seed(1000 * seed + epoch),
            augmented=True,
        ),
        loss=F.cross_entropy,
        validate=lambda model: float(
            np.mean([float(F.cross_entropy(model(x), y)) for x, y in checks])
        ),
        schedule=schedule,
        folder=folder,
    )
    return network
