"""Trainings of a method that learns from drawn scans: real ones that are changed, and synthetic."""

import json
import shutil
from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch

from cascade_bids.config import PreprocessConfig, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.models import predict
from cascade_bids.models.architectures.cascade import CascadeUNet
from cascade_bids.models.card import load_card, load_model_card
from cascade_bids.models.card_checks import USE
from cascade_bids.models.join import join_methods
from cascade_bids.models.predict import load_stages, predict_lesions
from cascade_bids.models.weights import save_method
from cascade_bids.training import crossval, sources, train
from cascade_bids.training.calibration import out_of_fold
from cascade_bids.training.calibration.operating_point import THRESHOLDS
from cascade_bids.training.data import healthy
from cascade_bids.training.data.prepare import find_unlabelled, prepare_cases
from cascade_bids.training.fit import voxels
from cascade_bids.training.synthesis import ignore_mask

from ...tiny_heads import (
    image_path,
    run,
    stand_ins,
)
from ..data.healthy_scans import LEVEL, make_labels, make_t1w, write_scan
from ..tiny_anatomy import make_anatomy
from .labelled import command, take, write_mask

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_samples_can_be_looked_at(labelled, tmp_path):
    one = ("--participant-label", "01", "--samples", "1")
    done = command("preview-training", labelled, tmp_path, "--method", "perceptrons", *one)
    assert done.code == 0, done.text
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000
    done = command("preview-training", labelled, tmp_path, *one, "-w", tmp_path / "work2")
    assert done.code == 2
    assert "valverde2017 learns from scans as they are" in done.text
    done = command("train", labelled, tmp_path, "--label-maps", labelled)
    assert done.code == 2
    assert "--label-maps: valverde2017 learns from real scans only" in done.text
    done = command("train", labelled, tmp_path, "--healthy", labelled)
    assert done.code == 2
    assert "--healthy: valverde2017 learns from real scans only" in done.text
    done = command("train", labelled, tmp_path, "--unlabelled", labelled)
    assert done.code == 2
    assert "--unlabelled: valverde2017 needs labelled scans" in done.text


def test_the_old_name_of_label_maps_is_taken_with_a_notice(labelled, tmp_path):
    done = command("train", labelled, tmp_path, "--heads", labelled)
    assert done.code == 2
    assert "cascade-bids: --heads is called --label-maps now" in done.text
    assert "--label-maps: valverde2017 learns from real scans only" in done.text


def test_a_method_that_can_do_without_runs_on_flair_alone(labelled, tmp_path):
    options = ("--method", "perceptrons", "--name", "mine", "--participant-label", "01")
    assert command("train", labelled, tmp_path, *options).code == 0
    card = tmp_path / "out" / "mine.json"
    assert json.loads(card.read_text())["optional"] == ["T1w"]
    image_path(labelled, "sub-04", "T1w").unlink()
    with stand_ins() as _, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "predict_lesions", predict_lesions)
        one = ("--skip-bids-validation", "--participant-label", "04", "--method", card)
        done = run(labelled, tmp_path / "derivatives", *one)
    assert done.code == 0, done.text
    text = (done.out / "logs" / "CITATION.md").read_text()
    assert "T1w where there was one" in text
    assert "trained on randomly changed labelled scans, classify voxels" in text


def test_a_training_goes_on_from_other_weights(labelled, tmp_path, caplog):
    options = ("--method", "perceptrons", "--participant-label", "01")
    assert command("train", labelled, tmp_path, *options).code == 0
    first = tmp_path / "out" / "perceptrons.json"
    start = ("--method", "perceptrons", "--start-from", first)
    work = ("-w", tmp_path / "work2", "--name", "second")
    done = command("train", labelled, tmp_path, *start, *work, "--participant-label", "03")
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "second.json").read_text())
    assert card["started_from"] == "perceptrons"
    assert card["lesion_donors"] == card["training_scans"] == ["bids/sub-03"]

    folds = ("-w", tmp_path / "work3", "--participant-label", "01", "03")
    assert command("crossval", labelled, tmp_path, *start, *folds, out="scores").code == 0
    assert "perceptrons has learned from bids/sub-01; if they are" in caplog.text
    assert "context has learned from sub-01, sub-03; if they are" in caplog.text

    other = ("--contrasts", "FLAIR", "T1w", "T2w", "-w", tmp_path / "work4")
    done = command("train", labelled, tmp_path, *start, *other)
    assert done.code == 2
    assert (
        "--start-from perceptrons: 2 stages of perceptrons on FLAIR, T1w, where 2 on FLAIR, T1w, "
        "T2w are needed" in done.text
    )
    done = command("train", labelled, tmp_path, "--start-from", first, "-w", tmp_path / "work5")
    assert done.code == 2
    assert "--start-from: valverde2017 learns from scratch" in done.text


