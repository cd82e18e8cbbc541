"""Crops of labelled scans: what is in them, what counts, and that a network learns from them."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from cascade_bids.bids.scan import Scan
from cascade_bids.errors import UsageError
from cascade_bids.models.architectures.allnet import LesionUNet, evaluate_windows
from cascade_bids.models.architectures.losses import segmentation_loss
from cascade_bids.models.cases import Case, save_case
from cascade_bids.training.fit import crops
from cascade_bids.training.fit.crops import CropBatches, augment_crop, crop_batches
from cascade_bids.training.recipes import RECIPES
from cascade_bids.training.stage_data import StageData

SHAPE = (24, 28, 72)
WINDOW = (16, 16, 24)
LESION_HEIGHTS = (6, 18, 30, 42, 54, 66)
"""One lesion in each slab of 12 mm."""


def make_case(folder, number, heights=LESION_HEIGHTS, seed=0):
    """A box of a brain whose first channel is bright in lesions, the second the scan's number."""
    brain = np.zeros(SHAPE, np.uint8)
    brain[2:-2, 2:-2, 2:-2] = 1
    lesions = np.zeros(SHAPE, np.uint8)
    rng = np.random.default_rng([number, seed])
    for height in heights:
        x, y = rng.integers(5, 17, 2)
        lesions[x : x + 4, y : y + 4, height - 2 : height + 2] = 1
    noise = rng.normal(0, 0.3, SHAPE)
    flair = np.where(brain, noise + 3 * lesions, 0)
    images = [nib.Nifti1Image(np.float32(x), np.eye(4)) for x in (flair, number * brain)]
    masks = [nib.Nifti1Image(mask, np.eye(4)) for mask in (brain, lesions)]
    scan = Scan(str(number), None, None)
    case = Case(scan, folder / f"{number}-{seed}", ("FLAIR", "T1w"))
    save_case(case.folder, images, *masks, anatomy=None)
    return case


@pytest.fixture
def cases(tmp_path):
    return [make_case(tmp_path, number) for number in (1, 2)]


def draw(cases, *, validation=True, seed=0, window=WINDOW, count=8):
    options = {"crops": count, "batch_size": 3, "seed": seed, "validation": validation}
    drawn = list(crop_batches(cases, window, **options))
    return torch.cat([x for x, _ in drawn]), torch.cat([y for _, y in drawn]), drawn


def test_crops_come_from_all_scans_and_every_second_holds_a_lesion(cases):
    inputs, target, drawn = draw(cases)
    assert inputs.shape == (8, 2, *WINDOW)
    assert target.shape == (8, 3, *WINDOW)
    assert [len(x) for x, _ in drawn] == [3, 3, 2]
    scans = [int(x[1].max()) for x in inputs]
    assert sorted(scans) == [1] * 4 + [2] * 4
    assert scans[0::2] == scans[1::2]
    assert all((y[0] * y[2]).any() for y in target[0::2])
    assert ((target == 0) | (target == 1)).all()
    assert torch.equal(target[:, 0] > 0, inputs[:, 0] > 2)


def test_every_second_crop_lies_around_a_lesion(cases):
    """Small crops, most of which hold none by chance."""
    _, target, _ = draw(cases, window=(6, 6, 6), count=40)
    middle = target[:, 0, 3, 3, 3] > 0
    assert middle[0::2].all()
    assert middle[1::2].float().mean() < 0.3


def test_contrasts_change_their_brightness_in_training_only(cases):
    """The brain of the second contrast has one value, which is that of the scan's number."""
    for validation in (True, False):
        inputs, _, _ = draw(cases[:1], validation=validation, count=6)
        values = [float(x[1][x[1] > 0].median()) for x in inputs]
        assert (len(set(values)) == 1) == validation
        assert all(0.8 <= value <= 1.2 for value in values)


def test_every_voxel_of_the_brain_counts_on_one_side_only(cases):
    whole = [
        draw(cases[:1], validation=validation, window=SHAPE, count=1)[1][0, 2].bool()
        for validation in (True, False)
    ]
    # Nearest-neighbour deformation moves the border of what counts in training by a few voxels.
    both = (whole[0] & whole[1]).sum() / (whole[0] | whole[1]).sum()
    assert both < 0.2
    assert set(np.flatnonzero(whole[0].any(0).any(0)) // 12) == {1, 5}


def test_labels_that_do_not_count_do_not_matter(cases):
    _, target, _ = draw(cases)
    logits = torch.randn((len(target), 2, *WINDOW), generator=torch.Generator().manual_seed(0))
    changed = target.clone()
    held = changed[:, 2:] == 0
    changed[:, :2] = torch.where(held, 1 - changed[:, :2], changed[:, :2])
    assert held.any()
    assert segmentation_loss(logits, target) == segmentation_loss(logits, changed)
    changed[:, :2] = 1 - target[:, :2]
    assert segmentation_loss(logits, target) != segmentation_loss(logits, changed)


def test_an_epoch_repeats_with_its_seed(cases):
    one, again, other = (draw(cases, validation=False, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_crop_may_be_larger_than_the_scan(cases):
    inputs, target, _ = draw(cases, window=(32, 32, 80))
    assert inputs.shape[2:] == target.shape[2:] == (32, 32, 80)
    assert not inputs[..., 72:].any()
    assert not target[..., 72:].any()
    assert target[:, 2].any()


def test_deformed_labels_stay_with_the_image(cases):
    inputs, target, _ = draw(cases, count=1)
    moved, labels = augment_crop(inputs[0], target[0], 1, torch.Generator().manual_seed(1))
    assert ((labels == 0) | (labels == 1)).all()
    assert not torch.equal(labels, target[0])
    agree = (
        2 * ((moved[0] > 1.5) & (labels[0] > 0)).sum() / ((moved[0] > 1.5).sum() + labels[0].sum())
    )
    assert agree > 0.85
    # Only contrasts change in intensity; interpolation keeps others in their range.
    assert moved[1].min() >= inputs[0, 1].min()
    assert moved[1].max() <= inputs[0, 1].max() + 1e-6


def test_a_network_learns_to_find_lesions_that_were_held_out(cases, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "CROPS_PER_EPOCH", 12)
    recipe = RECIPES["allnet"]
    data = StageData(
        stage=1,
        recipe=recipe,
        cases=cases,
        contrasts=("FLAIR", "T1w"),
        learn=recipe.stages[0].learn,
        before=[],
        folder=tmp_path / "fit",
        schedule=replace(recipe.schedule, max_epochs=15, learning_rate=0.01),
        seed=0,
        device=torch.device("cpu"),
    )
    torch.manual_seed(0)
    network = LesionUNet(2, anatomy=False, spheres=True, window=list(WINDOW), widths=[4, 8, 16])
    network.fit(data)
    unseen = make_case(tmp_path, 1, seed=1)
    found = evaluate_windows(network, unseen.channels, unseen.brain)[0] > 0.5
    lesions = unseen.lesions
    assert 2 * (found & lesions).sum() / (found.sum() + lesions.sum()) > 0.7


def test_lesions_in_one_slab_cannot_be_held_out(tmp_path):
    case = make_case(tmp_path, 1, heights=(30,))
    with pytest.raises(UsageError, match="all lesions lie within 12 mm from top to bottom"):
        CropBatches([case], WINDOW, batch_size=2, seed=0)
