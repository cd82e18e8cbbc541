"""Several datasets are learned from together, and equal labels in them are different people."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cascade_bids.errors import UsageError
from cascade_bids.models import predict
from cascade_bids.models.predict import predict_lesions
from cascade_bids.training import crossval
from cascade_bids.training.calibration.operating_point import THRESHOLDS

from ...tiny_heads import image_path, run, stand_ins, stats
from .labelled import command, make_labelled, mask_path, write_mask

pytestmark = pytest.mark.slow

BOXES = {
    "here/sub-01": (slice(8, 10), slice(12, 15), slice(8, 11)),
    "here/sub-02": (slice(10, 13), slice(10, 12), slice(7, 10)),
    "there/sub-01": (slice(12, 15), slice(15, 17), slice(9, 12)),
}
"""Lesions of each participant, in voxels of the FLAIR."""

CASCADE = ("--method", "cascade")


@pytest.fixture
def two(tmp_path):
    """Two datasets with a participant of the same label each, whose lesions differ."""
    here = make_labelled(tmp_path / "here", "sub-01", "sub-02")
    there = make_labelled(tmp_path / "there", "sub-01")
    for participant, box in BOXES.items():
        source, label = participant.split("/")
        write_mask(mask_path(tmp_path / source, label), box)
    return here, there


def test_both_are_learned_from_and_a_fold_leaves_out_only_its_own(two, tmp_path, learned):
    done = command("crossval", two, tmp_path, *CASCADE, out="scores")
    assert done.code == 0, done.text
    assert learned == [
        ["here/sub-02", "there/sub-01"],
        ["here/sub-01", "there/sub-01"],
        ["here/sub-01", "here/sub-02"],
    ]
    folds = tmp_path / "work" / "folds"
    card = json.loads((folds / "there_sub-01" / "weights" / "cascade.json").read_text())
    assert card["training_scans"] == ["here/sub-01", "here/sub-02"]
    for source, count in (("here", 2), ("there", 1)):
        table = pd.read_csv(tmp_path / "scores" / source / "evaluation.tsv", sep="\t")
        assert len(table) == count
        masks = sorted((tmp_path / "scores" / source / "references").rglob("*_mask.nii.gz"))
        given = sorted((tmp_path / source).rglob("*_mask.nii.gz"))
        for found, mask in zip(masks, given, strict=True):
            np.testing.assert_array_equal(nib.load(found).dataobj, nib.load(mask).dataobj)

    done = command("train", two, tmp_path, *CASCADE)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "cascade.json").read_text())
    assert card["training_scans"] == list(card["cross_validation"]["scans"]) == list(BOXES)


@pytest.mark.parametrize("method", ["perceptrons", "cascade"])
def test_nothing_of_a_left_out_participant_reaches_its_fold(two, tmp_path, monkeypatch, method):
    """Whatever is prepared of them is out of reach while the others are learned from."""
    mask = mask_path(two[0], "sub-01")
    template = mask.name.replace("_label", "_space-MNI152NLin6Asym_label")
    write_mask(mask.with_name(template), BOXES["here/sub-01"])
    left_out = []
    train = crossval.train_stages

    def watched(recipe, cases, *args, generator, **options):
        known = {case.participant for case in cases}
        (other,) = BOXES.keys() - known
        left_out.append(other)
        folder = tmp_path / "work" / "cases" / other
        own = np.load(folder / "lesions.npy")
        assert own.any()
        assert not any(np.array_equal(case.lesions, own) for case in cases)
        if generator is not None:
            assert {one.case.participant for one in generator.real} == known
            assert {donor.participant for donor in generator.donors} == known
            for donor in generator.donors:
                assert not np.array_equal(donor.mask, own)
        away = folder.rename(tmp_path / "away")
        try:
            return train(recipe, cases, *args, generator=generator, **options)
        finally:
            away.rename(folder)

    monkeypatch.setattr(crossval, "train_stages", watched)
    done = command("crossval", two, tmp_path, "--method", method)
    assert done.code == 0, done.text
    assert left_out == list(BOXES)


def test_masks_in_one_folder_are_no_lesions_of_the_other_dataset(tmp_path, monkeypatch):
    datasets = [make_labelled(tmp_path / f"bids{n}", f"sub-0{n}") for n in (1, 2)]
    for name in ("sub-01", "sub-02", *(f"sub-0{n}_space-MNI152NLin6Asym" for n in (1, 2, 3))):
        write_mask(tmp_path / "masks" / f"{name}_label-lesion_mask.nii.gz")
    seen = []

    def watched(recipe, cases, *args, generator, **options):
        seen.append({donor.participant for donor in generator.donors})
        raise UsageError("seen enough")

    monkeypatch.setattr(crossval, "train_stages", watched)
    masks = ("--masks", tmp_path / "masks", tmp_path / "masks")
    command("crossval", datasets, tmp_path, "--method", "perceptrons", *masks)
    # Nobody is left out of whom there is no scan.
    assert seen == [{"bids2/sub-02", "bids1/sub-03", "bids2/sub-03"}]


def test_a_dataset_may_be_left_out_as_a_whole(two, tmp_path, untrained):
    done = command("crossval", two, tmp_path, "--folds", "source")
    assert done.code == 0, done.text
    found = tmp_path / "work" / "folds"
    assert {path.name for path in found.iterdir()} == {"here_sub-01+here_sub-02", "there_sub-01"}
    assert (found / "here_sub-01+here_sub-02" / "found" / "here" / "sub-02.npz").exists()
    assert len(untrained) == 2


def test_two_datasets_of_one_name_are_refused_but_a_link_has_a_name_of_its_own(
    two, tmp_path, untrained
):
    (tmp_path / "other").mkdir()
    other = make_labelled(tmp_path / "other" / "here", "sub-05")
    done = command("crossval", [two[0], other], tmp_path)
    assert done.code == 2
    assert "two datasets have the name here" in done.text
    link = tmp_path / "elsewhere"
    link.symlink_to(other)
    done = command("crossval", [two[0], link], tmp_path)
    assert done.code == 0, done.text
    assert (tmp_path / "out" / "elsewhere" / "evaluation.tsv").exists()


def test_masks_are_given_for_each_dataset(two, tmp_path):
    masks = [tmp_path / "masks" / source for source in ("one", "two")]
    for folder in masks:
        write_mask(folder / "sub-01_label-lesion_mask.nii.gz")
    done = command("train", two, tmp_path, *CASCADE, "--masks", masks[0])
    assert done.code == 2
    assert "--masks: give one folder for each of the 2 datasets" in done.text
    done = command("train", two, tmp_path, *CASCADE, "--masks", *masks)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "cascade.json").read_text())
    assert card["training_scans"] == ["here/sub-01", "there/sub-01"]


def test_participants_of_several_datasets_are_named_with_theirs(two, tmp_path):
    def train(name, *labels):
        options = ("--name", name, "-w", tmp_path / "works" / name, "--participant-label", *labels)
        return command("train", two, tmp_path, *CASCADE, *options)

    for name, labels in (
        ("both", ["here/02", "there/sub-01"]),
        ("one", ["there/01"]),
    ):
        done = train(name, *labels)
        assert done.code == 0, done.text
        card = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert card["training_scans"] == ["here/sub-02", "there/sub-01"][-len(labels) :]
    for wrong in ("01", "nowhere/01"):
        done = train("none", wrong)
        assert done.code == 2
        assert f"--participant-label {wrong}: give DATASET/LABEL" in done.text
        assert "here, there" in done.text
    done = train("none", "there/02")
    assert done.code == 2


def test_a_cascade_is_cross_validated_trained_and_run_with_scans_that_lack_a_contrast(
    two, tmp_path, learned
):
    image_path(two[0], "sub-02", "T1w").unlink()
    done = command("crossval", two, tmp_path, *CASCADE, out="scores")
    assert done.code == 0, done.text
    assert learned[0] == ["here/sub-02", "there/sub-01"]
    settings = json.loads((tmp_path / "work" / "settings.json").read_text())
    assert settings["contrasts of cases"] == {
        "here/sub-01": ["FLAIR", "T1w"],
        "here/sub-02": ["FLAIR"],
        "there/sub-01": ["FLAIR", "T1w"],
    }
    folds = tmp_path / "work" / "folds"
    found = {path.name for path in folds.glob("*/found/here/*")}
    both, without = {"sub-01.npz", "sub-02.npz"}, {"sub-01_without-T1w.npz"}
    assert found == both | without | {"sub-01_stage-1.npz", "sub-02_stage-1.npz"}
    for label in ("here_sub-01", "here_sub-02", "there_sub-01"):
        card = json.loads((folds / label / "weights" / "cascade.json").read_text())
        assert card["threshold"] in THRESHOLDS

    done = command("train", two, tmp_path, *CASCADE, "--name", "mine")
    assert done.code == 0, done.text
    path = tmp_path / "out" / "mine.json"
    card = json.loads(path.read_text())
    assert card["training_scans"] == list(BOXES)
    assert card["optional"] == ["T1w"]
    assert card["threshold"] in THRESHOLDS
    calibration = json.loads((tmp_path / "work" / "scores.json").read_text())["calibration"]
    assert {name: card[name] for name in ("threshold", "min_lesion_mm3", "peak")} == {
        name: calibration[name] for name in ("threshold", "min_lesion_mm3", "peak")
    }
    with stand_ins(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "predict_lesions", predict_lesions)
        one = ("--skip-bids-validation", "--participant-label", "02", "--method", path)
        done = run(two[0], tmp_path / "derivatives", *one)
    assert done.code == 0, done.text
    assert stats(done.out, "sub-02")["method"] == "mine"


def test_a_published_method_needs_all_contrasts(two, tmp_path):
    image_path(two[0], "sub-02", "T1w").unlink()
    for bids in two:
        write_mask(mask_path(bids, "sub-01"))
    assert command("train", two, tmp_path).code == 0
    card = json.loads((tmp_path / "out" / "valverde2017.json").read_text())
    assert card["training_scans"] == ["here/sub-01", "there/sub-01"]


def test_crops_of_a_cascade_can_be_looked_at(two, tmp_path):
    done = command("preview-training", two, tmp_path, *CASCADE, "--samples", 2)
    assert done.code == 0, done.text
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000


def test_a_cascade_remembers_whom_the_weights_that_it_started_with_knew(two, tmp_path):
    one = ("--participant-label", "here/02", "there/01")
    assert command("train", two, tmp_path, *CASCADE, *one).code == 0
    start = ("--start-from", tmp_path / "out" / "cascade.json", "--name", "second")
    other = ("--participant-label", "here/01", "there/01", "-w", tmp_path / "work2")
    done = command("train", two, tmp_path, *CASCADE, *start, *other)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "second.json").read_text())
    assert card["started_from"] == "cascade"
    assert card["learned_before"] == ["here/sub-02", "there/sub-01"]
