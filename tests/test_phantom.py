"""The phantom is what it says: its lesions are where the tables say, and as large."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage

from cascade_bids.errors import ScanError, UsageError
from cascade_bids.lesions.location import load_atlas, locate_lesions
from cascade_bids.phantom import compare_loads, make_head, write_phantom
from cascade_bids.phantom import dataset as dataset_module
from cascade_bids.phantom.anatomy import Anatomy, build_anatomy
from cascade_bids.phantom.lesions import PLANS, LesionPlan, draw_lesion, measure
from cascade_bids.phantom.scanner import acquire, as_image, centred_grid, random_rigid

SEED = 3
LABELS = ("sub-01", "sub-02_ses-1", "sub-02_ses-2")
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A written phantom: its folder and its scans."""
    out_dir = tmp_path_factory.mktemp("phantom") / "bids"
    return out_dir, write_phantom(out_dir, seed=SEED)


@pytest.fixture(params=range(3), ids=LABELS)
def scan(request, phantom):
    return phantom[1][request.param]


def load(path):
    image = nib.Nifti1Image.from_filename(path)
    return np.asanyarray(image.dataobj), image.affine


def components(mask):
    return ndimage.label(mask, structure=np.ones((3, 3, 3)))


def test_official_validator_finds_no_error(phantom):
    command = [VALIDATOR, phantom[0], "-r", "--format", "json"]
    result = subprocess.run(command, capture_output=True, text=True, env={"NO_COLOR": "1"})
    report = json.loads(result.stdout)
    datasets = [report, *report.get("derivativesSummary", {}).values()]
    issues = [issue for dataset in datasets for issue in dataset["issues"]["issues"]]
    assert len(datasets) == 2
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert result.returncode == 0


def test_scans_are_as_promised(phantom):
    out_dir, scans = phantom
    assert tuple(scan.label for scan in scans) == LABELS
    assert [len(scan.lesions) for scan in scans] == [8, 5, 7]
    assert [round(scan.load_ml) for scan in scans] == pytest.approx([8, 4, 5.5], abs=1.1)
    assert all(path.is_relative_to(out_dir) for s in scans for path in (s.flair, s.t1w))


def test_headers_tell_the_truth(scan):
    flair, t1w = (nib.Nifti1Image.from_filename(path) for path in (scan.flair, scan.t1w))
    for image, axes in ((flair, "LAS"), (t1w, "PSR")):
        assert nib.aff2axcodes(image.affine) == tuple(axes)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    np.testing.assert_allclose(flair.header.get_zooms(), (1, 1, 3))
    assert not np.allclose(flair.affine[:3, :3], np.diag(np.diag(flair.affine)[:3]), atol=0.01)


def test_mask_holds_each_lesion_of_the_table(scan):
    mask, affine = load(scan.lesion_mask)
    labels, count = components(mask)
    assert count == len(scan.lesions)
    assert affine == pytest.approx(load(scan.flair)[1], abs=1e-4)

    centroids = apply_affine(affine, ndimage.center_of_mass(mask, labels, range(1, count + 1)))
    true = np.array([lesion.centroid_mm for lesion in scan.lesions])
    distances = np.linalg.norm(true[:, None] - centroids, axis=2)
    assert distances.min(axis=1).max() < 1.5
    assert sorted(distances.argmin(axis=1)) == list(range(count))

    volume_ml = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
    assert volume_ml == pytest.approx(scan.load_ml, rel=0.08)


def test_brain_mask_has_the_volume_of_the_scaled_template(scan):
    mask, affine = load(scan.brain_mask)
    volume_ml = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
    assert scan.icv_ml == pytest.approx(volume_ml)
    scale = np.cbrt(scan.icv_ml / (build_anatomy().brain.sum() / 1000))
    assert 0.93 < scale < 1.0
    assert not mask[:, :, [0, -1]].any()  # nothing is cut off by the field of view