def test_a_training_goes_on_from_the_member_of_its_kind(labelled, tmp_path):
    start = ("--method", "perceptrons", "--participant-label", "01")
    assert command("train", labelled, tmp_path, *start).code == 0
    first = load_card(str(tmp_path / "out" / "perceptrons.json"))
    entries = {name: value for name, value in first.entries().items() if name in USE}
    network = CascadeUNet.create(channels_in=2, cascaded=False)
    stage = {"architecture": "CascadeUNet", "arguments": network.arguments, "candidates": {}}
    entries |= {"combination": "last"}
    other = save_method("other", [(network, stage)], entries, tmp_path)
    both = join_methods([str(other), str(first.path)], "both", tmp_path)
    work = ("--start-from", both, "-w", tmp_path / "work2", "--name", "second")
    done = command("train", labelled, tmp_path, *start, *work)
    assert done.code == 0, done.text
    assert json.loads((tmp_path / "out" / "second.json").read_text())["started_from"] == "both"


def test_a_method_of_real_and_synthetic_scans_is_calibrated(labelled, tmp_path, monkeypatch):
    small = make_anatomy()
    # In the template it is as large as those of the scans, so that their lesions lie in it.
    large = torch.diag(torch.tensor([6.0, 6, 6, 1])) @ small.to_template
    monkeypatch.setattr(sources, "load_label_maps", lambda *_: [replace(small, to_template=large)])
    label_map = tmp_path / "label-maps" / "head01_dseg.nii.gz"
    label_map.parent.mkdir()
    label_map.write_bytes(b"as it was")
    monkeypatch.setattr(sources, "find_label_maps", lambda _: [label_map])
    monkeypatch.setattr(train, "SCANS_TO_CALIBRATE", 20)
    # To networks that learned for an epoch everything may be a lesion.
    monkeypatch.setattr(ignore_mask, "LIKELY_ABOVE", 0.99)
    monkeypatch.setattr(voxels, "SCANS", 4)
    options = ("--method", "perceptrons", "--participant-label", "01", "03")
    options = (*options, "--label-maps", label_map.parent, "--unlabelled", labelled)
    done = command("crossval", labelled, tmp_path, *options, out="scores")
    assert done.code == 0, done.text
    fold = tmp_path / "work" / "folds" / "bids_sub-01"
    predicted = {path.name for path in (fold / "found" / "bids").iterdir()}
    whole = {"sub-01.npz", "sub-01_without-T1w.npz"}
    assert predicted == whole | {"sub-01_stage-1.npz", "sub-01_stage-2.npz"}
    assert len(list((fold / "synthetic").iterdir())) == out_of_fold.SCANS_OF_FOLD
    assert command("train", labelled, tmp_path, *options).code == 0
    card = json.loads((tmp_path / "out" / "perceptrons.json").read_text())
    assert card["heads"] == ["head01"]
    assert card["unlabelled_scans"] == ["sub-04"]
    # The expert of labelled scans counts for more, the more participants it knows.
    of_fold = json.loads((fold / "weights" / "perceptrons.json").read_text())
    for one, people in ((of_fold, 1), (card, 2)):
        share = [stage["arguments"].get("share") for stage in one["stages"]]
        assert share == [round(people / (people + 10), 4)] * 2 + [None]
    assert set(card["cross_validation"]["scans"]) == {"bids/sub-01", "bids/sub-03"}
    assert card["threshold"] in THRESHOLDS
    assert card["load_factor"] > 0
    assert load_stages(load_card(str(tmp_path / "out" / "perceptrons.json")), device=CPU)
    label_map.write_bytes(b"corrected")
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 2
    assert "belongs to a training with other label maps" in done.text


@pytest.fixture
def healthy_dataset(tmp_path, monkeypatch):
    """A healthy scan, which lies on the network grid already."""
    anatomy = make_anatomy()
    arrays = {
        "tissues": anatomy.tissues.numpy(),
        "depth_mm": anatomy.depth_mm.numpy(),
        # In the template it is as large as those of the scans, so that their lesions lie in it.
        "to_template": (np.diag([6.0, 6, 6, 1]) @ anatomy.to_template.numpy()).astype(np.float32),
        "t1w": (np.asarray(make_t1w().dataobj) / LEVEL).astype(np.float16),
    }
    monkeypatch.setattr(healthy, "lay_scan", lambda _: arrays)
    write_scan(tmp_path / "healthy", "sub-9", make_t1w(), make_labels())
    return tmp_path / "healthy"


