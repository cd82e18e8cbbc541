import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from cascade_bids.metrics.surface import surface_distances

few = settings(max_examples=25, derandomize=True, deadline=None)
masks = arrays(bool, (5, 4, 6)).filter(np.any)
spacings = st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3)


def test_distances_of_two_voxels_are_in_mm():
    pred, ref = np.zeros((2, 6, 6, 6), bool)
    pred[1, 1, 1] = ref[4, 1, 3] = True
    assert surface_distances(pred, ref, (1, 1, 2)) == pytest.approx((5, 5, 5))


def test_symmetric_mean_weighs_voxels_and_asd_only_looks_from_the_prediction():
    pred, ref = np.zeros((2, 10, 3, 3), bool)
    pred[0, 1, 1] = True
    ref[[0, 4, 8], 1, 1] = True
    found = surface_distances(pred, ref, (1, 1, 1))
    assert found.asd_mm == 0
    assert found.assd_mm == pytest.approx((0 + 0 + 4 + 8) / 4)
    assert found.hd95_mm == pytest.approx(4 + 0.9 * 4)


def test_inside_of_a_lesion_is_no_surface():
    pred, ref = np.zeros((2, 9, 9, 9), bool)
    ref[1:8, 1:8, 1:8] = True
    pred[:] = ref
    pred[4, 4, 4] = False  # a hole: its six neighbours now lie on the surface, 2 voxels within
    assert surface_distances(ref, ref, (1, 1, 1)) == (0, 0, 0)
    assert surface_distances(pred, ref, (1, 1, 1)).asd_mm == pytest.approx(6 * 2 / (218 + 6))


def test_lesions_at_the_border_of_the_image_have_a_surface_there():
    pred, ref = np.zeros((2, 4, 4, 4), bool)
    pred[0:3], ref[:] = True, True
    assert surface_distances(pred, ref, (1, 1, 1)).hd95_mm == 1


def test_empty_masks():
    empty, full = np.zeros((4, 5, 13)), np.ones((4, 5, 13))
    corner_to_corner = np.linalg.norm([3 * 1, 4 * 1, 12 * 1])
    assert surface_distances(empty, empty, (1, 1, 1)) == (0, 0, 0)
    assert surface_distances(full, empty, (1, 1, 1)) == pytest.approx([corner_to_corner] * 3)
    assert surface_distances(empty, full, (1, 1, 1)) == pytest.approx([13] * 3)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@few
@given(masks, masks, spacings)
def test_distances_agree_with_monai(pred, ref, spacing_mm):
    batch = [torch.from_numpy(mask)[None, None] for mask in (pred, ref)]
    options = {"include_background": True, "spacing": spacing_mm}
    found = surface_distances(pred, ref, spacing_mm)
    hd95_mm = compute_hausdorff_distance(*batch, percentile=95, **options)
    asd_mm = compute_average_surface_distance(*batch, **options)
    assd_mm = compute_average_surface_distance(*batch, symmetric=True, **options)
    assert found.hd95_mm == pytest.approx(hd95_mm.item(), rel=1e-5, abs=1e-5)
    assert found.asd_mm == pytest.approx(asd_mm.item(), rel=1e-5, abs=1e-5)
    assert found.assd_mm == pytest.approx(assd_mm.item(), rel=1e-5, abs=1e-5)


@few
@given(masks, masks, spacings, st.permutations(range(3)), st.integers(0, 2))
def test_distances_do_not_care_for_orientation(pred, ref, spacing_mm, order, axis):
    turned = [np.flip(mask.transpose(order), axis) for mask in (pred, ref)]
    found = surface_distances(*turned, [spacing_mm[k] for k in order])
    assert found == pytest.approx(surface_distances(pred, ref, spacing_mm))


@pytest.mark.parametrize("spacing_mm", [(1, 1), (1, 1, 0), (1, 1, -1), (1, 1, np.nan)])
def test_impossible_voxels_are_refused(spacing_mm):
    with pytest.raises(ValueError, match="three positive numbers"):
        surface_distances(np.ones((2, 2, 2)), np.ones((2, 2, 2)), spacing_mm)


def test_masks_on_different_grids_are_refused():
    with pytest.raises(ValueError, match="different grids"):
        surface_distances(np.ones((2, 2, 2)), np.ones((2, 2, 3)), (1, 1, 1))
