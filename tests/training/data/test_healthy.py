"""Healthy T1w: they and their labels come to one grid, and lesions into them."""

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from cascade_bids.errors import CascadeBidsError, ScanError, StartError, UsageError
from cascade_bids.models.training_data import ScanKind
from cascade_bids.preprocess.resample import resample
from cascade_bids.training.calibration import out_of_fold
from cascade_bids.training.calibration.out_of_fold import predict_synthetic
from cascade_bids.training.data import healthy, label_maps
from cascade_bids.training.data.healthy import check_healthy, find_healthy, load_healthy
from cascade_bids.training.data.label_maps import merge_labels
from cascade_bids.training.data.tissues import LEVELS, MUSE, TISSUES
from cascade_bids.training.synthesis import contrasts, generator, painting
from cascade_bids.training.synthesis.generator import ScanGenerator, make_synthetic_scan

from ..tiny_anatomy import SHAPE, make_anatomy, make_donor
from .healthy_scans import LABEL, make_labels, make_t1w, write_scan

CONTRASTS = ("FLAIR", "T1w")
GRID = (44, 48, 40), nib.affines.from_matvec(np.eye(3), [-21.5, -23.5, -19.5])


SHADE = 2.0
"""What the stand-in for N4 divides by; nothing that is compared depends on it."""


@pytest.fixture(autouse=True)
def small(monkeypatch, pose):
    """A registration that knows how the scan lies, and a grid around the small head.

    The head is smaller than that of the template.
    """
    calls = []

    def correct(image):
        calls.append(1)
        return nib.Nifti1Image(np.asarray(image.dataobj) / SHADE, image.affine)

    monkeypatch.setattr(healthy, "correct_bias", correct)
    smaller = pose @ np.diag([0.8, 0.8, 0.8, 1])
    monkeypatch.setattr(healthy, "align_to_template", lambda *_, **__: smaller)
    monkeypatch.setattr(healthy, "rigid_part", lambda _: pose)
    monkeypatch.setattr(healthy, "network_grid", lambda: GRID)
    monkeypatch.setattr(label_maps, "FAR_MM", 3.0)
    monkeypatch.setattr(generator, "WINDOW", (48, 48, 48))
    return calls


@pytest.fixture
def pose():
    """How a scan lies against the template."""
    return np.eye(4)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def load(folder, t1w, labels):
    (anatomy,) = load_healthy([write_scan(folder, "sub-1", t1w, labels)], folder / "cache")
    return anatomy


def names_of(anatomy):
    return {TISSUES[number] for number in anatomy.tissues.unique()}


class TestEveryOrientation:
    @pytest.fixture
    def pose(self, turned):
        return turned

    def test_the_t1w_lies_on_its_tissues(self, tmp_path, reorient):
        anatomy = load(tmp_path, reorient(make_t1w()), reorient(make_labels()))
        assert anatomy.tissues.shape == anatomy.t1w.shape == anatomy.depth_mm.shape
        assert names_of(anatomy) == {"air", *LABEL}
        for name in ("ventricle", "white", "cortex"):
            seen = anatomy.t1w.float()[anatomy.tissues == TISSUES.index(name)].median()
            assert seen == pytest.approx(LEVELS["T1w"][name], abs=0.03)
        # The middle of the head lies in the middle of the template, which is larger.
        middle = (anatomy.depth_mm > 0).nonzero().float().mean(0)
        coordinates = anatomy.to_template[:3, :3] @ middle + anatomy.to_template[:3, 3]
        assert coordinates.abs().max() < 1
        assert np.linalg.det(anatomy.to_template[:3, :3]) == pytest.approx(0.8**-3, rel=1e-3)


