"""Training fold by fold, and a table of scores of the scans that were left out."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from cascade_bids.errors import UsageError
from cascade_bids.training import crossval, folds
from cascade_bids.training.folds import Fold, make_folds
from cascade_bids.training.recipes import find_recipe

from ...tiny_heads import AFFINE, LESION, SHAPE
from .labelled import command, mask_path

pytestmark = pytest.mark.slow


def test_cross_validation_scores_each_participant_once(labelled, tmp_path, learned, caplog):
    done = command("crossval", labelled, tmp_path)
    assert done.code == 0, done.text
    assert caplog.messages[0] == "preparing 4 scans"
    assert caplog.messages[1].startswith("bids/sub-01 stage 1 of 2: done, epoch 1, loss ")
    assert learned == [
        ["bids/sub-02_ses-1", "bids/sub-02_ses-2", "bids/sub-03"],
        ["bids/sub-01", "bids/sub-03"],
        ["bids/sub-01", "bids/sub-02_ses-1", "bids/sub-02_ses-2"],
    ]
    out = tmp_path / "out" / "bids"
    table = pd.read_csv(out / "evaluation.tsv", sep="\t", dtype={"participant_id": str})
    assert len(table) == 4
    masks = sorted((out / "references").rglob("*_mask.nii.gz"))
    assert len(masks) == 4
    # They lie on the grid of the FLAIR, as they were given.
    given = np.zeros(SHAPE)
    given[LESION] = 1
    for path in (*masks, *(out / "predictions").rglob("*_mask.nii.gz")):
        np.testing.assert_allclose(nib.load(path).affine, AFFINE)
        assert nib.load(path).shape == SHAPE
    for path in masks:
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), given)

    learned.clear()
    assert command("crossval", labelled, tmp_path).code == 0
    assert learned == []  # every fold was there


def test_a_fold_that_was_lost_is_made_again_alone(labelled, tmp_path, learned):
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    masks = sorted((tmp_path / "out" / "bids" / "predictions" / "sub-02").rglob("*_mask.nii.gz"))
    before = [np.asarray(nib.load(path).dataobj) for path in masks]
    found = tmp_path / "work" / "folds" / "bids_sub-02" / "found" / "bids"
    for path in (*masks, *found.iterdir()):
        path.unlink()
    learned.clear()
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    assert learned == [["bids/sub-01", "bids/sub-03"]]
    assert before
    for path, values in zip(masks, before, strict=True):
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), values)


def test_a_longer_training_goes_on_in_every_fold(labelled, tmp_path, learned):
    minutes = ("--folds", "2", "--max-minutes")
    assert command("crossval", labelled, tmp_path, *minutes, 5).code == 0
    first = list(learned)
    assert command("crossval", labelled, tmp_path, *minutes, 5).code == 0
    assert learned == first
    assert command("crossval", labelled, tmp_path, *minutes, 6).code == 0
    assert learned == first * 2
    done = command("crossval", labelled, tmp_path, *minutes, 5)
    assert done.code == 2
    assert "other max_minutes" in done.text


def test_processes_share_the_folds(tmp_path, monkeypatch):
    trained = []
    parted = [Fold(name, frozenset(), (), (), tmp_path / name) for name in ("one", "two", "three")]
    parted[0].folder.mkdir()
    elsewhere = FileLock(parted[0].folder / "training.lock")

    def train(fold, *_):
        trained.append(fold.name)
        elsewhere.release()  # and the other process is gone

    monkeypatch.setattr(crossval, "_train_fold", train)
    monkeypatch.setattr(crossval, "is_done", lambda fold, _: fold.name in trained)
    elsewhere.acquire()
    recipe = find_recipe("valverde2017")
    crossval._train_folds(parted, None, recipe, None, torch.device("cpu"))
    assert trained == ["two", "three", "one"]


def test_each_fold_keeps_its_weights(labelled, tmp_path):
    assert command("crossval", labelled, tmp_path, "--folds", "2").code == 0
    weights = tmp_path / "work" / "folds" / "bids_sub-02" / "weights"
    card = json.loads((weights / "valverde2017.json").read_text())
    assert card["training_scans"] == ["bids/sub-01", "bids/sub-03"]
    assert card["threshold"] == 0.5


def test_masks_of_another_training_are_replaced(labelled, tmp_path, untrained):
    def highest(seed: int) -> list[float]:
        work = ("-w", tmp_path / f"work{seed}", "--random-seed", seed)
        two = ("--participant-label", "01", "03")
        done = command("crossval", labelled, tmp_path, *work, *two)
        assert done.code == 0, done.text
        maps = sorted((tmp_path / "out" / "bids" / "predictions").rglob("*_probseg.nii.gz"))
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
    assert "sub-02_ses-1_space-FLAIR_label-lesion_mask.nii.gz is of another" in done.text


def test_every_fold_needs_lesions_to_learn_from(labelled, tmp_path):
    for label in ("sub-01", "sub-02_ses-1", "sub-02_ses-2"):
        empty = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)
        empty.to_filename(mask_path(labelled, label))
    done = command("crossval", labelled, tmp_path)
    assert done.code == 2
    assert "without bids/sub-03 no scan has a lesion to learn from" in done.text
    assert not (tmp_path / "work" / "folds").exists()


def test_folds_share_the_participants():
    people = dict.fromkeys("abc", "one")
    assert make_folds(people, "loo") == [{"a"}, {"b"}, {"c"}]
    assert make_folds(people, "2") == [{"a", "c"}, {"b"}]
    for wrong in ("1", "4", "all", "-2"):
        with pytest.raises(UsageError, match=r"give loo, source, or a number from 2 .* which is 3"):
            make_folds(people, wrong)


def test_folds_share_the_participants_of_each_dataset_evenly():
    # In turn, as where the scans of datasets were mixed.
    people = {f"{source}/{n}": source for n in range(7) for source in ("one", "two", "three")}
    del people["two/0"], people["three/0"], people["three/1"]
    folds = make_folds(people, "3")
    assert sorted(name for fold in folds for name in fold) == sorted(people)
    assert {len(fold) for fold in folds} == {6}
    for source, count in (("one", 7), ("two", 6), ("three", 5)):
        shares = [sum(people[name] == source for name in fold) for fold in folds]
        assert sum(shares) == count
        assert max(shares) - min(shares) <= 1


def test_a_fold_may_be_a_dataset():
    people = {"a/1": "a", "b/1": "b", "a/2": "a", "c/1": "c"}
    assert make_folds(people, "source") == [{"a/1", "a/2"}, {"b/1"}, {"c/1"}]
    with pytest.raises(UsageError, match="there is one dataset; give several, or loo"):
        make_folds({"a/1": "a", "a/2": "a"}, "source")


def test_folds_of_many_participants_have_short_names():
    few, many = ({f"bids/sub-PATIENT{n:05}" for n in range(count)} for count in (2, 40))
    assert folds._fold_name(few) == "bids_sub-PATIENT00000+bids_sub-PATIENT00001"
    assert len(folds._fold_name(many)) < 30
    assert folds._fold_name(many) != folds._fold_name(many - few)
