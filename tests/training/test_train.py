"""From a labelled dataset to weights, to a table of held-out scores, and to an adapted method."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from cascade_bids.errors import StartError, UsageError
from cascade_bids.network.architectures import NicmslesionsNetwork, PatchNetwork
from cascade_bids.network.cascade import load_stages
from cascade_bids.training import cascade, sampling, train
from cascade_bids.training.finetune import Adapting
from cascade_bids.training.recipes import RECIPES, find_recipe
from cascade_bids.training.train import make_folds

from ..tiny_heads import (
    AFFINE,
    LESION,
    SHAPE,
    call,
    image_path,
    make_dataset,
    run,
    stand_ins,
    stats,
)

CPU = torch.device("cpu")


def write_mask(path: Path) -> Path:
    inside = np.zeros(SHAPE, np.uint8)
    inside[LESION] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(inside, AFFINE).to_filename(path)
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three participants with a mask, one of them with two sessions, and one without."""
    labels = ("sub-01", "sub-02_ses-1", "sub-02_ses-2", "sub-03", "sub-04")
    bids = make_dataset(tmp_path / "bids", *labels)
    for label in labels[:-1]:
        path = image_path(bids, label, "FLAIR")
        write_mask(path.with_name(f"{label}_label-lesion_mask.nii.gz"))
    return bids


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small epoch for each stage."""
    for name, recipe in RECIPES.items():
        schedule = replace(recipe.schedule, max_epochs=1)
        monkeypatch.setitem(RECIPES, name, replace(recipe, schedule=schedule, batch_size=32))
    monkeypatch.setattr(cascade, "PATCHES_PER_EPOCH", 128)
    monkeypatch.setattr(sampling, "SLAB_MM", 2)


def command(name: str, bids: Path, tmp_path: Path, *options: object, out: str = "out"):
    paths = (bids, "--out", tmp_path / out, "-w", tmp_path / "work", "--nprocs", 1)
    with stand_ins():
        return call(tmp_path / out, name, *paths, *options)


@pytest.mark.parametrize("method", list(RECIPES))
def test_every_published_method_trains(labelled, tmp_path, method):
    contrasts = ("--contrasts", "T1w", "FLAIR") if method == "nicmslesions" else ()
    options = ("--method", method, "--name", "mine", "--participant-label", "01", *contrasts)
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["training_scans"] == ["sub-01"]
    assert card["contrasts"] == list(contrasts[1:] or ("FLAIR", "T1w"))
    assert card["combination"] == find_recipe(method).combination
    stages = load_stages(str(tmp_path / "out" / "mine.json"), device=CPU)
    recipe = find_recipe(method)
    assert [stage.candidates for stage in stages] == [stage.use for stage in recipe.stages]
    for number in (1, 2):
        folder = tmp_path / "work" / "all" / f"stage{number}"
        assert len((folder / "curves.tsv").read_text().splitlines()) == 2
        assert (folder / "curves.png").stat().st_size > 1000


def test_a_trained_method_runs_by_its_card(labelled, tmp_path):
    assert command("train", labelled, tmp_path, "--name", "mine").code == 0
    card = tmp_path / "out" / "mine.json"
    assert json.loads(card.read_text())["training_scans"][-2:] == ["sub-02_ses-2", "sub-03"]
    with stand_ins():
        one = ("--participant-label", "01", "--method", card)
        done = run(labelled, tmp_path / "derivatives", "--skip-bids-validation", *one)
    assert done.code == 0, done.text
    assert stats(done.out, "sub-01")["method"] == "mine"
    card.with_name("mine-stage2.safetensors").write_bytes(b"damaged")
    with stand_ins():
        done = run(labelled, tmp_path / "derivatives", "--skip-bids-validation", *one)
    assert done.code == StartError.exit_code
    assert "mine-stage2.safetensors are not those of their card" in done.text


def test_cross_validation_scores_each_participant_once(labelled, tmp_path, monkeypatch):
    seen = []
    real = train.train_stages

    def watched(recipe, cases, *args, **kwargs):
        seen.append([case.label for case in cases])
        return real(recipe, cases, *args, **kwargs)

    monkeypatch.setattr(train, "train_stages", watched)
    done = command("crossval", labelled, tmp_path)
    assert done.code == 0, done.text
    assert seen == [
        ["sub-02_ses-1", "sub-02_ses-2", "sub-03"],
        ["sub-01", "sub-03"],
        ["sub-01", "sub-02_ses-1", "sub-02_ses-2"],
    ]
    table = pd.read_csv(
        tmp_path / "out" / "evaluation.tsv", sep="\t", dtype={"participant_id": str}
    )
    assert len(table) == 4
    masks = sorted((tmp_path / "out" / "references").rglob("*_mask.nii.gz"))
    assert len(masks) == 4
    assert all(np.asarray(nib.load(path).dataobj).any() for path in masks)

    seen.clear()
    assert command("crossval", labelled, tmp_path).code == 0
    assert seen == []  # every fold was there


def test_a_fold_that_was_lost_is_made_again_alone(labelled, tmp_path, monkeypatch):
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    for path in (tmp_path / "out" / "predictions" / "sub-02").rglob("*_mask.nii.gz"):
        path.unlink()
    seen = []
    real = train.train_stages

    def watched(recipe, cases, *args, **kwargs):
        seen.append([case.label for case in cases])
        return real(recipe, cases, *args, **kwargs)

    monkeypatch.setattr(train, "train_stages", watched)
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    assert seen == [["sub-01", "sub-03"]]


def test_folds_share_the_participants():
    assert make_folds(["a", "b", "b", "c"], "loo") == [{"a"}, {"b"}, {"c"}]
    assert make_folds(["a", "b", "b", "c"], "2") == [{"a", "c"}, {"b"}]
    for folds in ("1", "4", "all", "-2"):
        with pytest.raises(UsageError, match=r"give loo, or a number from 2 .* which is 3"):
            make_folds(["a", "b", "b", "c"], folds)


def test_a_work_folder_belongs_to_one_training(labelled, tmp_path):
    assert command("train", labelled, tmp_path, "--name", "a").code == 0
    done = command("train", labelled, tmp_path, "--name", "a", "--random-seed", "1")
    assert done.code == 2
    assert "belongs to a training with other seed" in done.text
    path = image_path(labelled, "sub-03", "FLAIR")
    changed = nib.load(path)
    nib.Nifti1Image(np.asarray(changed.dataobj)[::-1].copy(), changed.affine).to_filename(path)
    done = command("train", labelled, tmp_path, "--name", "a")
    assert done.code == 2
    assert "belongs to a training with other cases" in done.text


def test_masks_may_lie_elsewhere(labelled, tmp_path):
    masks = tmp_path / "masks"
    for label in ("sub-01", "sub-03"):
        write_mask(masks / f"{label}_label-lesion_mask.nii.gz")
    done = command("train", labelled, tmp_path, "--masks", masks)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "valverde2017.json").read_text())
    assert card["training_scans"] == ["sub-01", "sub-03"]


def test_what_cannot_be_learned_from_is_named(labelled, tmp_path):
    done = command("train", labelled, tmp_path, "--participant-label", "04")
    assert done.code == 2
    assert "sub-04 has no mask to learn from" in done.text
    done = command("train", labelled, tmp_path, "--contrasts", "T1w")
    assert done.code == 2
    assert "must name FLAIR" in done.text
    done = command("train", labelled, tmp_path, "--method", "deepmedic")
    assert done.code == 2
    assert "there are: valverde2017, nicmslesions, msseg2016" in done.text
    empty = image_path(labelled, "sub-01", "FLAIR").with_name("sub-01_label-lesion_mask.nii.gz")
    nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_filename(empty)
    done = command("train", labelled, tmp_path)
    assert done.code == StartError.exit_code
    assert "sub-01 at resample lesions: " in done.text
    assert "sub-01_label-lesion_mask.nii.gz is empty; give a whole mask" in done.text
    beside = np.zeros(SHAPE, np.uint8)
    beside[0, 0, 0] = 1
    nib.Nifti1Image(beside, AFFINE).to_filename(empty)
    done = command("train", labelled, tmp_path)
    assert done.code == StartError.exit_code
    assert "sub-01 at save case: the lesion mask has no voxel in the brain" in done.text


def test_a_method_is_adapted_to_one_scan(labelled, tmp_path):
    options = ("--method", "nicmslesions", "--name", "base", "--participant-label", "03")
    assert command("train", labelled, tmp_path, *options).code == 0
    base = tmp_path / "out" / "base.json"
    one = ("--participant-label", "01", "-w", tmp_path / "work2")
    done = command("finetune", labelled, tmp_path, "--from", base, "--name", "ours", *one)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "ours.json").read_text())
    assert card["adapted_from"] == "base"
    assert card["training_scans"] == ["sub-01"]
    assert card["dense_layers_trained"] == [1, 1]
    before, after = (
        load_stages(str(tmp_path / "out" / f"{name}.json"), device=CPU) for name in ("base", "ours")
    )
    for old, new in zip(before, after, strict=True):
        states = old.network.state_dict(), new.network.state_dict()
        moved = {
            key.split(".")[1] for key in states[0] if not torch.equal(*(s[key] for s in states))
        }
        assert moved == {"d3", "prelu_d3", "out"}


@pytest.mark.parametrize(
    ("network", "layers", "learning"),
    [
        (NicmslesionsNetwork, 1, {"d3", "prelu_d3", "out"}),
        (NicmslesionsNetwork, 3, {"d1", "prelu_d1", "d2", "prelu_d2", "d3", "prelu_d3", "out"}),
        (PatchNetwork, 1, {"9", "12"}),
    ],
)
def test_only_the_last_layers_learn_and_norms_stand_still(network, layers, learning):
    model = Adapting(network(channels_in=2), layers)
    model.train()
    found = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert found == learning
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert norms
    assert not any(norm.training for norm in norms)
    dropouts = [
        m.training for m in model.modules() if isinstance(m, torch.nn.Dropout | torch.nn.Dropout3d)
    ]
    assert any(dropouts)
