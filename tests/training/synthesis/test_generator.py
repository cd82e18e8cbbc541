"""Synthetic scans: anatomy, lesions where lesions are, and the same from the same seed."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cascade_bids.models.training_data import ScanKind
from cascade_bids.training.data.tissues import LEVELS, TISSUES
from cascade_bids.training.preview import draw_sheet
from cascade_bids.training.synthesis import contrasts, generator, painting, real_scans
from cascade_bids.training.synthesis.generator import ScanGenerator, make_synthetic_scan
from cascade_bids.training.synthesis.painting import (
    Bright,
    _symmetric_noise,
    find_host,
    grow_plexus,
    place_lesions,
    place_look_alikes,
)

from ..tiny_anatomy import SHAPE, TO_TEMPLATE, make_anatomy, make_donor

CONTRASTS = ("FLAIR", "T1w", "T2w")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (generator, real_scans):
        monkeypatch.setattr(module, "WINDOW", (48, 48, 48))


@pytest.fixture
def everyone_is_ill(monkeypatch):
    monkeypatch.setattr(painting, "HEALTHY", 0.0)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def paint(anatomy, seed):
    return place_lesions(find_host(anatomy.tissues), template_points(), [make_donor()], rng(seed))


def template_points():
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    return torch.from_numpy(nib.affines.apply_affine(TO_TEMPLATE, voxels)).float()


def test_a_seed_gives_one_sample():
    anatomy, donors = make_anatomy(), [make_donor()]
    one, again, other = (
        make_synthetic_scan(anatomy, donors, CONTRASTS, rng(seed)).channels for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_synthetic_scans_are_normalised_brains():
    anatomy, donors = make_anatomy(), [make_donor()]
    for seed in range(6):
        sample = make_synthetic_scan(anatomy, donors, CONTRASTS, rng(seed))
        assert sample.channels.shape == (3, 48, 48, 48)
        assert sample.channels.isfinite().all()
        assert not sample.channels[:, ~sample.brain].any()
        assert not (sample.lesions & ~sample.brain).any()
        assert 0.5 < sample.brain.sum() / 11_000 < 2


@pytest.mark.parametrize(("contrast", "sign"), [("FLAIR", 1), ("T1w", -1), ("T2w", 1), ("PDw", 1)])
def test_lesions_differ_from_white_matter_as_the_contrast_has_it(everyone_is_ill, contrast, sign):
    anatomy = make_anatomy()
    white = anatomy.tissues == TISSUES.index("white")
    seen = []
    for seed in range(20):
        painted = paint(anatomy, seed)
        if painted.lesions.sum() > 20:
            nothing = Bright(torch.zeros(SHAPE), torch.zeros(SHAPE))
            image = contrasts.render(contrast, anatomy.tissues, painted, nothing, rng(seed))
            around = image[white & (painted.share == 0)].mean()
            seen.append(float(sign * (image[painted.lesions].mean() - around)))
    assert len(seen) > 5
    assert min(seen) > -0.05
    assert np.median(seen) > 0.05


def test_a_missing_contrast_is_zero_and_flair_never_is():
    anatomy, donors = make_anatomy(), [make_donor()]
    present = torch.zeros(3)
    for seed in range(12):
        present += (
            make_synthetic_scan(anatomy, donors, CONTRASTS, rng(seed)).channels.flatten(1).any(1)
        )
    assert present[0] == 12
    assert 0 < present[1] < 12
    assert 0 < present[2] < 12


def test_lesions_lie_where_white_matter_is(everyone_is_ill):
    anatomy = make_anatomy()
    found = torch.zeros(SHAPE)
    for seed in range(12):
        painted = paint(anatomy, seed)
        found += painted.lesions
        assert ((painted.share >= 0.5) == painted.lesions).all()
        assert (painted.strength[painted.lesions] >= 0.5).all()
    assert found.any()
    far = anatomy.tissues == TISSUES.index("fluid")
    assert not found[far].any()
    white = anatomy.tissues == TISSUES.index("white")
    assert found[white].sum() / found.sum() > 0.8


def test_as_many_lesions_are_painted_as_make_the_load(everyone_is_ill, monkeypatch):
    anatomy = make_anatomy()
    both = int(make_donor().mask.sum())
    seen = {}
    for most_ml in (0.001, 0.4 * both / 1000, 10.0):
        monkeypatch.setattr(painting, "MOST_ML", most_ml)
        monkeypatch.setattr(painting, "STEEP", 0.0)
        seen[most_ml] = [int(paint(anatomy, seed).lesions.sum()) for seed in range(20)]
    none, some, everything = seen.values()
    assert not any(none)
    assert 0 < np.mean(some) < 0.75 * np.mean(everything)


def test_healthy_heads_have_no_lesions(monkeypatch):
    monkeypatch.setattr(painting, "HEALTHY", 1.0)
    sample = make_synthetic_scan(make_anatomy(), [make_donor()], CONTRASTS, rng(0))
    assert not sample.lesions.any()


def test_look_alikes_are_painted_and_are_no_lesions():
    anatomy = make_anatomy()
    points = template_points()
    found = [
        place_look_alikes(anatomy.tissues, anatomy.depth_mm, points, rng(seed)) for seed in range(8)
    ]
    maps = [image for bright in found for image in (bright.flair, bright.others)]
    assert all(image.isfinite().all() and (image >= 0).all() for image in maps)
    assert sum(bool((bright.flair > 0.2).any()) for bright in found) >= 6
    # What other contrasts show, FLAIR shows too.
    assert all((bright.flair >= bright.others).all() for bright in found)


def test_donors_on_different_grids_give_their_lesions_together():
    first = make_donor()
    elsewhere = first.to_voxel.clone()
    elsewhere[:3, 3] += torch.tensor([3.0, 0.0, -2.0])
    moved = torch.roll(make_donor("2").mask, (3, 6, -2), (0, 1, 2))
    both = [first, replace(make_donor("2"), mask=moved, to_voxel=elsewhere)]
    found = [painting._gather(both, 1e6, rng(seed)) for seed in range(8)]
    # The second's lesions lie 6 mm further in front, so that they overlap with no other.
    volumes = {int(one.mask.sum()) for one in found}
    assert max(volumes) > 1.4 * int(first.mask.sum())
    on_first = next(one for one in found if torch.equal(one.to_voxel, first.to_voxel))
    expected = torch.maximum(first.mask, torch.roll(first.mask, 6, 1))
    assert torch.equal(on_first.mask, expected)


def test_what_is_alike_on_both_sides_is_so():
    side = torch.arange(-20, 20) + 0.5
    points = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1)
    field = _symmetric_noise(points, 24, rng(0))
    torch.testing.assert_close(field, field.flip(0))
    assert field.std() > 0.3
    assert not torch.allclose(field, field.flip(1), atol=0.1)


def test_plexus_does_not_grow_with_wide_ventricles(monkeypatch):
    monkeypatch.setattr(painting, "PLEXUS_CHANCE", 1.0)
    side = torch.arange(-48.0, 48.0)
    points = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1)
    wide = torch.full(points.shape[:3], TISSUES.index("ventricle"), dtype=torch.uint8)
    grown = [
        (grow_plexus(wide, points, rng(seed)) == TISSUES.index("choroid plexus")).sum() / 1000
        for seed in range(6)
    ]
    assert max(grown) < 2 * painting.MOST_PLEXUS_ML
    assert max(grown) > painting.MOST_PLEXUS_ML / 4


def test_plexus_grows_in_some_ventricles_and_nowhere_else(monkeypatch):
    # The head is much smaller than the template.
    anywhere = ((0, 99), (-99, 99), (-99, 99))
    monkeypatch.setattr(painting, "PLEXUS", replace(painting.PLEXUS, box=anywhere))
    tissues = make_anatomy().tissues
    ventricle = tissues == TISSUES.index("ventricle")
    grown = [grow_plexus(tissues, template_points(), rng(seed)) for seed in range(8)]
    changed = torch.stack([found != tissues for found in grown])
    assert 0 < changed.flatten(1).any(1).sum() < 8
    assert ventricle[changed.any(0)].all()
    assert all(
        (found[found != tissues] == TISSUES.index("choroid plexus")).all() for found in grown
    )
    far = template_points() + 300
    assert all(torch.equal(grow_plexus(tissues, far, rng(seed)), tissues) for seed in range(8))


@pytest.mark.parametrize("contrast", list(LEVELS))
def test_every_contrast_names_every_tissue(contrast):
    assert set(LEVELS[contrast]) == set(TISSUES) - {"air"}


def test_lesions_come_to_lie_where_the_affine_says(everyone_is_ill, monkeypatch):
    """A turned and stretched grid, and a lesion that has no mirror image."""
    monkeypatch.setattr(painting, "_gather", lambda donors, load, rng: donors[0])
    turn = Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()
    matrix = turn @ np.diag([1.0, 1.5, 0.8])
    affine = nib.affines.from_matvec(matrix, -matrix @ np.full(3, 19.5))
    voxels = np.moveaxis(np.indices((40, 40, 40)), 0, -1)
    points = torch.from_numpy(nib.affines.apply_affine(affine, voxels)).float()
    centres = []
    for seed in range(40):
        painted = place_lesions(torch.ones(40, 40, 40), points, [make_donor()], rng(seed))
        if painted.lesions.sum() > 50:
            centres.append(points[painted.lesions].mean(0))
    found = torch.stack(centres)
    # In front or behind, in the middle from left to right; moved by some mm.
    assert found[:, 0].abs().median() < 4
    assert (found[:, 2] + 0.5).abs().median() < 4
    assert found[:, 1].min() > -12
    assert found[:, 1].max() < 13


def test_flair_shows_what_counts_as_lesion(everyone_is_ill):
    """Behind all faults of the scanner, most lesions are brighter than what lies around."""
    brighter = []
    for seed in range(24):
        sample = make_synthetic_scan(make_anatomy(), [make_donor()], ("FLAIR",), rng(seed))
        numbers, count = ndimage.label(sample.lesions)
        for number in range(1, count + 1):
            inside = numbers == number
            if inside.sum() > 20:
                shell = ndimage.binary_dilation(inside, iterations=3) & sample.brain.numpy()
                around = shell & ~sample.lesions.numpy()
                flair = sample.channels[0].numpy()
                brighter.append(flair[inside].mean() > flair[around].mean())
    assert len(brighter) > 10
    assert np.mean(brighter) > 0.9


@pytest.mark.parametrize(("contrast", "still"), [("FLAIR", True), ("T1w", False)])
def test_the_flair_is_never_moved(monkeypatch, contrast, still):
    moved = []
    monkeypatch.setattr(contrasts.augment, "move", lambda image, *_, **__: moved.append(1) or image)
    for seed in range(10):
        contrasts.scan(contrast, torch.rand(16, 16, 16), rng(seed))
    assert (not moved) == still


def test_a_sheet_shows_every_sample(tmp_path):
    donors = [make_donor()]
    samples = [
        (str(seed), make_synthetic_scan(make_anatomy(), donors, CONTRASTS, rng(seed)))
        for seed in range(2)
    ]
    draw_sheet(samples, CONTRASTS, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height
        assert len(np.unique(np.asarray(sheet))) > 50


def test_some_heads_are_kept_for_checking():
    anatomies = tuple(replace(make_anatomy(), name=f"head{n}") for n in range(11))
    source = ScanGenerator(CONTRASTS, anatomies, (make_donor(),))
    kept = [anatomy.name for anatomy in source.to_check().anatomies]
    assert kept == ["head0", "head5", "head10"]
    assert not set(kept) & {anatomy.name for anatomy in source.to_learn().anatomies}
    assert len(source.to_learn().anatomies) == 8
    few = ScanGenerator(CONTRASTS, anatomies[:4], (make_donor(),))
    assert few.to_learn() == few.to_check() == few


def test_who_is_left_out_gives_neither_scan_nor_lesions(scanned):
    donors = (make_donor("sub-1"), make_donor("sub-2"))
    whole = ScanGenerator(CONTRASTS, (make_anatomy(),), donors, (scanned,))
    left = whole.without({"sub-1"})
    assert [donor.participant for donor in left.donors] == ["sub-2"]
    assert not left.real
    assert left.kinds == (ScanKind.SYNTHETIC,)


def test_equal_labels_of_two_datasets_are_left_out_one_by_one(scanned, unlabelled):
    real = tuple(
        replace(scanned, case=replace(scanned.case, source=source)) for source in ("here", "there")
    )
    donors = tuple(make_donor(one.case.participant) for one in real)
    anatomy = replace(make_anatomy(), name="sub-1_ses-2")
    whole = ScanGenerator(CONTRASTS, (anatomy,), donors, real, (unlabelled,))
    left = whole.without({"here/sub-1"})
    assert [donor.participant for donor in left.donors] == ["there/sub-1"]
    assert left.real == real[1:]
    # Of scans of no labelled dataset nobody knows whose they are.
    assert not left.unlabelled
    assert not left.anatomies
    assert whole.without({"here/sub-2"}) == whole


def test_scans_are_of_the_kinds_that_there_are_and_say_which(scanned, unlabelled):
    whole = ScanGenerator(CONTRASTS, (make_anatomy(),), (make_donor(),), (scanned,), (unlabelled,))
    assert whole.kinds == tuple(ScanKind)
    for kind in ScanKind:
        sample = whole.draw(rng(0), kind)
        assert sample.kind == kind
        assert (sample.ignore is not None) == (kind is ScanKind.UNLABELLED)
    assert replace(whole, anatomies=(), unlabelled=()).kinds == (ScanKind.LABELLED,)
    assert whole.describe()["unlabelled_scans"] == ["sub-1"]
    assert not whole.without({"sub-1"}).unlabelled