def test_lesions_are_bright_on_flair_and_dark_on_t1w(scan):
    mask, affine = load(scan.lesion_mask)
    flair, _ = load(scan.flair)
    brain = load(scan.brain_mask)[0] > 0
    assert np.median(flair[mask > 0]) > np.percentile(flair[brain & (mask == 0)], 99)

    # The T1w lies elsewhere: t1w_from_flair says where.
    t1w, t1w_affine = load(scan.t1w)
    deep = next(one for one in scan.lesions if one.location == "deep_white_matter")
    points = apply_affine(affine, np.argwhere(brain))
    distance_mm = np.linalg.norm(points - deep.centroid_mm, axis=1)
    radius_mm = np.cbrt(deep.volume_mm3 * 3 / 4 / np.pi)
    from_t1w = np.linalg.inv(t1w_affine) @ scan.t1w_from_flair

    def t1w_at(chosen):
        return ndimage.map_coordinates(t1w, apply_affine(from_t1w, points[chosen]).T, order=1)

    inside = t1w_at(distance_mm < 0.7 * radius_mm)
    around = t1w_at((distance_mm > 1.5 * radius_mm) & (distance_mm < 1.8 * radius_mm))
    assert inside.mean() < 0.75 * np.median(around)


def test_lesions_grow_and_appear_in_the_follow_up(phantom):
    before, after = ([one.volume_mm3 for one in scan.lesions] for scan in phantom[1][1:])
    ratios = np.array(after[: len(before)]) / before
    assert ratios == pytest.approx([1.4, 1, 1.5, 1, 1], rel=0.03)
    assert len(after) == len(before) + 2
    assert phantom[1][1].icv_ml == pytest.approx(phantom[1][2].icv_ml, rel=0.005)


def test_same_seed_gives_the_same_bytes(phantom, tmp_path, monkeypatch):
    out_dir, scans = phantom
    monkeypatch.setattr(dataset_module, "PLANS", {("01", None): PLANS["01", None]})
    (again,) = write_phantom(tmp_path / "again", seed=SEED)
    for name in ("flair", "t1w", "lesion_mask", "brain_mask"):
        assert getattr(again, name).read_bytes() == getattr(scans[0], name).read_bytes()
    assert again.flair.relative_to(tmp_path / "again") == scans[0].flair.relative_to(out_dir)


def test_a_phantom_replaces_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_phantom(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_broken_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(dataset_module, "_write_scan", lambda *_: None)
    monkeypatch.setattr(dataset_module, "_simulate", fail)
    with pytest.raises(OSError, match="no space"):
        write_phantom(tmp_path / "bids")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("subject", "session"), PLANS)
def test_lesions_lie_where_the_atlas_says(subject, session):
    anatomy = build_anatomy()
    labels = np.zeros(anatomy.brain.shape, dtype=np.uint8)
    for index, plan in enumerate(PLANS[subject, session], 1):
        lesion = draw_lesion(plan, anatomy)
        labels[lesion.box][lesion.share >= 0.5] = index
    found = locate_lesions(labels, anatomy.affine, atlas=load_atlas(), world_to_atlas=np.eye(4))
    assert list(found.values()) == [plan.location for plan in PLANS[subject, session]]


# --- comparing a run with the truth


def pretend_run(scan, output_dir, *, load_ml, count):
    """Write what a run would: the true mask, and what it counted."""
    anat = output_dir / scan.lesion_mask.parent.relative_to(scan.lesion_mask.parents[2])
    anat.mkdir(parents=True)
    stats = anat / f"{scan.label}_desc-lesions_stats.json"
    stats.write_text(json.dumps({"load_ml": load_ml, "count": count}))
    return Path(shutil.copy(scan.lesion_mask, anat))


def test_compare_loads(phantom, tmp_path):
    out_dir, scans = phantom
    pretend_run(scans[0], tmp_path, load_ml=7.5, count=9)
    table = compare_loads(out_dir, tmp_path)
    assert list(table) == [
        *("scan", "planted_load_ml", "found_load_ml", "planted_count", "found_count", "dice")
    ]
    assert tuple(table["scan"]) == LABELS
    assert table.loc[0].tolist() == ["sub-01", pytest.approx(scans[0].load_ml), 7.5, 8, 9, 1.0]
    assert table["planted_count"].tolist() == [8, 5, 7]
    assert table.loc[1:, ["found_load_ml", "found_count", "dice"]].isna().all(axis=None)


def test_compare_loads_refuses_another_grid(phantom, tmp_path):
    out_dir, scans = phantom
    mask = pretend_run(scans[0], tmp_path, load_ml=7.5, count=9)
    nib.save(nib.Nifti1Image.from_filename(mask).slicer[:, :, ::-1], tmp_path / "other.nii.gz")
    (tmp_path / "other.nii.gz").replace(mask)
    with pytest.raises(ScanError, match="not on the grid"):
        compare_loads(out_dir, tmp_path)


def test_compare_loads_needs_a_phantom(tmp_path):
    with pytest.raises(UsageError, match="is no phantom"):
        compare_loads(tmp_path, tmp_path)


