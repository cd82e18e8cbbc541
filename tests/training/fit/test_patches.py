"""Lesion voxels and as many others, from all scans, and never from both sides of a border."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bids.models.architectures.patch_classifier import PatchReader
from cascade_bids.training.fit.patches import (
    SLAB_MM,
    VoxelSet,
    axial_flips,
    balanced_batches,
    hold_out,
    load_voxels,
    save_voxels,
)

SHAPE = (10, 10, 8 * SLAB_MM)


def make_set(number, lesions, others, seed=0):
    """A scan whose voxels hold its number and their height, so that patches tell where they are."""
    volume = torch.zeros(2, *SHAPE)
    volume[0] = number
    volume[1] = torch.arange(SHAPE[2])
    voxels = draw_voxels(lesions + others, seed).astype(np.int16)
    return VoxelSet(lambda: PatchReader(volume, 3), voxels[:lesions], voxels[lesions:])


def draw_voxels(count, seed):
    return np.random.default_rng(seed).permutation(np.argwhere(np.ones(SHAPE)))[:count]


def read_nothing():
    raise AssertionError


def mark(voxels):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(voxels.T)] = True
    return mask


def draw(sets, **changes):
    arguments = {"patches": 100, "batch_size": 16, "seed": 0, "augment": None} | changes
    drawn = list(balanced_batches(sets, **arguments))
    return torch.cat([x for x, _ in drawn]), torch.cat([y for _, y in drawn]), drawn


def centres(inputs):
    return [(int(p[0, 1, 1, 1]), int(p[1, 1, 1, 1])) for p in inputs]


def test_half_of_the_patches_are_of_lesions():
    sets = [make_set(1, 40, 300), make_set(2, 10, 100)]
    inputs, target, drawn = draw(sets)
    assert inputs.shape == (100, 2, 3, 3, 3)
    assert target.tolist().count(1) == 50
    assert [len(y) for _, y in drawn] == [16] * 6 + [4]
    heights = {number: set(s.lesions[:, 2].tolist()) for number, s in enumerate(sets, start=1)}
    for (number, height), label in zip(centres(inputs), target.tolist(), strict=True):
        if label:
            assert height in heights[number]
    assert {number for number, _ in centres(inputs)} == {1, 2}


def test_no_more_others_than_there_are():
    _, target, _ = draw([make_set(1, 40, 7)])
    assert target.tolist().count(1) == 40
    assert target.tolist().count(0) == 7


def test_every_epoch_draws_anew_and_every_seed_alike():
    sets = [make_set(1, 400, 400)]
    one, again, other = (draw(sets, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_no_voxel_is_drawn_twice():
    voxels = make_set(1, 60, 60)
    inputs, _, _ = draw([voxels], patches=120)
    assert len(inputs) == 120
    everything = np.concatenate([voxels.lesions, voxels.others])[:, 2]
    assert sorted(height for _, height in centres(inputs)) == sorted(everything.tolist())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(lesions=st.integers(0, 300), others=st.integers(0, 300), seed=st.integers(0, 99))
def test_halves_share_no_slab_and_lose_no_voxel(lesions, others, seed):
    voxels = draw_voxels(lesions + others, seed)
    masks = {"lesions": mark(voxels[:lesions]), "others": mark(voxels[lesions:])}
    with tempfile.TemporaryDirectory() as folder:
        candidates = masks["others"] | masks["lesions"]
        drawn = save_voxels(read_nothing, masks["lesions"], candidates, Path(folder) / "sub-1")
        halves = [drawn.learned, drawn.checked]
        for name, mask in masks.items():
            both = np.concatenate([getattr(half, name)[:] for half in halves])
            assert len(both) == mask.sum()
            np.testing.assert_array_equal(mark(both), mask)
        slabs = [
            {int(z) // SLAB_MM for z in np.concatenate([half.lesions[:], half.others[:]])[:, 2]}
            for half in halves
        ]
        assert not slabs[0] & slabs[1]
        assert (len(drawn.learned.lesions) > 0) == (lesions > 0)
        spread = len(np.unique(voxels[:lesions, 2] // SLAB_MM))
        assert (len(drawn.checked.lesions) > 0) == (spread > 1)


def test_voxels_of_a_broken_run_are_taken_again_only_if_all_are_there(tmp_path):
    mask = mark(draw_voxels(50, seed=0))
    folder = tmp_path / "sub-1"
    assert load_voxels(read_nothing, folder) is None
    saved = save_voxels(read_nothing, mask, np.ones(SHAPE, bool), folder)
    again = load_voxels(read_nothing, folder)
    np.testing.assert_array_equal(again.learned.others[:], saved.learned.others[:])
    np.testing.assert_array_equal(again.checked.lesions[:], saved.checked.lesions[:])
    (folder / "checked_others.npy").unlink()
    assert load_voxels(read_nothing, folder) is None


def test_open_files_do_not_grow_with_the_number_of_scans(tmp_path):
    mask = mark(draw_voxels(50, seed=0))
    np.save(tmp_path / "volume.npy", np.zeros((1, *SHAPE), np.float32))

    def open_scan():
        return PatchReader(torch.from_numpy(np.load(tmp_path / "volume.npy", mmap_mode="c")), 3)

    drawn = [
        save_voxels(open_scan, mask, np.ones(SHAPE, bool), tmp_path / str(number))
        for number in range(20)
    ]
    before = len(list(Path("/proc/self/fd").iterdir()))
    inputs, _, _ = draw([one.learned for one in drawn])
    assert len(inputs) == 100
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


@pytest.mark.parametrize(("filled", "held_out"), [([], [1, 5]), ([3], []), ([2, 3], [3, 1, 7])])
def test_healthy_scans_are_validated_on_too(filled, held_out):
    assert hold_out(np.array(filled, int), np.arange(8)).tolist() == held_out


def test_patches_are_turned_in_the_axial_plane_alone():
    patches = torch.arange(27.0).reshape(1, 1, 3, 3, 3).expand(600, 1, 3, 3, 3).clone()
    found = axial_flips(patches, torch.Generator().manual_seed(0))
    kinds = {tuple(p.flatten().tolist()) for p in found}
    p = patches[0]
    allowed = [p, p.flip((1, 2)), p.flip(1), p.flip(2)]
    assert kinds == {tuple(a.flatten().tolist()) for a in allowed}
    same = sum(torch.equal(a, b) for a, b in zip(found, patches, strict=True))
    assert same == pytest.approx(300, abs=60)
