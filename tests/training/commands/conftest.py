"""A small labelled dataset, and recipes that are over soon."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade_bids.models.architectures import allnet, cascade
from cascade_bids.models.network import CandidateRule, LesionMaps
from cascade_bids.preprocess import anatomical_coordinates
from cascade_bids.training import crossval
from cascade_bids.training.calibration import out_of_fold
from cascade_bids.training.fit import augmented_crops, crops, patches, voxels
from cascade_bids.training.recipes import RECIPES, StageRecipe
from cascade_bids.training.synthesis import generator, real_scans

from ...tiny_heads import (
    NETWORK_GRID,
    make_dataset,
)
from .labelled import mask_path, write_mask

CPU = torch.device("cpu")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three participants with a mask, one of them with two sessions, and one without."""
    labels = ("sub-01", "sub-02_ses-1", "sub-02_ses-2", "sub-03", "sub-04")
    bids = make_dataset(tmp_path / "bids", *labels)
    for label in labels[:-1]:
        write_mask(mask_path(bids, label))
    return bids


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small epoch for each stage."""
    for name, recipe in RECIPES.items():
        schedule = replace(recipe.schedule, max_epochs=1)
        monkeypatch.setitem(RECIPES, name, replace(recipe, schedule=schedule, batch_size=32))
    monkeypatch.setattr(patches, "PATCHES_PER_EPOCH", 128)
    monkeypatch.setattr(patches, "SLAB_MM", 2)
    monkeypatch.setattr(crops, "SLAB_MM", 2)
    monkeypatch.setattr(crops, "CROPS_PER_EPOCH", 2)
    monkeypatch.setattr(crops, "CROPS_TO_VALIDATE", 2)
    # Of 16³ the deepest level would be 2³, where oneDNN's bfloat16 gradient of a convolution (torch
    # 2.13 on CPUs) takes in memory that nobody wrote.
    monkeypatch.setattr(allnet, "CPU_WINDOW", (24, 24, 24))
    for name, arguments in (("perceptrons", {"hidden": [8]}), ("cascade", {"widths": [4, 8]})):
        monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], arguments=arguments))
    # After an epoch hardly anything is as likely as it must be in use.
    stages = [StageRecipe(rule, rule) for rule in (CandidateRule(), CandidateRule(None, 0.001))]
    changed = replace(RECIPES["cascade"], stages=tuple(stages))
    monkeypatch.setitem(RECIPES, "cascade", changed)
    monkeypatch.setattr(cascade, "WINDOW", (16, 16, 16))
    monkeypatch.setattr(augmented_crops, "CROPS_PER_EPOCH", 4)
    for module in (generator, real_scans):
        monkeypatch.setattr(module, "WINDOW", (48, 48, 48))
    monkeypatch.setattr(
        real_scans, "classify_tissue", lambda t1w, brain: 3 * brain.astype(np.uint8)
    )
    monkeypatch.setattr(voxels, "SCANS", 2)
    monkeypatch.setattr(voxels, "SCANS_TO_VALIDATE", 1)
    monkeypatch.setattr(real_scans, "CLEARED", 0.0)
    monkeypatch.setattr(real_scans, "KEPT", 1.0)
    # These heads have no fluid to measure a distance from.
    maps = np.zeros((6, *NETWORK_GRID[0]), np.float32)
    monkeypatch.setattr(anatomical_coordinates, "measure_anatomy", lambda *_, **__: maps)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take bright voxels for lesions, less surely with a higher seed; count the trainings."""
    seeds: list[int] = []

    def stages(*_: object, seed: int, **__: object) -> list[int]:
        seeds.append(seed)
        return [seed]

    def predict(stages, volume, combination, *, precision):
        bright = volume.brain & (volume.flair > 1)
        return LesionMaps(np.where(bright, np.float32(0.9 - 0.1 * stages[0]), np.float32(0)))

    monkeypatch.setattr(crossval, "train_stages", stages)
    monkeypatch.setattr(out_of_fold, "predict_stages", predict)
    monkeypatch.setattr(crossval, "save_stages", lambda *_: None)
    return seeds


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The labels of the scans that each training learns from."""
    seen: list[list[str]] = []
    train = crossval.train_stages

    def watched(recipe, cases, *args, **options):
        seen.append([case.label for case in cases])
        return train(recipe, cases, *args, **options)

    monkeypatch.setattr(crossval, "train_stages", watched)
    return seen