def test_a_head_is_prepared_once_and_another_of_its_name_again(tmp_path, small):
    first = load(tmp_path, make_t1w(), make_labels())
    again = load(tmp_path, make_t1w(), make_labels())
    assert len(small) == 1
    assert torch.equal(first.t1w, again.t1w)
    assert torch.equal(first.tissues, again.tissues)
    t1w = make_t1w()
    brighter = nib.Nifti1Image(np.asarray(t1w.dataobj) * 1.1, t1w.affine)
    load(tmp_path, brighter, make_labels())
    assert len(small) == 2
    (kept, _) = sorted((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime)
    kept.write_bytes(b"damaged")
    with pytest.raises(CascadeBidsError, match=r"\.safetensors is damaged .* remove it"):
        load(tmp_path, make_t1w(), make_labels())


def test_what_is_brighter_than_brain_is_cut_off(tmp_path):
    anatomy = load(tmp_path, make_t1w(), make_labels())
    assert anatomy.t1w.max() <= healthy.BRIGHTEST
    assert anatomy.t1w.min() >= 0
    t1w = make_t1w()
    data = np.asarray(t1w.dataobj).copy()
    data[make_anatomy().tissues.numpy() == TISSUES.index("bone")] = 10 * data.max()
    bright = load(tmp_path / "fat", nib.Nifti1Image(data, t1w.affine), make_labels())
    assert bright.t1w.max() == pytest.approx(healthy.BRIGHTEST, abs=1e-3)


def test_large_voxels_make_better_borders_than_blocks():
    fine = make_anatomy().tissues.numpy()
    coarse = fine[::2, ::2, ::2]
    affine = GRID[1] @ np.diag([2.0, 2, 2, 1])
    smooth = healthy._resample_tissues(coarse, affine, np.eye(4))
    image = nib.Nifti1Image(coarse, affine)
    blocks = np.asarray(resample(image, *GRID, np.eye(4), order=0).dataobj)
    wrong, before = ((each[:40, :44, :36] != fine).mean() for each in (smooth, blocks))
    assert wrong < 0.8 * before


def test_cortex_that_is_as_dark_as_fluid_is_a_sulcus(tmp_path):
    tissues = make_anatomy().tissues.numpy()
    sulcus = np.zeros(SHAPE, bool)
    sulcus[20:22, :, 18:24] = True
    sulcus &= tissues == TISSUES.index("cortex")
    t1w = make_t1w()
    data = np.asarray(t1w.dataobj).copy()
    data[sulcus] = 40
    anatomy = load(tmp_path, nib.Nifti1Image(data, t1w.affine), make_labels())
    before = load(tmp_path / "before", t1w, make_labels())
    changed = anatomy.tissues != before.tissues
    assert changed.sum() > 0.6 * sulcus.sum()
    assert (before.tissues[changed] == TISSUES.index("cortex")).all()
    assert (anatomy.tissues[changed] == TISSUES.index("fluid")).all()


def test_a_cistern_without_a_label_is_fluid(tmp_path):
    labels = np.asarray(make_labels().dataobj).copy()
    labels[19:22, 21:24, 16:19] = 0
    anatomy = load(tmp_path, make_t1w(), nib.Nifti1Image(labels, make_labels().affine))
    before = load(tmp_path / "before", make_t1w(), make_labels())
    changed = anatomy.tissues != before.tissues
    assert changed.sum() >= 27
    assert (anatomy.tissues[changed] == TISSUES.index("fluid")).all()


def test_muse_labels_are_tissues():
    labels = np.array([0, 1, 46, 4, 11, 35, 37, 38, 41, 47, 52, 55, 59, 69, 81, 95, 100, 207])
    found = [TISSUES[number] for number in merge_labels(labels, MUSE)]
    assert found == [
        "air",
        "fluid",
        "fluid",
        "lower ventricle",
        "lower ventricle",
        "brainstem",
        "deep grey",
        "cerebellar cortex",
        "cerebellar white",
        "limbic",
        "ventricle",
        "pallidum",
        "thalamus",
        "white",
        "white",
        "white",
        "cortex",
        "cortex",
    ]


def test_scans_are_found_with_their_labels_and_others_named(tmp_path, caplog):
    t1w, labels = make_t1w(), make_labels()
    expected = [write_scan(tmp_path, label, t1w, labels) for label in ("sub-1_ses-2", "sub-2")]
    write_scan(tmp_path, "sub-3", t1w, None)
    assert find_healthy(tmp_path) == expected
    assert "1 T1w in " in caplog.text
    assert "no MUSE labels and are passed over, such as sub-3" in caplog.text
    with pytest.raises(UsageError, match=r"no sub-.* with MUSE labels"):
        find_healthy(tmp_path / "derivatives")
    with pytest.raises(UsageError, match="none is not a folder"):
        find_healthy(tmp_path / "none")


def test_all_that_cannot_be_used_is_named_before_anything_is_prepared(tmp_path, small):
    t1w, labels = make_t1w(), make_labels()
    values = np.asarray(labels.dataobj)

    def changed(values):
        return nib.Nifti1Image(values.astype(np.int16), labels.affine)

    write_scan(tmp_path, "sub-0", t1w, labels)
    write_scan(tmp_path, "sub-1", t1w, nib.Nifti1Image(values, np.diag([2.0, 1, 1, 1])))
    write_scan(tmp_path, "sub-2", t1w, changed(values > 0))
    write_scan(tmp_path, "sub-3", t1w, changed(np.where(values == 81, 2, values)))
    write_scan(tmp_path, "sub-4", t1w, changed(np.where(values == 0, -1, values)))
    hollow = np.where(values == 81, 0, np.asarray(t1w.dataobj)).astype(np.float32)
    write_scan(tmp_path, "sub-5", nib.Nifti1Image(hollow, t1w.affine), labels)
    cut = write_scan(tmp_path, "sub-6", t1w, labels).t1w
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(StartError) as caught:
        check_healthy(find_healthy(tmp_path))
    _, *lines = str(caught.value).splitlines()
    expected = {
        "sub-1": r"dseg\.nii\.gz lies on another grid than .*sub-1_T1w\.nii\.gz",
        "sub-2": r"dseg\.nii\.gz: the labels show no brain",
        "sub-3": r"dseg\.nii\.gz holds 2, no labels of MUSE",
        "sub-4": r"dseg\.nii\.gz holds -1, no labels of MUSE",
        "sub-5": r"shows no white matter where .*sub-5_T1w\.nii\.gz shows anything",
        "sub-6": r"sub-6_T1w\.nii\.gz",
    }
    assert [line.split(":")[0].strip() for line in lines] == list(expected)
    assert all(re.search(text, line) for text, line in zip(expected.values(), lines, strict=True))
    assert not small


def test_a_damaged_scan_leaves_nothing_behind(tmp_path):
    scan = write_scan(tmp_path, "sub-1", make_t1w(), make_labels())
    scan.t1w.write_bytes(scan.t1w.read_bytes()[:2000])
    with pytest.raises(ScanError, match=r"sub-1_T1w\.nii\.gz"):
        load_healthy([scan], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def anatomy(tmp_path):
    return load(tmp_path, make_t1w(), make_labels())


@pytest.mark.slow
def test_a_synthetic_scan_shows_the_t1w_but_for_those_that_lack_it(anatomy, monkeypatch):
    monkeypatch.setattr(painting, "HEALTHY", 1.0)
    texture = np.random.default_rng(1).normal(0, 0.15, anatomy.t1w.shape).astype(np.float32)
    textured = replace(anatomy, t1w=(anatomy.t1w.float() + torch.from_numpy(texture)).half())

    # Same seed, same faults of the scanner: only what was scanned differs.
    changes = []
    for seed in range(12):
        one, other = (
            make_synthetic_scan(each, [make_donor()], CONTRASTS, rng(seed))
            for each in (textured, anatomy)
        )
        assert torch.equal(one.brain, other.brain)
        assert torch.equal(one.channels[0], other.channels[0])
        changes.append(float((one.channels[1] - other.channels[1])[one.brain].std()))
    there = [change for change in changes if change]
    assert 4 <= len(there) < 12
    assert min(there) > 0.05


@pytest.mark.slow
def test_lesions_are_dark_on_the_t1w_and_bright_on_the_flair(anatomy, monkeypatch):
    monkeypatch.setattr(painting, "HEALTHY", 0.0)
    seen = {"FLAIR": [], "T1w": []}
    for seed in range(30):
        sample = make_synthetic_scan(anatomy, [make_donor()], CONTRASTS, rng(seed))
        if sample.lesions.sum() < 20 or not sample.channels[1].any():
            continue
        near = torch.nn.functional.max_pool3d(sample.lesions[None].float(), 7, 1, 3)[0] > 0
        around = near & ~sample.lesions & sample.brain
        for name, image in zip(CONTRASTS, sample.channels, strict=True):
            seen[name].append(float(image[sample.lesions].mean() - image[around].mean()))
    assert len(seen["T1w"]) > 8
    assert np.mean(np.array(seen["FLAIR"]) > 0) > 0.85
    assert np.median(seen["T1w"]) < -0.1


def test_the_scan_is_as_it_was_where_nothing_is_painted(anatomy):
    shape = anatomy.tissues.shape
    nothing = painting.Painted(
        torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    )
    unlike = painting.Bright(torch.zeros(shape), torch.zeros(shape))
    scanned = anatomy.t1w.float()
    image = contrasts.render("T1w", anatomy.tissues, nothing, unlike, rng(0), scanned=scanned)
    torch.testing.assert_close(image, scanned)
    # What is no lesion and would show on a T1w shows there.
    alike = painting.Bright(torch.zeros(shape), torch.ones(shape))
    changed = contrasts.render("T1w", anatomy.tissues, nothing, alike, rng(0), scanned=scanned)
    assert (changed <= scanned).all()
    assert (changed < scanned)[scanned > 0.1].all()
    drawn = contrasts.render("T1w", anatomy.tissues, nothing, unlike, rng(0))
    inside = anatomy.depth_mm > 0
    assert pearsonr(drawn[inside], scanned[inside]).statistic > 0.5


def test_heads_with_and_without_t1w_count_alike(anatomy, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        generator, "make_synthetic_scan", lambda anatomy, *_: drawn.append(anatomy.t1w is not None)
    )
    maps = tuple(replace(make_anatomy(), name=f"head{n}") for n in range(3))
    people = tuple(replace(anatomy, name=f"sub-{n}_ses-1") for n in range(12))
    source = ScanGenerator(CONTRASTS, maps + people, (make_donor(),))
    assert source.kinds == (ScanKind.SYNTHETIC,)
    for seed in range(60):
        source.draw(rng(seed), ScanKind.SYNTHETIC)
    assert 0.3 < np.mean(drawn) < 0.7
    alone = replace(source, anatomies=people)
    assert alone.kinds == (ScanKind.SYNTHETIC,)
    drawn.clear()
    alone.draw(rng(0), ScanKind.SYNTHETIC)
    assert drawn == [True]


def test_healthy_participants_are_kept_for_checking_and_left_out_by_name(anatomy):
    people = tuple(replace(anatomy, name=f"sub-{n}_ses-{m}") for n in range(6) for m in (1, 2))
    maps = (make_anatomy(),)
    source = ScanGenerator(CONTRASTS, maps + people, (make_donor(),))
    about = source.describe()
    assert about["heads"] == ["head01"]
    assert about["healthy_scans"] == [one.name for one in people if one.name[4] in "1234"]
    # Both sessions of a participant.
    assert about["heads_to_check"] == [one.name for one in people if one.name[4] in "05"]
    assert len(source.to_check().anatomies) == 5
    assert len(source.without({"here/sub-3"}).healthy) == 10
    assert len(source.without({"here/sub-1_ses-1", "here/2"}).healthy) == 12


def test_plexus_that_is_drawn_is_on_the_t1w_too(anatomy, monkeypatch):
    shown = {}

    def keep(contrast, tissues, painted, bright, rng, *, scanned=None):
        if scanned is not None:
            shown["level"] = scanned[tissues == TISSUES.index("choroid plexus")]
        return torch.ones(tissues.shape)

    def grow(tissues, *_):
        plexus = torch.tensor(TISSUES.index("choroid plexus"), dtype=tissues.dtype)
        return torch.where(tissues == TISSUES.index("ventricle"), plexus, tissues)

    monkeypatch.setattr(generator, "render", keep)
    monkeypatch.setattr(generator, "grow_plexus", grow)
    make_synthetic_scan(anatomy, [make_donor()], CONTRASTS, rng(0))
    assert len(shown["level"]) > 20
    assert shown["level"].numpy() == pytest.approx(LEVELS["T1w"]["choroid plexus"])


def test_label_maps_are_predicted_where_there_are_some(anatomy, tmp_path, monkeypatch):
    made = []

    def make(anatomy, *_):
        made.append(anatomy.name)
        raise StopIteration

    monkeypatch.setattr(out_of_fold, "make_synthetic_scan", make)
    people = (replace(anatomy, name="sub-1"),)
    for anatomies in ((make_anatomy(), *people), people):
        source = ScanGenerator(CONTRASTS, anatomies, (make_donor(),))
        with pytest.raises(StopIteration):
            predict_synthetic([], source, tmp_path, combination="last", seed=0)
    assert made == ["head01", "sub-1"]
