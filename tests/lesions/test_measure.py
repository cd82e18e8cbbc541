import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff

from cascade_bids.lesions.location import LOCATIONS, locate_lesions
from cascade_bids.lesions.measure import COLUMNS, lesion_table, summarise

IDENTITY = np.eye(4)
AFFINE = np.array([[0.5, 0, 0, -10], [0, 2, 0, -21], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def scan():
    """Four lesions of different sizes with their probabilities, voxels of 0.5 x 2 x 3 mm, RAS."""
    labels = np.zeros((48, 12, 9), np.int32)
    labels[2:6, 2:4, 2:4] = 1
    labels[20:25, 5:7, 5] = 2
    labels[40:43, 9, 7] = 3
    labels[46, 1, 1] = 4
    probability = np.random.default_rng(0).uniform(0, 1, labels.shape).astype(np.float32)
    return labels, probability


def atlas():
    """Four slabs along x, in the scan's own world, at 1 mm."""
    regions = np.repeat(np.array([1, 3, 2, 6], np.uint8), [5, 7, 3, 11])
    affine = np.eye(4)
    affine[:3, 3] = (-10.2, -21.2, 6.8)
    return nib.Nifti1Image(np.tile(regions[:, None, None], (1, 25, 30)), affine)


def table(labels, probability, affine, to_mni=IDENTITY):
    locations = locate_lesions(labels, affine, atlas=atlas(), world_to_atlas=to_mni)
    return lesion_table(labels, probability, affine, locations=locations, world_to_mni=to_mni)


def test_one_row_for_each_lesion():
    labels, probability = scan()
    found = table(labels, probability, AFFINE)
    assert tuple(found.columns) == COLUMNS
    assert found["index"].tolist() == [1, 2, 3, 4]
    assert found["name"].tolist() == ["lesion-1", "lesion-2", "lesion-3", "lesion-4"]
    assert found["volume_mm3"].tolist() == pytest.approx([48, 30, 9, 3])
    assert found["location"].tolist() == [
        "periventricular",
        "juxtacortical",
        "infratentorial",
        "infratentorial",
    ]
    second = found.iloc[1]
    centre = (second["centroid_x_mm"], second["centroid_y_mm"], second["centroid_z_mm"])
    assert centre == pytest.approx((22 * 0.5 - 10, 5.5 * 2 - 21, 5 * 3 + 7))
    inside = probability[labels == 2].astype(float)
    assert second["mean_probability"] == pytest.approx(inside.mean())
    assert second["max_probability"] == inside.max()


def test_the_centroid_is_in_mni_but_the_volume_is_native():
    labels, probability = scan()
    to_mni = np.diag([2.0, 2.0, 2.0, 1.0])
    locations = dict.fromkeys(range(1, 5), "juxtacortical")
    native, scaled = (
        lesion_table(labels, probability, AFFINE, locations=locations, world_to_mni=matrix)
        for matrix in (np.eye(4), to_mni)
    )
    assert scaled["centroid_x_mm"].tolist() == (2 * native["centroid_x_mm"]).tolist()
    assert scaled["volume_mm3"].tolist() == native["volume_mm3"].tolist()


def test_gaps_in_the_numbers_stay():
    labels, probability = scan()
    labels[labels == 2] = 0
    assert table(labels, probability, AFFINE)["index"].tolist() == [1, 3, 4]


def test_no_lesion_gives_a_table_with_a_header_only():
    empty = np.zeros((4, 4, 4), np.int32)
    found = table(empty, np.zeros((4, 4, 4), np.float32), AFFINE)
    assert tuple(found.columns) == COLUMNS
    assert len(found) == 0
    summary = summarise(found, brain_mask=np.ones((10, 10, 10)), affine=np.eye(4))
    assert summary["load_ml"] == 0
    assert summary["load_percent_icv"] == 0


def test_bad_input_is_refused():
    labels, probability = scan()
    with pytest.raises(ValueError, match="differ"):
        table(labels, probability[1:], AFFINE)
    with pytest.raises(ValueError, match=r"lesions \[3, 4\]"):
        lesion_table(
            labels,
            probability,
            AFFINE,
            locations={1: "juxtacortical", 2: "juxtacortical", 3: "elsewhere"},
            world_to_mni=np.eye(4),
        )
    with pytest.raises(ValueError, match="volume"):
        summarise(pd.DataFrame(), brain_mask=labels, affine=np.zeros((4, 4)))


def test_summary_adds_up_and_is_plain_json():
    labels, probability = scan()
    mask = np.zeros((50, 40, 30), bool)
    mask[5:45, 5:35, 5:25] = True
    summary = summarise(
        table(labels, probability, AFFINE), brain_mask=mask, affine=np.diag([-1, 1, 2, 1])
    )
    assert json.loads(json.dumps(summary)) == summary
    assert summary["count"] == 4
    assert summary["load_ml"] == pytest.approx(0.090)
    assert summary["icv_ml"] == pytest.approx(48.0)
    assert summary["load_percent_icv"] == pytest.approx(0.1875)
    assert tuple(summary["by_location"]) == LOCATIONS
    assert summary["by_location"]["infratentorial"] == {
        "load_ml": pytest.approx(0.012),
        "count": 2,
    }
    assert summary["by_location"]["deep_white_matter"] == {"load_ml": 0.0, "count": 0}


def test_lesions_of_a_head_of_unknown_orientation_have_no_place():
    labels, probability = scan()
    found = lesion_table(labels, probability, AFFINE, locations=None, world_to_mni=None)
    expected = table(labels, probability, AFFINE)
    placed = ["location", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]
    assert found[placed].isna().to_numpy().all()
    pd.testing.assert_frame_equal(found.drop(columns=placed), expected.drop(columns=placed))
    brain = {"brain_mask": np.ones((10, 10, 10)), "affine": np.eye(4)}
    summary = summarise(found, located=False, **brain)
    assert summary == {**summarise(expected, **brain), "by_location": None}


def test_without_a_brain_there_is_no_percentage():
    labels, probability = scan()
    summary = summarise(
        table(labels, probability, AFFINE), brain_mask=np.zeros((2, 2, 2)), affine=np.eye(4)
    )
    assert summary["icv_ml"] == 0
    assert summary["load_percent_icv"] is None


orientations = st.tuples(
    st.permutations(range(3)), st.lists(st.sampled_from([1, -1]), min_size=3, max_size=3)
)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(orientations, st.floats(-0.6, 0.6), st.integers(0, 2))
@example(([0, 1, 2], [-1, 1, 1]), 0.0, 0)  # LAS
@example(([0, 1, 2], [-1, -1, 1]), 0.0, 0)  # LPS
@example(([0, 1, 2], [1, 1, 1]), 0.3, 2)  # oblique
def test_the_table_does_not_depend_on_how_the_grid_lies(orientation, angle, axis):
    labels, probability = scan()
    expected = table(labels, probability, AFFINE)
    change = np.array(list(zip(*orientation, strict=True)))
    oblique = np.eye(4)
    others = [other for other in range(3) if other != axis]
    oblique[np.ix_(others, others)] = (
        (np.cos(angle), -np.sin(angle)),
        (np.sin(angle), np.cos(angle)),
    )
    # The same head, stored along other axes and lying rotated in the scanner.
    affine = oblique @ AFFINE @ inv_ornt_aff(change, labels.shape)
    found = table(
        apply_orientation(labels, change),
        apply_orientation(probability, change),
        affine,
        np.linalg.inv(oblique),
    )
    pd.testing.assert_frame_equal(found, expected)