def test_lesions_are_painted_into_healthy_scans(labelled, tmp_path, monkeypatch, healthy_dataset):
    monkeypatch.setattr(train, "SCANS_TO_CALIBRATE", 20)
    monkeypatch.setattr(voxels, "SCANS", 4)
    options = ("--method", "perceptrons", "--participant-label", "01", "--healthy", healthy_dataset)
    shown = command("preview-training", labelled, tmp_path, *options, "--samples", 2)
    assert shown.code == 0, shown.text
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "perceptrons.json").read_text())
    assert card["healthy_scans"] == ["sub-9"]
    assert card["heads"] == []
    # It has synthetic scans to calibrate with, and two experts to weigh.
    assert card["load_factor"] > 0
    assert card["stages"][0]["arguments"]["experts"] == 2

    written = load_card(str(tmp_path / "out" / "perceptrons.json"))
    assert written.participants == {"bids/sub-01", "sub-9"}
    bids = tmp_path / "healthy"
    for inside in (("-w", bids), ("-w", bids / "work")):
        done = command("train", labelled, tmp_path, *options, *inside)
        assert done.code == 2
        assert "lies inside the input" in done.text
    t1w = make_t1w()
    brighter = nib.Nifti1Image(np.asarray(t1w.dataobj) + 1, t1w.affine)
    write_scan(healthy_dataset, "sub-9", brighter, make_labels())
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 2
    assert "belongs to a training with other healthy scans" in done.text
    without = [*options[:-2], "--unlabelled", labelled]
    done = command("train", labelled, tmp_path, *without)
    assert done.code == 2
    assert "belongs to a training with other healthy" in done.text


def test_patients_are_not_taken_for_healthy(labelled, tmp_path, healthy_dataset, caplog):
    options = ("--method", "perceptrons", "--participant-label", "01", "--healthy", healthy_dataset)
    # A patient of whom there is a mask, though nobody named them.
    write_scan(healthy_dataset, "sub-03", make_t1w(), make_labels())
    done = command("preview-training", labelled, tmp_path, *options, "--samples", 1)
    assert done.code == 0, done.text
    assert "of sub-03 there is a lesion mask; not taken for healthy" in caplog.text
    assert [path.name[:6] for path in (tmp_path / "work/prepared/healthy").iterdir()] == ["sub-9_"]
    shutil.rmtree(healthy_dataset / "sub-9")
    done = command("preview-training", labelled, tmp_path, *options, "-w", tmp_path / "work2")
    assert done.code == 2
    assert "--healthy: there is a lesion mask of everyone in it" in done.text


def test_healthy_scans_alone_can_teach(labelled, tmp_path, healthy_dataset, monkeypatch):
    monkeypatch.setattr(train, "SCANS_TO_CALIBRATE", 20)
    monkeypatch.setattr(voxels, "SCANS", 4)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = next(labelled.rglob("sub-01_label-lesion_mask.nii.gz"))
    mask.rename(masks / "sub-01_space-MNI152NLin6Asym_label-lesion_mask.nii.gz")
    for path in labelled.rglob("*_label-lesion_mask.nii.gz"):
        path.unlink()
    options = ("--method", "perceptrons", "--healthy", healthy_dataset, "--masks", masks)
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "perceptrons.json").read_text())
    assert (card["training_scans"], card["healthy_scans"]) == ([], ["sub-9"])
    assert card["stages"][0]["arguments"]["experts"] == 1


def test_where_no_scan_is_unlabelled_it_is_said(labelled, tmp_path):
    method = ("--method", "perceptrons", "--participant-label", "01")
    image_path(labelled, "sub-04", "T1w").unlink()
    done = command("train", labelled, tmp_path, *method, "--unlabelled", labelled)
    assert done.code == 2
    assert "--unlabelled: no scan in" in done.text
    assert "has FLAIR and T1w and no lesion mask" in done.text


