"""What the brain extraction learns from: heads, their brains, and changed copies of them."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from cascade_bids.errors import UsageError
from cascade_bids.models.architectures.losses import dice_cross_entropy
from cascade_bids.models.card import load_model_card
from cascade_bids.models.weights import load_network
from cascade_bids.training import train_brain as module
from cascade_bids.training.train_brain import (
    BrainExample,
    _brain_of_labels,
    _held_out,
    draw,
    load_label_maps,
    load_scans,
    train_brain,
)

SHAPE = (48, 56, 44)


def ball(radius, shape=SHAPE):
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    return sum(axis**2 for axis in axes) < radius**2


def make_head(synthetic):
    brain = ball(14)
    skull, scalp = ball(17) & ~brain, ball(20) & ~ball(17)
    if synthetic:
        image = np.select([ball(5), brain, skull, scalp], [4, 2, 515, 507], 0).astype(np.int16)
    else:
        image = np.select([ball(5), brain, skull, scalp], [0.2, 0.9, 0.1, 1.2], 0)
        image = image.astype(np.float32)
    return BrainExample("toy", torch.from_numpy(image), torch.from_numpy(brain), synthetic)


@pytest.fixture(scope="module", params=[False, True], ids=["real", "synthetic"])
def head(request):
    return make_head(request.param)


@pytest.fixture(autouse=True)
def small_crop(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", (48, 64, 48))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_samples_have_the_form_that_the_network_takes(head):
    for seed in range(12):
        image, brain = draw(head, generator(seed))
        assert image.shape == brain.shape == (48, 64, 48)
        assert image.dtype == brain.dtype == torch.float32
        assert set(brain.unique().tolist()) <= {0.0, 1.0}
        assert image.min() >= 0
        assert image.max() <= 1.5
        assert torch.isfinite(image).all()


def test_samples_follow_their_seed(head):
    one, again, other = (draw(head, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_drawing_changes_no_head(head):
    image, brain = head.image.clone(), head.brain.clone()
    draw(head, generator(0))
    assert torch.equal(head.image, image)
    assert torch.equal(head.brain, brain)


def test_the_brain_keeps_its_size_where_nothing_is_cut(head):
    sizes = np.array([float(draw(head, generator(seed))[1].sum()) for seed in range(30)])
    ratios = sizes / float(head.brain.sum())
    assert ratios.max() < 1.7  # 1 / 0.85³, and a little for the bending
    assert 0.6 < np.median(ratios) < 1.4


def test_image_and_brain_move_together(monkeypatch):
    """With the contrast left alone, the brain of the target is where the image is bright."""
    bright = make_head(synthetic=False)
    image = torch.where(bright.brain, 1.0, 0.0)
    head = BrainExample("bright", image, bright.brain, synthetic=False)
    for name in ("bias_field", "gamma", "thick_slices", "rician_noise", "remap_intensity"):
        monkeypatch.setattr(module.augment, name, lambda image, rng: image)
    for seed in range(10):
        found, brain = draw(head, generator(seed))
        overlap = 2 * ((found > 0.5) & (brain > 0)).sum() / ((found > 0.5).sum() + brain.sum())
        assert overlap > 0.97


def test_the_centre_is_that_of_the_brain():
    brain = torch.zeros(SHAPE, dtype=torch.bool)
    brain[10:21, 20:31, 5:16] = True
    assert BrainExample("x", brain.float(), brain, synthetic=False).centre.tolist() == [15, 25, 10]


def labelled_head():
    """A head of labels at 2 mm: cortex, a ventricle, the cerebellum, the cord, and a skull."""
    labels = np.zeros((60, 60, 70), np.int16)
    labels[5:55, 5:55, 30:65] = 515
    labels[10:50, 10:50, 35:60] = 3
    labels[25:35, 25:35, 45:50] = 0  # a hole that no label fills
    labels[20:40, 15:30, 25:35] = 8
    labels[27:33, 20:26, 0:25] = 16  # brainstem and cord, down to the edge
    labels[1, 1, 60] = 2  # a speck
    return labels


def test_the_brain_of_a_label_map_ends_below_the_cerebellum():
    found = _brain_of_labels(labelled_head())
    assert found.dtype == bool
    assert ndimage.label(found)[1] == 1
    assert found[12:48, 12:48, 37:58].all()  # holes are filled
    assert not found[1, 1, 60]
    rows = np.flatnonzero(found.any(axis=(0, 1)))
    assert 21 <= rows[0] <= 24  # two voxels, 4 mm, below the lowest slice of label 8, at 25
    assert found[28:32, 21:25, 24].any()  # the cord reaches below the cerebellum
    assert not found[labelled_head() == 515].mean() > 0.05


def save(path, values, spacing=2.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing, spacing, spacing, 1])  # LAS: readers turn it to RAS
    nib.save(nib.Nifti1Image(values, affine), path)


@pytest.fixture
def folders(tmp_path):
    """Two scans and two label maps, stored as LAS."""
    labels = np.where(ball(14), 207, 0).astype(np.uint8)
    labels[ball(5)] = 0  # a hole in the labels
    labels[:24] *= labels[:24] > 0
    image = (100 * make_head(synthetic=False).image.numpy()).astype(np.float32)
    image[0, 5, 7] = 50
    for name in ("IXI2", "IXI1"):
        subject = f"sub-{name}"
        save(tmp_path / "ixi" / subject / "anat" / f"{subject}_T1w.nii.gz", image)
        save(
            tmp_path
            / "ixi/derivatives/dlmuse"
            / subject
            / "anat"
            / f"{subject}_desc-dlmuse_dseg.nii.gz",
            labels,
        )
    for number in (1, 2):
        save(tmp_path / "labels" / f"head{number:02d}_dseg.nii.gz", labelled_head(), 1.0)
    return tmp_path


def test_scans_are_read_as_ras_with_their_holes_filled(folders):
    heads = load_scans(folders / "ixi")
    assert [head.name for head in heads] == ["sub-IXI1", "sub-IXI2"]
    for head in heads:
        assert not head.synthetic
        assert head.image.dtype == torch.float32
        assert head.image.max() <= 1.5
        assert head.image[-1, 5, 7] > 0  # first along L is last along R
        np.testing.assert_array_equal(head.brain.numpy(), ball(14)[::-1])


def test_label_maps_are_read_at_half_their_resolution(folders):
    heads = load_label_maps(folders / "labels")
    assert [head.name for head in heads] == ["head01", "head02"]
    expected = labelled_head()[::-1]
    np.testing.assert_array_equal(heads[0].image, expected[::2, ::2, ::2])
    np.testing.assert_array_equal(heads[0].brain, _brain_of_labels(expected[::2, ::2, ::2]))
    assert all(head.synthetic for head in heads)


@pytest.mark.parametrize(("load", "missing"), [(load_scans, "T1w"), (load_label_maps, "dseg")])
def test_an_empty_folder_is_refused(tmp_path, load, missing):
    with pytest.raises(UsageError, match=f"no .*{missing}.nii.gz in {tmp_path}"):
        load(tmp_path)


def test_each_kind_is_held_out_from_its_end():
    heads = [
        BrainExample(f"{kind}{i:02d}", torch.zeros(1), torch.zeros(1), synthetic=kind == "s")
        for kind, count in (("r", 20), ("s", 3))
        for i in range(count)
    ]
    assert [head.name for head in _held_out(heads)] == ["r18", "r19", "s02"]


def test_the_loss_falls_as_the_overlap_grows():
    target = torch.zeros(1, 1, 8, 8, 8)
    target[..., 2:6] = 1
    shifted = torch.zeros_like(target)
    shifted[..., 3:7] = 1
    losses = [
        float(dice_cross_entropy(20 * (x - 0.5), target)) for x in (target, shifted, 1 - target)
    ]
    assert losses == sorted(losses)
    assert losses[0] < 0.01
    assert losses[2] > 1


def test_training_writes_weights_that_load(folders, monkeypatch):
    for name, value in (("STEPS_PER_EPOCH", 2), ("WIDTHS", (2, 3)), ("WINDOW", (32, 32, 32))):
        monkeypatch.setattr(module, name, value)
    card = train_brain(
        folders / "ixi", folders / "labels", folders / "w", work_dir=folders / "work", max_epochs=1
    )
    written = json.loads(card.read_text())
    assert written["training_heads"] == ["sub-IXI1", "head01"]
    assert written["stages"][0]["arguments"] == {"channels_in": 1, "widths": [2, 3]}
    assert {k: v["n"] for k, v in written["held_out_dice_augmented"].items()} == {
        "real T1w": 1,
        "synthetic": 1,
    }
    stage = load_model_card("brain", folders / "w").stages[0]
    network = load_network(stage, device=torch.device("cpu"))
    assert network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)
