"""Crops that are changed at random: what is in them, and what of other scans is set into them."""

import nibabel as nib
import numpy as np
import pytest
import torch

from cascade_bids.bids.scan import Scan
from cascade_bids.models.cases import Case, save_case
from cascade_bids.training.fit import augmented_crops
from cascade_bids.training.fit.augmented_crops import (
    AugmentedBatches,
    AugmentedCrops,
    carve,
    draw_crop,
)

SHAPE = (40, 44, 36)
WINDOW = (16, 16, 16)
CONTRASTS = ("FLAIR", "T1w")


def make_case(folder, name, *, source="here", contrasts=CONTRASTS, slice_mm=1.0):
    """A brain with one lesion, bright in FLAIR, which fills the half of its rim."""
    brain = np.zeros(SHAPE, np.float32)
    brain[3:-3, 3:-3, 3:-3] = 1
    share = np.zeros(SHAPE, np.float32)
    share[17:23, 19:25, 15:21] = 0.5
    share[18:22, 20:24, 16:20] = 1
    noise = np.random.default_rng(0).normal(0, 0.2, (len(contrasts), *SHAPE))
    images = [noise[n] * brain + 3 * share * (c == "FLAIR") for n, c in enumerate(contrasts)]
    thick = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([1, 1, slice_mm, 1.0]))
    case = Case(Scan(name, None, None), folder / source / name, contrasts, source)
    save_case(
        case.folder,
        [nib.Nifti1Image(image.astype(np.float32), np.eye(4)) for image in images],
        nib.Nifti1Image(brain, np.eye(4)),
        nib.Nifti1Image(share, np.eye(4)),
        anatomy=None,
        reference=thick,
    )
    return case


@pytest.fixture
def near(monkeypatch):
    """Crops that hold the whole lesion."""
    monkeypatch.setitem(augmented_crops.POSE, "max_shift", 2.0)


def draw(case, number=0, other=None, **options):
    rng = torch.Generator().manual_seed(number)
    settings = {"contrasts": CONTRASTS, "window": WINDOW, "lesion": True} | options
    window, contrasts, lesion = (settings[name] for name in ("window", "contrasts", "lesion"))
    return draw_crop(case, other, contrasts, window, rng, lesion=lesion)


def test_a_crop_has_its_contrasts_the_brain_and_the_part_that_is_lesion(
    tmp_path, near, monkeypatch
):
    for change in ("thicken", "fade"):
        monkeypatch.setitem(augmented_crops.CHANCES, change, 0.0)
    case = make_case(tmp_path, "1")
    bright, parts = [], set()
    for number in range(12):
        inputs, target = draw(case, number)
        assert inputs.shape == (3, *WINDOW)
        assert target.shape == (2, *WINDOW)
        share, weights = target
        assert share.max() > 0.6
        assert torch.equal(inputs[2] > 0, weights > 0)
        assert not inputs[:, weights == 0].any()
        bright.append(float(inputs[0][share > 0.6].mean() - inputs[0][share == 0].mean()))
        parts |= set(np.unique(share.numpy().round(1)).tolist())
    assert min(bright) > 1
    assert {0.5, 1.0} < parts  # not rounded to 0 and 1


def mark_lesions(case, *corners_and_sizes):
    """Give a case other lesions, cubes."""
    share = np.zeros(SHAPE, np.float16)
    for corner, size in corners_and_sizes:
        share[tuple(slice(start, start + size) for start in corner)] = 1
    np.save(case.folder / "share.npy", share)
    np.save(case.folder / "lesions.npy", share >= 0.5)


def test_a_small_lesion_weighs_more_than_a_large_one_and_than_none(tmp_path, near, monkeypatch):
    monkeypatch.setattr(augmented_crops, "CHANCES", dict.fromkeys(augmented_crops.CHANCES, 0.0))
    case = make_case(tmp_path, "1")
    mark_lesions(case, ((8, 14, 12), 12), ((30, 20, 18), 3))
    share, weights = draw(case, window=(48, 48, 48))[1]
    sure, none = (share > 0.9), (share == 0) & (weights > 0)
    assert set(np.unique(weights[none])) == {1.0}
    found = np.unique(weights[sure].numpy())
    assert found.min() == 1.0
    assert 10 < found.max() <= augmented_crops.HEAVIEST


def test_small_lesions_are_drawn_as_often_as_large_ones(tmp_path):
    case = make_case(tmp_path, "1")
    mark_lesions(case, ((4, 14, 12), 14), ((32, 34, 28), 2))
    rng = torch.Generator().manual_seed(0)
    centres = [augmented_crops._draw_centre(case, rng, lesion=True)[0] for _ in range(200)]
    assert 70 < sum(float(x) >= 32 for x in centres) < 130
    assert all(4 <= x < 18 or 32 <= x < 34 for x in centres)


def test_without_a_lesion_a_crop_lies_anywhere_in_the_brain(tmp_path):
    case = make_case(tmp_path, "1")
    mark_lesions(case)
    rng = torch.Generator().manual_seed(0)
    centres = [augmented_crops._draw_centre(case, rng, lesion=True)[0] for _ in range(50)]
    assert min(centres) < 12 < 28 < max(centres)


def test_the_same_number_is_the_same_crop(tmp_path):
    crops = AugmentedCrops([make_case(tmp_path, n) for n in "12"], CONTRASTS, WINDOW, seed=1)
    for one, again in zip(crops[3], crops[3], strict=True):
        assert torch.equal(one, again)
    assert not torch.equal(crops[3][0], crops[5][0])