def test_scans_whose_masks_lie_elsewhere_are_labelled(labelled, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in labelled.rglob("*_label-lesion_mask.nii.gz"):
        path.rename(masks / path.name)
    image_path(labelled, "sub-04", "T1w").unlink()
    with pytest.raises(UsageError, match="no lesion mask"):
        find_unlabelled(labelled, ("FLAIR", "T1w"), masks_dirs=[labelled, masks], work_dir=tmp_path)


def test_a_scan_with_a_prediction_or_two_masks_is_passed_over_and_named(labelled, tmp_path, caplog):
    caplog.set_level("INFO", "cascade_bids")
    anat = image_path(labelled, "sub-04", "FLAIR").parent
    for label in ("05", "06", "07"):
        copied = shutil.copytree(anat, labelled / f"sub-{label}" / "anat")
        for path in copied.iterdir():
            path.rename(path.with_name(path.name.replace("sub-04", f"sub-{label}")))
    further = {"04": ("mask", "probseg"), "05": ("mask", "desc-other_mask")}
    for label, names in further.items():
        image = image_path(labelled, f"sub-{label}", "FLAIR")
        for name in names:
            shutil.copy(image, image.with_name(f"sub-{label}_label-lesion_{name}.nii.gz"))
    image_path(labelled, "sub-06", "T1w").unlink()
    cases = find_unlabelled(
        labelled, ("FLAIR", "T1w"), masks_dirs=[labelled], work_dir=tmp_path / "work"
    )
    assert [case.label for case in cases] == ["sub-07"]
    for label in ("04", "05"):
        assert f"sub-{label} is not taken for unlabelled: there is sub-{label}_" in caplog.text
    assert "sub-06 is not taken for unlabelled: it has no T1w" in caplog.text


def test_folders_with_nothing_to_take_are_named_before_anything_is_prepared(labelled, tmp_path):
    method = ("--method", "perceptrons")
    done = command("train", labelled, tmp_path, *method, "--unlabelled", tmp_path / "none")
    assert done.code == 2
    assert f"--unlabelled: {tmp_path / 'none'} is not a folder" in done.text
    done = command("train", labelled, tmp_path, *method, "--label-maps", tmp_path / "none")
    assert done.code == 2
    assert "--label-maps: no head*_dseg.nii.gz" in done.text
    done = command("train", labelled, tmp_path, *method, "--healthy", labelled)
    assert done.code == 2
    assert "--healthy: no sub-*/anat/sub-*_T1w.nii.gz" in done.text
    assert not (tmp_path / "work").exists()


def test_masks_alone_can_teach_where_scans_are_synthetic(labelled, tmp_path):
    for path in labelled.rglob("*_label-lesion_mask.nii.gz"):
        path.unlink()
    resources = ResourceConfig(nprocs=1)
    options = {"optional": (), "preprocess": PreprocessConfig(), "resources": resources}
    options["brain_card"] = load_model_card("brain")
    contrasts = ("FLAIR", "T1w")
    prepare = partial(
        prepare_cases, [take(labelled)], contrasts, work_dir=tmp_path, anatomy=False, **options
    )
    assert prepare(needed=False) == []
    with pytest.raises(UsageError, match="no scan in"):
        prepare()
    empty = tmp_path / "label-maps"
    empty.mkdir()
    options = ("--method", "perceptrons", "--label-maps", empty)
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 2
    assert "no head*_dseg.nii.gz" in done.text


def test_a_cascade_learns_from_painted_scans_of_no_one_who_is_left_out(
    labelled, tmp_path, monkeypatch
):
    label_map = tmp_path / "label-maps" / "head01_dseg.nii.gz"
    label_map.parent.mkdir()
    label_map.write_bytes(b"as it was")
    small = make_anatomy()
    large = torch.diag(torch.tensor([6.0, 6, 6, 1])) @ small.to_template
    monkeypatch.setattr(sources, "load_label_maps", lambda *_: [replace(small, to_template=large)])
    monkeypatch.setattr(sources, "find_label_maps", lambda _: [label_map])
    write_mask(labelled / "sub-09_space-MNI152NLin6Asym_label-lesion_mask.nii.gz")
    seen = []
    train_stages = crossval.train_stages

    def watched(recipe, cases, *args, generator, **options):
        seen.append(sorted({one.participant for one in generator.painted}))
        assert [donor.participant for donor in generator.donors] == ["bids/sub-09"]
        return train_stages(recipe, cases, *args, generator=generator, **options)

    monkeypatch.setattr(crossval, "train_stages", watched)
    options = ("--method", "cascade", "--label-maps", label_map.parent)
    done = command("crossval", labelled, tmp_path, *options, "--folds", "2", out="scores")
    assert done.code == 0, done.text
    assert seen == [
        ["bids/sub-02", "synthetic/sub-head01"],
        ["bids/sub-01", "bids/sub-03", "synthetic/sub-head01"],
    ]
    assert command("train", labelled, tmp_path, *options).code == 0
    card = json.loads((tmp_path / "out" / "cascade.json").read_text())
    assert card["heads"] == ["head01"]
    assert card["lesion_donors"] == ["bids/sub-09"]


def test_a_cascade_needs_labelled_scans_beside_label_maps(labelled, tmp_path):
    label_map = tmp_path / "label-maps" / "head01_dseg.nii.gz"
    label_map.parent.mkdir()
    label_map.write_bytes(b"")
    options = ("--method", "cascade", "--label-maps", label_map.parent, "--masks", label_map.parent)
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 2
    assert "no scan in" in done.text
