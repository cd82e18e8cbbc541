"""A round brain with a round ventricle has coordinates that can be told beforehand."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bids.errors import ScanError
from cascade_bids.interfaces.preprocess import MeasureAnatomy
from cascade_bids.preprocess.anatomical_coordinates import (
    ANATOMY,
    UNIT_MM,
    find_fluid,
    measure_anatomy,
    measure_depth,
    smooth_brain,
)
from cascade_bids.preprocess.conform import conform
from cascade_bids.preprocess.masks import nonzero_mask
from cascade_bids.preprocess.normalise import prepare
from cascade_bids.preprocess.tissue import CSF, GREY, WHITE, classify_tissue
from cascade_bids.transforms import write_transform

from .small_images import rigid

SHAPE = (56, 60, 52)
GRID = nib.affines.from_matvec(np.eye(3), [-28, -32, -22])
CENTRE_MM = np.array([1.0, -3.0, 4.0])
BRAIN_MM, GREY_MM, VENTRICLE_MM = 22.0, 19.0, 8.0
LESION = (slice(40, 44), slice(28, 32), slice(24, 28))
"""In the white matter."""


def radius(places_mm):
    return np.linalg.norm(np.moveaxis(places_mm, 0, -1) - CENTRE_MM, axis=-1)


def places():
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.moveaxis(nib.affines.apply_affine(GRID, voxels), -1, 0)


@pytest.fixture(scope="module")
def scan():
    """T1w, FLAIR and brain of the round head, normalised as the pipeline leaves them."""
    away = radius(places())
    rings = [away < VENTRICLE_MM, away < GREY_MM, away < BRAIN_MM]
    rng = np.random.default_rng(3)
    t1w = np.select(rings, [-4.0, 0.8, -0.8], 0.0) + rng.normal(0, 0.2, SHAPE)
    flair = np.select(rings, [-4.0, -0.3, 0.5], 0.0) + rng.normal(0, 0.2, SHAPE)
    t1w[LESION], flair[LESION] = -4.0, 3.0
    t1w[tuple(np.argwhere(away < GREY_MM)[1000])] = 60.0  # a vessel with contrast agent
    return tuple(
        nib.Nifti1Image(np.where(away < BRAIN_MM, values, 0).astype(np.float32), GRID)
        for values in (t1w, flair, np.ones(SHAPE))
    )


@pytest.fixture(scope="module")
def maps(scan):
    return measure_anatomy(*scan, rigid=np.eye(4), affine=np.eye(4))


def inside(scan):
    return np.asarray(scan[2].dataobj) > 0


def test_three_tissues_are_told_apart_beside_a_bright_vessel(scan):
    classes = classify_tissue(np.asarray(scan[0].dataobj), inside(scan))
    away = radius(places())
    assert classes.dtype == np.uint8
    assert not classes[~inside(scan)].any()
    lesion = np.zeros(SHAPE, bool)
    lesion[LESION] = True
    truth = np.select([away < VENTRICLE_MM, away < GREY_MM], [CSF, WHITE], GREY)
    tissue = inside(scan) & ~lesion
    assert (classes[tissue] == truth[tissue]).mean() > 0.995


def test_distances_are_those_of_the_spheres(scan, maps):
    assert maps.shape == (len(ANATOMY), *SHAPE)
    assert maps.dtype == np.float32
    away = radius(places())
    brain = inside(scan)
    csf_mm, brain_mm = maps[4] * UNIT_MM, maps[5] * UNIT_MM
    for found, truth in ((csf_mm, away - VENTRICLE_MM), (brain_mm, BRAIN_MM - away)):
        # Spheres of voxels are rough, and opening makes them a little smoother.
        error_mm = np.abs(found - truth)[brain]
        assert error_mm.mean() < 0.4
        assert np.percentile(error_mm, 99.5) < 1.3
        assert error_mm.max() < 2.5
    middle = tuple(np.round(nib.affines.apply_affine(np.linalg.inv(GRID), CENTRE_MM)).astype(int))
    assert csf_mm[middle] < -5


def test_places_are_those_of_the_template(scan, maps):
    brain = inside(scan)
    np.testing.assert_allclose(maps[:3, brain] * UNIT_MM, places()[:, brain], atol=1e-4)
    expected = np.linalg.norm(places(), axis=0)[brain]
    np.testing.assert_allclose(maps[3, brain] * UNIT_MM, expected, atol=1e-4)


def test_all_is_zero_outside_the_brain(scan, maps):
    assert not maps[:, ~inside(scan)].any()


def test_a_lesion_as_dark_as_fluid_is_none(scan, maps):
    assert (classify_tissue(np.asarray(scan[0].dataobj), inside(scan))[LESION] == CSF).all()
    assert (maps[4][LESION] > 0).all()


angles, shifts = st.floats(-30, 30), st.floats(-40, 40)
scales, shears = st.floats(0.8, 1.25), st.floats(-0.1, 0.1)


@settings(max_examples=4, deadline=None)
@given(
    st.tuples(angles, angles, angles),
    st.tuples(shifts, shifts, shifts),
    st.tuples(scales, scales, scales),
    shears,
)
def test_a_head_of_any_size_and_pose_has_the_places_of_the_template(
    scan, degrees, shift_mm, scale, shear
):
    pose = rigid(degrees, shift_mm)
    shape = nib.affines.from_matvec(np.diag(scale) + shear * np.eye(3, k=1))
    found = measure_anatomy(*scan, rigid=pose, affine=pose @ shape)
    # The pose is undone by the rigid transform, so what is left is size and shape.
    expected = np.moveaxis(places(), 0, -1) @ np.linalg.inv(shape)[:3, :3].T
    brain = inside(scan)
    np.testing.assert_allclose(found[:3, brain].T * UNIT_MM, expected[brain], atol=1e-3)
    length = np.linalg.norm(expected[brain], axis=-1)
    np.testing.assert_allclose(found[3, brain] * UNIT_MM, length, atol=1e-3)


def test_storage_changes_nothing(scan, maps, reorient, turned):
    stored = [reorient(image) for image in scan]
    found = measure_anatomy(*stored, rigid=np.linalg.inv(turned), affine=np.eye(4))
    orientation = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(stored[0].affine),
        nib.orientations.axcodes2ornt("RAS"),
    )
    back = np.stack([nib.orientations.apply_orientation(each, orientation) for each in found])
    np.testing.assert_allclose(back, maps, atol=1e-6)


def test_depth_is_half_a_voxel_on_both_sides_of_a_boundary():
    mask = np.zeros((8, 3, 3), bool)
    mask[4:] = True
    found = measure_depth(mask, 2.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 1, 1], [-7, -5, -3, -1, 1, 3, 5, 7])


def test_fluid_loses_specks_and_gains_small_holes_only():
    brain = np.zeros((40, 40, 40), bool)
    brain[2:-2, 2:-2, 2:-2] = True
    shell = brain.copy()
    shell[6:-6, 6:-6, 6:-6] = False  # fluid around the whole brain
    shell[16:27, 16:27, 16:27] = True  # a ventricle
    classes = np.where(shell, CSF, np.where(brain, WHITE, 0)).astype(np.uint8)
    classes[20:23, 20:23, 20:23] = WHITE  # choroid plexus
    classes[10, 10, 10] = CSF  # a speck
    found = find_fluid(classes, np.full(brain.shape, -1.0), brain, voxel_mm3=1.0)
    assert found[21, 21, 21]
    assert not found[10, 10, 10]
    assert not found[30, 30, 30]
    # Opening rounds the edges, nothing else.
    assert (found != shell).mean() < 0.02


def test_the_brain_loses_spurs_and_holes():
    brain = np.zeros((24, 24, 24), bool)
    brain[6:18, 6:18, 6:18] = True
    rough = brain.copy()
    rough[18:21, 12, 12] = True
    rough[10:13, 10:13, 10:13] = False
    found = smooth_brain(rough)
    assert not found[19:21, 12, 12].any()
    assert found[10:13, 10:13, 10:13].all()


def test_a_scan_without_tissues_or_fluid_or_brain_is_refused(scan):
    t1w, flair, brain = scan

    def measure(t1w=t1w, flair=flair, brain=brain):
        measure_anatomy(t1w, flair, brain, rigid=np.eye(4), affine=np.eye(4))

    with pytest.raises(ScanError, match="no three tissues"):
        measure(t1w=brain)
    with pytest.raises(ScanError, match="no cerebrospinal fluid"):
        measure(flair=nib.Nifti1Image(np.ones(SHAPE, np.float32), GRID))
    with pytest.raises(ScanError, match="empty on the network grid"):
        measure(brain=nib.Nifti1Image(np.zeros(SHAPE, np.uint8), GRID))


def test_the_node_writes_the_maps_as_one_image(tmp_path, scan, maps):
    paths = [tmp_path / f"{name}.nii.gz" for name in ("T1w", "FLAIR", "brain")]
    for image, path in zip(scan, paths, strict=True):
        nib.save(image, path)
    write_transform(np.eye(4), tmp_path / "identity.txt")
    node = MeasureAnatomy(
        in_files=[paths[1], paths[0]],
        contrasts=["FLAIR", "T1w"],
        brain=paths[2],
        rigid=tmp_path / "identity.txt",
        affine=tmp_path / "identity.txt",
    )
    found = nib.load(node.run(cwd=str(tmp_path)).outputs.out_file)
    assert found.shape == (*SHAPE, len(ANATOMY))
    assert found.get_data_dtype() == np.float32
    np.testing.assert_array_equal(found.affine, GRID)
    np.testing.assert_array_equal(np.moveaxis(found.get_fdata(), -1, 0), maps)


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["07", "19"])
def test_lesions_of_patients_are_no_fluid_but_ventricles_are(shared_data, subject):
    stem = f"sub-{subject}_space-MNI152NLin6Asym"
    folder = shared_data / "openms-mni" / f"sub-{subject}" / "anat"
    raw = {
        contrast: conform(
            nib.load(folder / f"{stem}_desc-preproc_{contrast}.nii.gz"), contrast
        ).image
        for contrast in ("FLAIR", "T1w")
    }
    lesions = nib.as_closest_canonical(nib.load(folder / f"{stem}_label-lesion_mask.nii.gz"))
    flair = raw["FLAIR"]
    here = {contrast: np.eye(4) for contrast in raw}
    images, brain = prepare(raw, here, nonzero_mask(flair), np.eye(4), flair.shape, flair.affine)
    found = measure_anatomy(
        images["T1w"], images["FLAIR"], brain, rigid=np.eye(4), affine=np.eye(4)
    )
    fluid = found[4] < 0
    assert fluid[np.asarray(lesions.dataobj) > 0].mean() < 0.02
    assert 30 < fluid.sum() / 1000 < 250
    place = np.abs(np.moveaxis(found[:3], 0, -1) * UNIT_MM - [10, -10, 24])
    ventricle = (place < [5, 8, 4]).all(axis=-1)
    assert fluid[ventricle].mean() > 0.3