def test_a_process_beside_draws_the_same_crops(tmp_path, monkeypatch):
    monkeypatch.setattr(augmented_crops, "CROPS_PER_EPOCH", 4)
    crops = AugmentedCrops([make_case(tmp_path, "1")], CONTRASTS, WINDOW, seed=1)
    batches = list(AugmentedBatches(crops, 2).train(1))
    assert [len(inputs) for inputs, _ in batches] == [2, 2]
    assert torch.equal(batches[1][0][1], crops[7][0])


def draw_without_and_with(change, case, monkeypatch):
    """A crop without any random change of intensities, and the same with one."""
    monkeypatch.setattr(augmented_crops, "_change", lambda image, rng: image)
    monkeypatch.setattr(augmented_crops, "draw_contrasts", lambda contrasts, rng: set(contrasts))
    for name in augmented_crops.CHANCES:
        monkeypatch.setitem(augmented_crops.CHANCES, name, 0.0)
    before = draw(case)
    monkeypatch.setitem(augmented_crops.CHANCES, change, 1.0)
    return before, draw(case)


def test_lesions_fade_on_the_flair_alone(tmp_path, near, monkeypatch):
    monkeypatch.setattr(augmented_crops, "FADED", (0.5, 0.5))
    case = make_case(tmp_path, "1")
    (before, target), (after, same) = draw_without_and_with("fade", case, monkeypatch)
    assert torch.equal(target, same)
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(after[0], before[0] * (1 - 0.5 * target[0]))


def test_the_flair_may_show_more_of_the_t1w(tmp_path, near, monkeypatch):
    monkeypatch.setattr(augmented_crops, "MIXED", (0.5, 0.5))
    case = make_case(tmp_path, "1")
    (before, _), (after, _) = draw_without_and_with("mix", case, monkeypatch)
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(after[0], before[0] - 0.5 * before[1], atol=0.05, rtol=0)


def test_painted_scans_are_drawn_beside_real_ones(tmp_path):
    real, painted = make_case(tmp_path, "1"), make_case(tmp_path, "1", source="synthetic")
    drawn = [
        AugmentedCrops([real], CONTRASTS, WINDOW, 0, painted=scans)._draw_case(
            torch.Generator().manual_seed(number)
        )
        for scans in ([], [painted])
        for number in range(400)
    ]
    assert painted not in drawn[:400]
    assert drawn[400:].count(painted) / 400 == pytest.approx(0.35, abs=0.07)


def test_contrasts_that_a_scan_lacks_are_0(tmp_path):
    case = make_case(tmp_path, "1", contrasts=("FLAIR",))
    for number in range(8):
        inputs, _ = draw(case, number)
        assert inputs[0].any()
        assert not inputs[1].any()


def test_contrasts_are_dropped_but_never_the_flair(tmp_path, near):
    case = make_case(tmp_path, "1")
    there = [[bool(image.any()) for image in draw(case, number)[0][:2]] for number in range(40)]
    flair, t1w = (sum(seen) for seen in zip(*there, strict=True))
    assert flair == 40
    assert 10 < t1w < 35


def test_thick_slices_are_not_made_thicker(tmp_path, near, monkeypatch):
    monkeypatch.setattr(augmented_crops, "_change", lambda image, rng: image)
    thin, thick = (make_case(tmp_path, str(mm), slice_mm=mm) for mm in (1.0, 7.0))
    same = [
        torch.equal(draw(thin, number)[1][0], draw(thick, number)[1][0]) for number in range(20)
    ]
    assert 3 < sum(same) < 17


def test_lesions_of_another_scan_are_set_in_with_their_surroundings():
    rng = torch.Generator().manual_seed(0)
    scene, other = torch.zeros(2, 4, 12, 12, 12)
    scene[:2], other[:2] = 1.0, 5.0
    scene[2, 2:], other[2, :10] = 1, 1  # the brains
    other[3, 4:6, 4:6, 4:6] = 1
    other[3, 10:] = 1  # outside its brain
    found = [carve(scene, other, rng) for _ in range(30)]
    taken = [mixed for mixed in found if mixed[3].any()]
    assert 5 < len(taken) < 30
    for mixed in taken:
        inside = mixed[3] > 0
        assert (mixed[:2, inside] == 5).all()
        assert not mixed[3, 10:].any()
    assert any((mixed[0] == 5).sum() > (mixed[3] > 0).sum() for mixed in taken)


def test_a_contrast_that_cannot_show_a_foreign_lesion_is_left_out(tmp_path, near):
    case, other = make_case(tmp_path, "1"), make_case(tmp_path, "2", contrasts=("FLAIR",))
    for number in range(8):
        inputs, _ = draw(case, number, other)
        assert inputs[0].any()
        assert not inputs[1].any()


def test_sources_with_few_participants_are_not_drowned(tmp_path):
    many = [make_case(tmp_path, str(number)) for number in range(9)]
    crops = AugmentedCrops([*many, make_case(tmp_path, "1", source="there")], CONTRASTS, WINDOW, 0)
    drawn = [crops._draw_case(torch.Generator().manual_seed(n)).source for n in range(400)]
    assert drawn.count("there") / 400 == pytest.approx(1 / 4, abs=0.06)
