"""Intensities mean the same whatever the scanner's gain and the mask's rim."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.normalise import normalise_intensity, spread_brain, tissue_mask

SHAPE = (24, 24, 24)
FLUID, TISSUE = 80.0, 400.0
few = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def scan():
    """A FLAIR of tissue with fluid around it: values, tissue and brain."""
    rng = np.random.default_rng(0)
    brain = np.zeros(SHAPE, bool)
    brain[2:22, 2:22, 2:22] = True
    tissue = np.zeros(SHAPE, bool)
    tissue[4:20, 4:20, 4:20] = True
    values = np.where(tissue, TISSUE, FLUID) + rng.normal(0, 20, SHAPE)
    return np.where(brain, values, 0), tissue, brain


def test_fluid_is_no_tissue(scan):
    values, tissue, brain = scan
    np.testing.assert_array_equal(tissue_mask(values, brain), tissue)


def test_scores_have_mean_0_and_spread_1(scan):
    values, tissue, brain = scan
    scores = normalise_intensity(values, tissue, brain)
    assert scores.dtype == np.float32
    assert not scores[~brain].any()
    low, high = np.percentile(scores[tissue], [2, 98])
    middle = scores[tissue & (scores >= low) & (scores <= high)]
    assert middle.mean() == pytest.approx(0, abs=1e-2)
    assert middle.std() == pytest.approx(1, abs=1e-2)
    # Known truth: noise of 20, cut at 2 % on both sides, has a deviation of 0.87 x 20.
    assert scores[brain & ~tissue].mean() == pytest.approx((FLUID - TISSUE) / 17.5, rel=0.05)


def test_a_few_bright_voxels_move_nothing(scan):
    values, tissue, brain = scan
    lesion = np.zeros(SHAPE, bool)
    lesion[6:9, 6:9, 6:9] = True  # 27 of 4096
    bright = np.where(lesion, 100_000, values)
    before, after = (normalise_intensity(v, tissue, brain) for v in (values, bright))
    np.testing.assert_allclose(
        after[brain & ~lesion], before[brain & ~lesion], atol=0.05, rtol=0.05
    )
    assert after[lesion].min() > 1000


def test_the_rim_of_the_mask_moves_nothing(scan):
    """One mask ends at the tissue, the other includes 20 mm³ of fluid for each 10 of tissue."""
    values, _, brain = scan
    tight = np.zeros(SHAPE, bool)
    tight[4:20, 4:20, 4:20] = True
    scores = [normalise_intensity(values, tissue_mask(values, m), m) for m in (tight, brain)]
    np.testing.assert_allclose(scores[0][tight], scores[1][tight], atol=1e-5)


@few
@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-1e4, 1e4))
def test_gain_and_offset_do_not_matter(scan, gain, offset):
    values, tissue, brain = scan
    scaled = normalise_intensity(gain * (values + offset), tissue, brain)
    np.testing.assert_allclose(scaled, normalise_intensity(values, tissue, brain), atol=1e-4)


@few
@given(gain=st.floats(1e-3, 1e4))
def test_gain_does_not_change_the_tissue(scan, gain):
    values, tissue, brain = scan
    np.testing.assert_array_equal(tissue_mask(gain * values, brain), tissue)


@few
@given(value=st.floats(-1e4, 1e4), size=st.integers(1, 12))
def test_a_constant_image_is_refused(value, size):
    brain = np.zeros((14, 14, 14), bool)
    brain[:size, :size, :size] = True
    values = np.where(brain, value, np.random.default_rng(0).normal(size=brain.shape))
    with pytest.raises(ScanError, match="constant inside the brain"):
        normalise_intensity(values, brain, brain)


def test_an_empty_mask_is_refused():
    nowhere = np.zeros((4, 4, 4), bool)
    values = np.random.default_rng(0).normal(size=nowhere.shape)
    assert not tissue_mask(values, nowhere).any()
    with pytest.raises(ScanError, match="constant inside the brain"):
        normalise_intensity(values, nowhere, nowhere)


@pytest.fixture
def ramp():
    """A brain whose values tell its voxels, in slices of 4 mm."""
    brain = np.zeros((8, 9, 6), np.uint8)
    brain[2:6, 3:7, 2:4] = 1
    values = np.where(brain, np.arange(1, brain.size + 1).reshape(brain.shape), 0)
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    return nib.Nifti1Image(values.astype(np.float32), affine), nib.Nifti1Image(brain, affine)


def test_beside_the_brain_lies_what_is_like_its_edge(ramp, reorient):
    image, brain = (reorient(one) for one in ramp)
    values, inside = np.asarray(image.dataobj), np.asarray(brain.dataobj) > 0
    spread = spread_brain({"FLAIR": image, "T1w": image}, brain)
    assert list(spread) == ["FLAIR", "T1w"]
    for one in spread.values():
        found = np.asarray(one.dataobj)
        np.testing.assert_array_equal(found[inside], values[inside])
        np.testing.assert_array_equal(one.affine, image.affine)
        assert set(np.unique(found)) == set(np.unique(values[inside]))


def test_the_nearest_voxel_is_so_in_mm(ramp):
    image, brain = ramp
    values = np.asarray(image.dataobj)
    found = np.asarray(spread_brain({"FLAIR": image}, brain)["FLAIR"].dataobj)
    assert (found[:3, 5, 3] == values[2, 5, 3]).all()
    assert found[7, 8, 5] == values[5, 6, 3]
    # Three voxels along the row are nearer than one slice.
    tower = np.asarray(brain.dataobj).copy()
    tower[7, 3, 1] = 1
    tall = nib.Nifti1Image(tower, brain.affine)
    marked = values.copy()
    marked[7, 3, 1] = -5
    found = np.asarray(
        spread_brain({"FLAIR": nib.Nifti1Image(marked, image.affine)}, tall)["FLAIR"].dataobj
    )
    assert found[4, 3, 1] == -5
    assert found[7, 3, 2] == values[5, 3, 2]
