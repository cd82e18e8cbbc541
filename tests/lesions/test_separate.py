"""Confluent lesions of known centres, separated by the sphere maps of a perfect network."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.affines import apply_affine
from scipy import ndimage

from cascade_bids.interfaces.lesions import LabelLesions
from cascade_bids.lesions.label import CONNECTED, OperatingPoint, label_lesions
from cascade_bids.lesions.separate import separate_lesions

few = settings(max_examples=25, derandomize=True, deadline=None)
ISOTROPIC = np.diag([1.0, 1.0, 1.0, 1.0])
THICK = np.diag([0.7, 0.7, 3.0, 1.0])
FIELD_MM = (48, 40, 36)


def balls(affine, *centres_and_radii):
    """(X, Y, Z) bool: voxels whose centre lies in one of the balls, in mm."""
    shape = np.ceil(np.array(FIELD_MM) / nib.affines.voxel_sizes(affine)).astype(int)
    place = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    distances = [np.linalg.norm(place - centre, axis=-1) <= r for centre, r in centres_and_radii]
    return np.any([np.zeros(shape, bool), *distances], axis=0)


def spheres(affine, *centres, probability=1.0):
    return balls(affine, *((centre, 5) for centre in centres)) * np.float32(probability)


def number(mask):
    return label_lesions(mask.astype(np.float32), OperatingPoint(0.5, 0), voxel_mm3=1)


def separate(mask, sphere_map, affine=ISOTROPIC, min_lesion_mm3=10.0):
    return separate_lesions(number(mask), sphere_map, affine=affine, min_lesion_mm3=min_lesion_mm3)


def at(labels, affine, place):
    """The lesion's number at a place in mm."""
    voxel = np.rint(apply_affine(np.linalg.inv(affine), place)).astype(int)
    return labels[tuple(voxel)]


# --- How many lesions ---


@pytest.mark.parametrize("affine", [ISOTROPIC, THICK], ids=["isotropic", "thick-slices"])
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, 0.8)])
def test_two_balls_that_touch_are_two_lesions(affine, direction):
    middle = np.array([24, 20, 18])
    centres = [middle - 5 * np.array(direction), middle + 5 * np.array(direction)]
    mask = balls(affine, (centres[0], 7), (centres[1], 5))
    assert number(mask).max() == 1
    labels = separate(mask, spheres(affine, *centres), affine)
    assert labels.dtype == np.int32
    assert labels.max() == 2
    assert [at(labels, affine, centre) for centre in centres] == [1, 2]


