"""Training fold by fold, and a table of scores of the scans that were left out."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cascade_bids.errors import UsageError
from cascade_bids.models.network import LesionMaps
from cascade_bids.training import crossval, folds
from cascade_bids.training.calibration import out_of_fold
from cascade_bids.training.folds import make_folds

from ...tiny_heads import AFFINE, SHAPE, image_path
from .labelled import command

pytestmark = pytest.mark.slow


def test_cross_validation_scores_each_participant_once(labelled, tmp_path, monkeypatch, caplog):
    seen = []
    real = crossval.train_stages

    def watched(recipe, cases, *args, **kwargs):
        seen.append([case.label for case in cases])
        return real(recipe, cases, *args, **kwargs)

    monkeypatch.setattr(crossval, "train_stages", watched)
    done = command("crossval", labelled, tmp_path)
    assert done.code == 0, done.text
    assert caplog.messages[0] == "preparing 4 scans"
    assert caplog.messages[1].startswith("sub-01 stage 1 of 2: done, epoch 1, loss ")
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
    masks = sorted((tmp_path / "out" / "predictions" / "sub-02").rglob("*_mask.nii.gz"))
    before = [np.asarray(nib.load(path).dataobj) for path in masks]
    for path in (*masks, *(tmp_path / "work" / "folds" / "02" / "found").iterdir()):
        path.unlink()
    seen = []
    real = crossval.train_stages

    def watched(recipe, cases, *args, **kwargs):
        seen.append([case.label for case in cases])
        return real(recipe, cases, *args, **kwargs)

    monkeypatch.setattr(crossval, "train_stages", watched)
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    assert seen == [["sub-01", "sub-03"]]
    assert before
    for path, values in zip(masks, before, strict=True):
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), values)


def test_each_fold_keeps_its_weights(labelled, tmp_path):
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    card = json.loads(
        (tmp_path / "work" / "folds" / "02" / "weights" / "valverde2017.json").read_text()
    )
    assert card["training_scans"] == ["sub-01", "sub-03"]
    assert card["threshold"] == 0.5


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take bright voxels for lesions, less surely with a higher seed; count the trainings."""
    seeds: list[int] = []

    def stages(*_: object, seed: int, **__: object) -> list[int]:
        seeds.append(seed)
        return [seed]

    def predict(stages, volume, combination):
        bright = volume.brain & (volume.flair > 1)
        return LesionMaps(np.where(bright, np.float32(0.9 - 0.1 * stages[0]), np.float32(0)))

    monkeypatch.setattr(crossval, "train_stages", stages)
    monkeypatch.setattr(out_of_fold, "predict_stages", predict)
    monkeypatch.setattr(crossval, "save_stages", lambda *_: None)
    return seeds


def test_masks_of_another_training_are_replaced(labelled, tmp_path, untrained):
    def highest(seed: int) -> list[float]:
        work = ("-w", tmp_path / f"work{seed}", "--random-seed", seed)
        two = ("--participant-label", "01", "03")
        done = command("crossval", labelled, tmp_path, *work, *two)
        assert done.code == 0, done.text
        maps = sorted((tmp_path / "out" / "predictions").rglob("*_probseg.nii.gz"))
        return [float(np.asarray(nib.load(path).dataobj).max()) for path in maps]

    assert highest(0) == pytest.approx([0.9, 0.9])
    assert highest(1) == pytest.approx([0.8, 0.8])
    assert untrained == [0, 0, 1, 1]
    assert highest(1) == pytest.approx([0.8, 0.8])
    assert highest(0) == pytest.approx([0.9, 0.9])
    assert untrained == [0, 0, 1, 1]  # each work folder has its own


def test_masks_of_further_scans_are_not_scored(labelled, tmp_path, untrained):
    assert command("crossval", labelled, tmp_path).code == 0
    fewer = ("--participant-label", "01", "03", "-w", tmp_path / "work2")
    done = command("crossval", labelled, tmp_path, *fewer)
    assert done.code == 2
    assert "sub-02_ses-1_space-network_label-lesion_mask.nii.gz is of another" in done.text


def test_every_fold_needs_lesions_to_learn_from(labelled, tmp_path):
    for label in ("sub-01", "sub-02_ses-1", "sub-02_ses-2"):
        mask = image_path(labelled, label, "FLAIR").with_name(f"{label}_label-lesion_mask.nii.gz")
        nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_filename(mask)
    done = command("crossval", labelled, tmp_path)
    assert done.code == 2
    assert "without 03 no scan has a lesion to learn from" in done.text
    assert not (tmp_path / "work" / "folds").exists()


def test_folds_share_the_participants():
    assert make_folds(["a", "b", "b", "c"], "loo") == [{"a"}, {"b"}, {"c"}]
    assert make_folds(["a", "b", "b", "c"], "2") == [{"a", "c"}, {"b"}]
    for wrong in ("1", "4", "all", "-2"):
        with pytest.raises(UsageError, match=r"give loo, or a number from 2 .* which is 3"):
            make_folds(["a", "b", "b", "c"], wrong)


def test_folds_of_many_participants_have_short_names():
    few, many = ({f"PATIENT{n:05}SITE" for n in range(count)} for count in (2, 40))
    assert folds._fold_name(few) == "PATIENT00000SITE-PATIENT00001SITE"
    assert len(folds._fold_name(many)) < 30
    assert folds._fold_name(many) != folds._fold_name(many - few)