# --- the parts


@pytest.fixture(scope="module")
def heads():
    return {contrast: make_head(1, contrast=contrast) for contrast in ("FLAIR", "T1w")}


def test_make_head_gives_a_head(heads):
    for contrast, head in heads.items():
        data = head.image.get_fdata()
        brain, lesions = (m.get_fdata() > 0 for m in (head.brain_mask, head.lesion_mask))
        assert data.shape == brain.shape == lesions.shape == (96, 120, 93)
        assert not (lesions & ~brain).any()
        tissue = np.median(data[brain & ~lesions])
        assert np.median(data[0]) < 0.1 * tissue  # air
        shell = ndimage.binary_dilation(brain, iterations=2) & ~brain
        assert np.median(data[shell]) < 0.4 * tissue  # skull
        assert (np.median(data[lesions]) > tissue) == (contrast == "FLAIR")
    flair, t1w = heads.values()
    np.testing.assert_array_equal(flair.brain_mask.dataobj, t1w.brain_mask.dataobj)


def test_make_head_follows_its_seed(heads):
    same, other = make_head(1), make_head(2)
    np.testing.assert_array_equal(same.image.dataobj, heads["FLAIR"].image.dataobj)
    assert not np.array_equal(other.brain_mask.dataobj, same.brain_mask.dataobj)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    volume_ml=st.floats(0.1, 3),
    centre=st.tuples(*[st.floats(15, 24)] * 3),
    stretch=st.tuples(*[st.floats(1, 1.8)] * 3),
)
def test_a_lesion_within_tissue_is_an_ellipsoid(volume_ml, centre, stretch):
    shape = (40, 40, 40)
    full, none = np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)
    tissue = Anatomy({"white": full, "grey": none}, full > 0, np.eye(4))
    lesion = draw_lesion(LesionPlan("deep_white_matter", centre, volume_ml, stretch), tissue)
    volume_mm3, centroid = measure(lesion, tissue)
    assert volume_mm3 == pytest.approx(1000 * volume_ml, rel=0.06)
    np.testing.assert_allclose(centroid, centre, atol=0.1)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    spacing_mm=st.tuples(*[st.sampled_from([1.0, 1.2, 2.0, 3.0, 4.0])] * 3),
    tilt=st.floats(-20, 20),
)
def test_acquire_keeps_volume_and_place(seed, spacing_mm, tilt):
    x, y, z = np.ogrid[:41, :41, :41]
    ball = np.clip(8.5 - np.sqrt((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2), 0, 1)
    ball = ball.astype(np.float32)
    to_scanner = random_rigid(np.random.default_rng(seed), 20, 3)
    centre = np.array([20, 20, 20])
    to_scanner[:3, 3] -= to_scanner[:3, :3] @ centre
    grid = centred_grid((48, 48, 48), spacing_mm, tilt)
    share = acquire(ball, np.eye(4), to_scanner, grid)
    assert share.shape == grid.shape
    assert share.sum() * np.prod(spacing_mm) == pytest.approx(ball.sum(), rel=0.02)
    found = apply_affine(grid.affine, ndimage.center_of_mass(share))
    np.testing.assert_allclose(found, apply_affine(to_scanner, centre), atol=0.1)


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PSR"])
def test_stored_axes_do_not_move_the_scan(axes):
    grid = centred_grid((6, 8, 10), (1, 1, 2), tilt_degrees=10)
    data = np.zeros(grid.shape, dtype=np.int16)
    data[1, 2, 3] = 1
    image = as_image(data, grid, axes)
    assert nib.aff2axcodes(image.affine) == tuple(axes)
    stored = np.argwhere(np.asanyarray(image.dataobj))[0]
    expected = apply_affine(grid.affine, (1, 2, 3))
    np.testing.assert_allclose(apply_affine(image.affine, stored), expected, atol=1e-5)
    np.testing.assert_allclose(apply_affine(image.get_qform(), stored), expected, atol=1e-4)


def test_table_holds_the_true_lesions(scan):
    table = pd.read_csv(scan.lesion_mask.with_name(f"{scan.label}_desc-lesions_dseg.tsv"), sep="\t")
    assert table["volume_mm3"].tolist() == [one.volume_mm3 for one in scan.lesions]
    assert table["location"].tolist() == [one.location for one in scan.lesions]
    centroids = table[["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]].to_numpy()
    np.testing.assert_allclose(centroids, [one.centroid_mm for one in scan.lesions])
