import hashlib
import json
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from cascade_bids.lesions.location import (
    JUXTACORTICAL_MM,
    LOCATIONS,
    PERIVENTRICULAR_MM,
    load_atlas,
    locate_lesions,
)

IDENTITY = np.eye(4)


def slab_atlas(spacing_mm=1.0):
    """Slabs along x with known edges: ventricle, white matter, cortex, outside, cerebellum."""
    regions = np.zeros((60, 6, 6), np.uint8)
    regions[0:5] = 1
    regions[5:25] = 3
    regions[25:30] = 2
    regions[40:50] = 6
    return nib.Nifti1Image(regions, np.diag([spacing_mm, spacing_mm, spacing_mm, 1]))


def locate(columns, *, atlas=None, affine=IDENTITY, world_to_atlas=IDENTITY):
    """Locate one lesion for each slice of columns along x of a grid like the slab atlas's."""
    labels = np.zeros((60, 6, 6), np.int32)
    for number, column in enumerate(columns, start=1):
        labels[column, 3, 3] = number
    atlas = slab_atlas() if atlas is None else atlas
    found = locate_lesions(labels, affine, atlas=atlas, world_to_atlas=world_to_atlas)
    assert list(found) == list(range(1, len(columns) + 1))
    return list(found.values())


def test_each_region_has_its_lesion():
    columns = [slice(6, 8), slice(12, 14), slice(22, 24), slice(44, 46)]
    assert locate(columns) == [
        "periventricular",
        "deep_white_matter",
        "juxtacortical",
        "infratentorial",
    ]


def test_distances_are_in_mm_and_the_limit_is_still_near():
    # The last ventricle voxel is 4, the first cortical one 25.
    assert locate([7, 8, 22, 23]) == [
        "periventricular",
        "deep_white_matter",
        "deep_white_matter",
        "juxtacortical",
    ]
    # On an atlas of 2 mm voxels the same voxels are twice as far away.
    coarse = slab_atlas(2.0)
    assert locate([5, 6, 23, 24], atlas=coarse, affine=coarse.affine) == [
        "periventricular",
        "deep_white_matter",
        "deep_white_matter",
        "juxtacortical",
    ]
    assert (PERIVENTRICULAR_MM, JUXTACORTICAL_MM) == (3.0, 2.0)


def test_a_confluent_lesion_from_ventricle_to_cortex_is_periventricular():
    assert locate([slice(5, 25)]) == ["periventricular"]


def test_infratentorial_needs_more_than_half():
    bridge = np.zeros((60, 6, 6), np.uint8)
    bridge[:30] = 3
    bridge[30:] = 5
    bridge[0, 0, 0], bridge[59, 0, 0] = 1, 2
    atlas = nib.Nifti1Image(bridge, IDENTITY)
    assert locate([slice(25, 35)], atlas=atlas) == ["deep_white_matter"]
    assert locate([slice(25, 36)], atlas=atlas) == ["infratentorial"]


def test_off_the_regions_the_nearest_one_counts():
    assert locate([33, 37, 55]) == ["deep_white_matter", "infratentorial", "infratentorial"]


def test_a_lesion_outside_the_field_of_view_goes_with_the_nearest_region():
    below = IDENTITY.copy()
    below[0, 3] = 100
    assert locate([10], world_to_atlas=below) == ["infratentorial"]


def test_the_transform_carries_the_lesion_to_the_atlas():
    shift = IDENTITY.copy()
    shift[0, 3] = -6
    assert locate([12]) == ["deep_white_matter"]
    assert locate([12], world_to_atlas=shift) == ["periventricular"]


def test_no_lesion_no_location():
    assert locate([]) == []


def test_bad_input_is_refused():
    broken = np.full((4, 4), np.nan)
    with pytest.raises(ValueError, match="not finite"):
        locate([12], world_to_atlas=broken)
    no_regions = nib.Nifti1Image(np.full((4, 4, 4), 3, np.uint8), IDENTITY)
    with pytest.raises(ValueError, match="region atlas"):
        locate([2], atlas=no_regions)
    with pytest.raises(ValueError, match="3 axes"):
        locate_lesions(np.zeros((2, 2), int), IDENTITY, atlas=slab_atlas(), world_to_atlas=IDENTITY)


@pytest.mark.parametrize(
    ("place_mm", "expected"),
    [
        ((-27, -35, 18), "periventricular"),  # white matter beside the atrium
        ((27, -35, 18), "periventricular"),
        ((0, -28, -32), "infratentorial"),  # pons
        ((25, -60, -40), "infratentorial"),  # cerebellar white matter
        ((0, -45, -110), "infratentorial"),  # below the field of view
        ((-26, -12, 36), "deep_white_matter"),  # centrum semiovale
        ((26, -12, 36), "deep_white_matter"),
        ((-30, -22, 62), "juxtacortical"),  # beneath the precentral gyrus
        ((32, -22, 62), "juxtacortical"),
    ],
)
def test_known_places_of_the_brain(place_mm, expected):
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = np.add(place_mm, (1, -1, -1))
    labels = np.zeros((3, 3, 3), np.int32)
    labels[1, 1, 1] = 7
    np.testing.assert_array_equal(apply_affine(affine, [1, 1, 1]), place_mm)
    found = locate_lesions(labels, affine, atlas=load_atlas(), world_to_atlas=IDENTITY)
    assert found == {7: expected}
    assert expected in LOCATIONS


def test_the_card_describes_the_atlas():
    folder = files("cascade_bids") / "data" / "atlas"
    card = json.loads((folder / "atlas.json").read_text())
    packed = (folder / "atlas.nii.gz").read_bytes()
    assert card["sha256"] == hashlib.sha256(packed).hexdigest()
    assert len(packed) < 200_000
    atlas = load_atlas()
    assert atlas.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(atlas.affine) == ("R", "A", "S")
    assert {str(n) for n in np.unique(np.asarray(atlas.dataobj))} == set(card["labels"])
