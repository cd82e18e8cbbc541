"""From a labelled dataset to weights, and to lesions that they find."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cascade_bids.bids.scan import Scan
from cascade_bids.config import PreprocessConfig, ResourceConfig
from cascade_bids.errors import StartError, UsageError
from cascade_bids.interfaces import models
from cascade_bids.models import predict
from cascade_bids.models.card import load_card, load_model_card
from cascade_bids.models.cases import Case, save_case
from cascade_bids.models.predict import load_stages, predict_lesions
from cascade_bids.preprocess import anatomical_coordinates
from cascade_bids.training.data.prepare import prepare_cases
from cascade_bids.training.recipes import RECIPES, find_recipe

from ...tiny_heads import (
    AFFINE,
    NETWORK_GRID,
    SHAPE,
    image_path,
    run,
    stand_ins,
    stats,
)
from .labelled import command, mask_path, take, write_mask

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
WITH_ANATOMY = ("allnet", "allnet-tiramisu", "allnet-anaconv")
WITH_SPHERES = ("allnet", "allnet-tiramisu", "allnet-lesloss")


@pytest.mark.parametrize("method", list(RECIPES))
def test_every_published_method_trains(labelled, tmp_path, method):
    contrasts = ("--contrasts", "T1w", "FLAIR") if method == "nicmslesions" else ()
    options = ("--method", method, "--name", "mine", "--participant-label", "01", *contrasts)
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["training_scans"] == ["bids/sub-01"]
    assert card["contrasts"] == list(contrasts[1:] or ("FLAIR", "T1w"))
    assert card["combination"] == find_recipe(method).combination
    recipe = find_recipe(method)
    assert card["anatomy"] == recipe.takes_anatomy == (method in WITH_ANATOMY)
    assert card["sphere_head"] == (method in WITH_SPHERES)
    stages = load_stages(load_card(str(tmp_path / "out" / "mine.json")), device=CPU)
    trained = len(recipe.stages)
    used = [stage.candidates for stage in stages]
    assert used[:trained] == [stage.use for stage in recipe.stages]
    # One that stays as it is may come at the end.
    assert len(used) == trained + (recipe.ending is not None)
    for number in range(1, trained + 1):
        folder = tmp_path / "work" / "all" / f"stage{number}"
        assert len((folder / "curves.tsv").read_text().splitlines()) == 2
        assert (folder / "curves.png").stat().st_size > 1000


def test_all_net_runs_by_its_card_and_separates_lesions(labelled, tmp_path):
    options = ("--method", "allnet", "--name", "mine", "--seeds", "3", "--participant-label", "01")
    assert command("train", labelled, tmp_path, *options).code == 0
    card = tmp_path / "out" / "mine.json"
    assert len(json.loads(card.read_text())["stages"]) == 3
    one = ("--skip-bids-validation", "--participant-label", "01", "--method", card)
    find = models.FindLesions._run_interface
    seen = {}

    def watched(self, runtime):
        runtime = find(self, runtime)
        for name in ("out_file", "spheres"):
            seen[name] = np.asarray(nib.load(self._results[name]).dataobj)
        return runtime

    with stand_ins() as _, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "predict_lesions", predict_lesions)
        patch.setattr(models.FindLesions, "_run_interface", watched)
        done = run(labelled, tmp_path / "derivatives", *one, "--separate-lesions")
    assert done.code == 0, done.text
    assert stats(done.out, "sub-01")["separate_lesions"] is True
    assert not np.array_equal(seen["out_file"], seen["spheres"])
    for found in seen.values():
        assert found.any()
        assert ((found >= 0) & (found <= 1)).all()


def test_only_networks_that_vote_can_be_more_or_fewer(labelled, tmp_path):
    done = command("train", labelled, tmp_path, "--seeds", "2")
    assert done.code == 2
    assert "the networks of valverde2017 do not vote; leave it out" in done.text


def test_a_trained_method_runs_by_its_card(labelled, tmp_path):
    assert command("train", labelled, tmp_path, "--name", "mine").code == 0
    card = tmp_path / "out" / "mine.json"
    assert json.loads(card.read_text())["training_scans"][-2:] == [
        "bids/sub-02_ses-2",
        "bids/sub-03",
    ]
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
    assert card["training_scans"] == ["bids/sub-01", "bids/sub-03"]


def test_what_cannot_be_learned_from_is_named(labelled, tmp_path):
    done = command("train", labelled, tmp_path, "--participant-label", "04")
    assert done.code == 2
    assert "sub-04 has no lesion mask to learn from" in done.text
    done = command("train", labelled, tmp_path, "--contrasts", "T1w")
    assert done.code == 2
    assert "must name FLAIR" in done.text
    done = command("train", labelled, tmp_path, "--method", "deepmedic")
    assert done.code == 2
    assert f"there are: {', '.join(RECIPES)}" in done.text
    assert {"valverde2017", "nicmslesions", "msseg2016"} <= set(RECIPES)
    mask = mask_path(labelled, "sub-01")
    beside = np.zeros(SHAPE, np.uint8)
    beside[0, 0, 0] = 1
    nib.Nifti1Image(beside, AFFINE).to_filename(mask)
    done = command("train", labelled, tmp_path)
    assert done.code == StartError.exit_code
    assert "sub-01 at save case: the lesion mask has no voxel in the brain" in done.text


@pytest.mark.parametrize("method", ["valverde2017", "allnet-lesloss"])
def test_healthy_scans_are_learned_from_too_but_not_alone(labelled, tmp_path, caplog, method):
    healthy = mask_path(labelled, "sub-01")
    nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_filename(healthy)
    one = ("--method", method, "--name", "mine", "--participant-label", "01")
    done = command("train", labelled, tmp_path, *one)
    assert done.code == 2
    assert (
        "no scan to learn from has a lesion (sub-01_label-lesion_mask.nii.gz); add one" in done.text
    )
    done = command("train", labelled, tmp_path, *one, "03")
    assert done.code == 0, done.text
    assert "without a lesion, by their empty masks: sub-01_label-lesion_mask.nii.gz" in caplog.text
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["training_scans"] == ["bids/sub-01", "bids/sub-03"]


def test_cases_keep_anatomical_maps_behind_the_contrasts(labelled, tmp_path):
    settings = {
        "optional": (),
        "preprocess": PreprocessConfig(),
        "resources": ResourceConfig(nprocs=1),
        "work_dir": tmp_path / "work",
        "anatomy": True,
        "brain_card": load_model_card("brain"),
    }
    datasets = [take(labelled, "01")]
    with pytest.raises(UsageError, match="must name T1w, which anatomical coordinates"):
        prepare_cases(datasets, ("FLAIR",), **settings)
    maps = np.random.default_rng(0).normal(size=(6, *NETWORK_GRID[0])).astype(np.float32)
    with stand_ins(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomical_coordinates, "measure_anatomy", lambda *_, **__: maps)
        (case,) = prepare_cases(datasets, ("T1w", "FLAIR"), **settings)
    assert case.contrasts == ("T1w", "FLAIR")
    assert case.channels.shape == (8, *NETWORK_GRID[0])
    np.testing.assert_array_equal(case.channels[2:], maps)
    np.testing.assert_array_equal(case.channels[1], case.flair)


def test_folders_of_cases_may_be_relative(labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with stand_ins():
        (case,) = prepare_cases(
            [take(Path(labelled.name), "01")],
            ("FLAIR",),
            optional=(),
            preprocess=PreprocessConfig(),
            resources=ResourceConfig(nprocs=1),
            work_dir=Path("work"),
            anatomy=False,
            brain_card=load_model_card("brain"),
        )
    assert case.lesions.any()


def test_a_refused_training_leaves_the_work_folder_alone(labelled, tmp_path):
    one = ("--participant-label", "01")
    assert command("train", labelled, tmp_path, *one).code == 0
    volume = tmp_path / "work" / "cases" / "bids" / "sub-01" / "volume.npy"
    before = volume.read_bytes()
    done = command("train", labelled, tmp_path, *one, "--method", "msseg2016")
    assert done.code == 2
    assert "belongs to a training with other method" in done.text
    assert volume.read_bytes() == before


@pytest.mark.parametrize("place", ["out", "work"])
def test_nothing_is_written_into_the_dataset(labelled, tmp_path, place):
    folders = {"out": tmp_path / "out", "work": tmp_path / "work", place: labelled / "mine"}
    done = command("train", labelled, tmp_path, "--out", folders["out"], "-w", folders["work"])
    assert done.code == 2
    assert "lies inside the input" in done.text
    assert not (labelled / "mine").exists()


def test_options_that_make_no_sense_are_refused(labelled, tmp_path):
    done = command("train", labelled, tmp_path, "--contrasts", "FLAIR", "FLAIR")
    assert done.code == 2
    assert "--contrasts names FLAIR twice" in done.text


def test_a_lesion_outside_the_brain_is_scored_but_not_learned(tmp_path):
    inside, lesions = np.zeros((2, 12, 12, 12), np.uint8)
    inside[2:8] = 1
    lesions[6:10, 4:6, 4:6] = 1
    images = [nib.Nifti1Image(data.astype(np.float32), np.eye(4)) for data in (inside, lesions)]
    save_case(tmp_path / "case", [images[0]], *images, anatomy=None)
    case = Case(Scan("1", None, None), tmp_path / "case", ("FLAIR",))
    assert case.reference.sum() == 16
    assert case.lesions.sum() == 8


def test_own_derivatives_are_learned_from_with_masks_of_a_rater(labelled, tmp_path):
    derivatives = tmp_path / "derivatives"
    with stand_ins():
        done = run(labelled, derivatives, "--participant-label", "01", "03")
    assert done.code == 0, done.text
    done = command("train", derivatives, tmp_path)
    assert done.code == 2
    assert "its lesion masks are predictions; give --masks" in done.text

    done = command("train", derivatives, tmp_path, "--masks", labelled, "--name", "mine")
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["training_scans"] == ["derivatives/sub-01", "derivatives/sub-03"]

    (lost,) = derivatives.glob("sub-03/anat/*desc-brain_mask.nii.gz")
    lost.unlink()
    done = command("train", derivatives, tmp_path, "--masks", labelled, "--participant-label", "03")
    assert done.code == 2
    assert f"sub-03 has no {lost.name} to learn from" in done.text


def test_own_derivatives_give_the_case_that_their_raw_scan_gives(labelled, tmp_path):
    pose = nib.affines.from_matvec(Rotation.from_rotvec([0.1, -0.2, 0.15]).as_matrix(), [9, -5, 7])
    with stand_ins(pose):
        done = run(labelled, tmp_path / "derivatives", "--participant-label", "01")
        assert done.code == 0, done.text
        raw, derived = (
            prepare_cases(
                [take(source, "01", masks=labelled)],
                ("FLAIR", "T1w"),
                optional=(),
                preprocess=PreprocessConfig(),
                resources=ResourceConfig(nprocs=1),
                work_dir=tmp_path / source.name,
                anatomy=False,
                brain_card=load_model_card("brain"),
            )[0]
            for source in (labelled, tmp_path / "derivatives")
        )
    np.testing.assert_array_equal(derived.reference, raw.reference)
    np.testing.assert_array_equal(derived.brain, raw.brain)
    # Beyond the rim of these brains lies scalp or nothing, which the derivatives don't hold. All
    # scores but the lesion's are noise, and the T1w is resampled once more.
    inner = ndimage.binary_erosion(raw.brain, iterations=3)
    for before, after, alike in zip(
        raw.channels.numpy(), derived.channels.numpy(), (0.99, 0.7), strict=True
    ):
        assert np.corrcoef(before[inner], after[inner])[0, 1] > alike
        assert after[inner].mean() == pytest.approx(before[inner].mean(), abs=0.5)