@pytest.mark.parametrize("affine", [ISOTROPIC, THICK], ids=["isotropic", "thick-slices"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_small_lesion_does_not_take_from_a_large_one(affine, axis):
    """The spheres are equally large, so half-way between them would cut the large one."""
    middle, offset = np.array([24, 20, 18]), np.eye(3)[axis]
    centres = [middle - 4 * offset, middle + 9 * offset]
    mask = balls(affine, (centres[0], 10), (centres[1], 5))
    labels = separate(mask, spheres(affine, *centres), affine)
    assert labels.max() == 2
    place = apply_affine(affine, np.moveaxis(np.indices(mask.shape), 0, -1))
    large, small = (np.linalg.norm(place - centre, axis=-1) for centre in centres)
    truth = np.where(large**2 - 10**2 <= small**2 - 5**2, 1, 2)
    halfway = np.where(large <= small, 1, 2)
    assert (labels != truth)[mask].sum() < 0.75 * (halfway != truth)[mask].sum()


def test_three_balls_in_a_row_are_three_lesions():
    centres = [np.array([x, 20, 18]) for x in (12, 22, 32)]
    mask = balls(ISOTROPIC, *((centre, 6) for centre in centres))
    labels = separate(mask, spheres(ISOTROPIC, *centres))
    assert {at(labels, ISOTROPIC, centre) for centre in centres} == {1, 2, 3}
    assert labels.max() == 3


def test_a_lesion_keeps_what_lies_beside_it():
    """Only the lesion with two peaks is split, and the others are numbered among its components."""
    pair = [np.array([14, 20, 18]), np.array([23, 20, 18])]
    alone = np.array([40, 20, 18])
    mask = balls(ISOTROPIC, (pair[0], 6), (pair[1], 4.5), (alone, 5))
    labels = separate(mask, spheres(ISOTROPIC, *pair, alone))
    assert number(mask).max() == 2
    assert [at(labels, ISOTROPIC, c) for c in (pair[0], alone, pair[1])] == [1, 2, 3]


@pytest.mark.parametrize("affine", [ISOTROPIC, THICK], ids=["isotropic", "thick-slices"])
def test_one_broad_peak_stays_one_lesion(affine):
    centre = np.array([24, 20, 18])
    mask = balls(affine, (centre, 14))
    broad = balls(affine, (centre, 11)).astype(np.float32)
    np.testing.assert_array_equal(separate(mask, broad, affine), number(mask))
    # A network's map is not flat there.
    noise = np.random.default_rng(0).uniform(0.85, 1, mask.shape).astype(np.float32)
    np.testing.assert_array_equal(separate(mask, broad * noise, affine), number(mask))


def test_spheres_that_mostly_cover_each_other_are_one():
    centres = [np.array([22, 20, 18]), np.array([26, 20, 18])]
    mask = balls(ISOTROPIC, *((centre, 8) for centre in centres))
    np.testing.assert_array_equal(separate(mask, spheres(ISOTROPIC, *centres)), number(mask))


def test_without_peaks_lesions_stay_whole():
    centres = [np.array([18, 20, 18]), np.array([30, 20, 18])]
    mask = balls(ISOTROPIC, *((centre, 7) for centre in centres))
    for probability in (0, 0.25):  # the second is too faint to be a peak
        sphere_map = spheres(ISOTROPIC, *centres, probability=probability)
        np.testing.assert_array_equal(separate(mask, sphere_map), number(mask))
    assert separate(mask, spheres(ISOTROPIC, *centres, probability=0.5)).max() == 2


def test_peaks_outside_the_mask_do_not_matter():
    inside, outside = np.array([16, 20, 18]), np.array([34, 20, 18])
    mask = balls(ISOTROPIC, (inside, 8))
    np.testing.assert_array_equal(separate(mask, spheres(ISOTROPIC, inside, outside)), number(mask))
    # Even where its sphere reaches into the lesion.
    beside = np.array([27, 20, 18])
    np.testing.assert_array_equal(separate(mask, spheres(ISOTROPIC, inside, beside)), number(mask))


def test_a_component_that_is_too_small_joins_its_neighbour():
    centres = [np.array([12, 20, 18]), np.array([22, 20, 18]), np.array([31, 20, 18])]
    mask = balls(ISOTROPIC, (centres[0], 6), (centres[1], 6), (centres[2], 3))
    mask |= balls(ISOTROPIC, *((np.array([x, 20, 18]), 1) for x in range(12, 31)))
    sphere_map = spheres(ISOTROPIC, *centres)
    labels = separate(mask, sphere_map)
    assert labels.max() == 3
    smallest = np.bincount(labels.ravel())[3]
    assert separate(mask, sphere_map, min_lesion_mm3=float(smallest)).max() == 3
    merged = separate(mask, sphere_map, min_lesion_mm3=smallest + 1.0)
    assert merged.max() == 2
    assert at(merged, ISOTROPIC, centres[2]) == at(merged, ISOTROPIC, centres[1])


def test_no_lesions_no_components():
    empty = np.zeros((5, 6, 7), np.float32)
    assert not separate(empty > 0, empty).any()
    assert not separate(empty > 0, empty + 1).any()


# --- However the image is stored ---


def test_storage_does_not_matter(reorient):
    """Equal peaks and flat tops too: two voxels' worth of ties would show a preferred side."""
    affine = nib.affines.from_matvec(np.diag([0.7, 0.7, 3.0]), [-20, -30, -10])
    shift = affine[:3, 3]
    centres = [np.array([x, 20, 18]) + shift for x in (14, 23, 32)]
    mask = balls(affine, *((centre, 6) for centre in centres))
    sphere_map = spheres(affine, *centres)
    expected = nib.Nifti1Image(separate(mask, sphere_map, affine), affine)
    stored = [
        reorient(nib.Nifti1Image(data, affine))
        for data in (number(mask).astype(np.int32), sphere_map.astype(np.float32))
    ]
    labels, turned_map = (np.asarray(image.dataobj) for image in stored)
    found = separate_lesions(labels, turned_map, affine=stored[0].affine, min_lesion_mm3=10)
    assert found.max() == 3
    same_lesions(np.asarray(reorient(expected).dataobj), found)


def same_lesions(a, b):
    """Ties may be numbered differently, so compare which voxels go together."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(a)) == len(np.unique(b))
    np.testing.assert_array_equal(np.bincount(a.ravel()), np.bincount(b.ravel()))


# --- Whatever the maps ---


def blobs(seed, scale_mm, part):
    """A random field that varies over so many mm, as a part of its range above 0."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(20, 18, 16)), scale_mm)
    field -= np.quantile(field, 1 - part)
    return np.clip(field / field.max(), 0, 1)


random_maps = st.tuples(
    st.integers(0, 10**6).map(lambda seed: blobs(seed, 2, 0.25) > 0),
    st.integers(0, 10**6).map(lambda seed: blobs(seed, 1.5, 0.5) ** 0.3),
)
sizes = st.sampled_from([ISOTROPIC, np.diag([1.0, 1.5, 3.0, 1.0])])


@few
@given(random_maps, sizes, st.sampled_from([0.0, 30.0, 120.0]))
def test_components_fill_the_lesions_and_are_large_enough(maps, affine, minimum):
    mask, sphere_map = maps
    voxel_mm3 = np.prod(np.diag(affine))
    whole = label_lesions(
        mask.astype(np.float32), OperatingPoint(0.5, minimum), voxel_mm3=voxel_mm3
    )
    components = separate_lesions(whole, sphere_map, affine=affine, min_lesion_mm3=minimum)
    np.testing.assert_array_equal(components > 0, whole > 0)
    counts = np.bincount(components[components > 0])[1:]
    assert (counts * voxel_mm3 >= max(minimum, voxel_mm3)).all()
    assert (np.diff(counts) <= 0).all()
    for component in range(1, components.max() + 1):
        assert len(np.unique(whole[components == component])) == 1, "a component of two lesions"
        assert ndimage.label(components == component, structure=CONNECTED)[1] == 1, (
            "a component in two parts"
        )
    again = separate_lesions(whole, sphere_map, affine=affine, min_lesion_mm3=minimum)
    np.testing.assert_array_equal(again, components)


def test_random_maps_split_some_lesions():
    """Otherwise the properties above would hold for nothing."""
    split = [
        separate(mask := blobs(seed, 2, 0.25) > 0, blobs(seed + 1, 1.5, 0.5) ** 0.3).max()
        - number(mask).max()
        for seed in range(5)
    ]
    assert sum(split) > 5


@few
@given(random_maps, sizes, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_turning_the_maps_turns_the_lesions(maps, affine, order, flipped):
    mask, sphere_map = maps
    # Row k of the turned affine tells the world axis of the turned voxel axis k.
    turned_affine = np.eye(4)
    turned_affine[:3, :3] = affine[:3, :3][:, order] * [
        -1 if axis in flipped else 1 for axis in range(3)
    ]

    def turn(array):
        return np.flip(array.transpose(order), axis=tuple(flipped))

    whole = number(mask)
    expected = separate_lesions(whole, sphere_map, affine=affine, min_lesion_mm3=20)
    found = separate_lesions(turn(whole), turn(sphere_map), affine=turned_affine, min_lesion_mm3=20)
    same_lesions(turn(expected), found)


@few
@given(arrays(np.float32, (6, 5, 7), elements=st.sampled_from([0, 0.5, 1])))
def test_a_single_voxel_is_never_split(sphere_map):
    whole = np.zeros((6, 5, 7), np.int32)
    whole[3, 2, 3] = 1
    found = separate_lesions(whole, sphere_map, affine=np.diag([20.0, 20, 20, 1]), min_lesion_mm3=0)
    np.testing.assert_array_equal(found, whole)


# --- Wrong input ---


@pytest.mark.parametrize("wrong", [np.nan, -0.01, 1.01])
def test_values_that_are_no_probability_are_refused(wrong):
    sphere_map = np.zeros((3, 3, 3))
    sphere_map[1, 2, 0] = wrong
    with pytest.raises(ValueError, match="NaN or values outside"):
        separate(np.ones((3, 3, 3)), sphere_map)


@pytest.mark.parametrize(
    ("shape", "affine", "minimum", "message"),
    [
        ((3, 3, 4), ISOTROPIC, 0, "shape"),
        ((3, 3, 3), np.diag([1.0, 1, 0, 1]), 0, "volumes"),
        ((3, 3, 3), ISOTROPIC, -1, "volumes"),
    ],
)
def test_impossible_settings_are_refused(shape, affine, minimum, message):
    with pytest.raises(ValueError, match=message):
        separate(np.ones((3, 3, 3)), np.zeros(shape), affine, minimum)


# --- The node ---


def test_the_node_splits_the_numbers_and_leaves_the_mask(tmp_path):
    centres = [np.array([18, 20, 18]), np.array([28, 20, 18])]
    mask = balls(THICK, *((centre, 6) for centre in centres))
    paths = {"lesions": mask.astype(np.float32), "spheres": spheres(THICK, *centres)}
    for name, data in paths.items():
        nib.Nifti1Image(data, THICK).to_filename(tmp_path / f"{name}.nii.gz")

    def run(**inputs):
        folder = tmp_path / f"run-{len(inputs)}"
        folder.mkdir()
        node = LabelLesions(
            in_file=str(tmp_path / "lesions.nii.gz"),
            threshold=0.5,
            min_lesion_mm3=10,
            min_peak=0.0,
            **inputs,
        )
        outputs = node.run(cwd=str(folder)).outputs
        return tuple(np.asarray(nib.load(path).dataobj) for path in (outputs.mask, outputs.labels))

    one_mask, one = run()
    two_mask, two = run(spheres=str(tmp_path / "spheres.nii.gz"))
    assert (one.max(), two.max()) == (1, 2)
    np.testing.assert_array_equal(one_mask, two_mask)
    np.testing.assert_array_equal(one_mask, mask)
