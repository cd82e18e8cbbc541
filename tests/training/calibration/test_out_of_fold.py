"""Predictions of scans that a method has not learned from: which there are, and how they are kept.

Predictions of synthetic scans are tested with healthy scans.
"""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from cascade_bids.bids.scan import Scan
from cascade_bids.models.cases import Case, save_case
from cascade_bids.training.calibration.out_of_fold import (
    bring_to_flair,
    contrast_subsets,
    read_prediction,
    stack_channels,
    write_prediction,
)
from cascade_bids.training.recipes import RECIPES

from .simulated import simulate_prediction


def test_predictions_are_kept_as_they_are(tmp_path):
    one = replace(simulate_prediction(0.5, 0), voxel_mm3=2.25)
    write_prediction(one, tmp_path / "x" / "one.npz")
    back = read_prediction(tmp_path / "x" / "one.npz")
    np.testing.assert_array_equal(back.probability, one.probability)
    np.testing.assert_array_equal(back.lesions, one.lesions)
    assert back.voxel_mm3 == 2.25


def test_a_scan_is_predicted_with_fewer_contrasts_too():
    contrasts = ("T1w", "FLAIR", "T2w")
    subsets = contrast_subsets(contrasts, RECIPES["perceptrons"])
    assert subsets == [(), ("T1w",), ("T2w",), ("T1w", "T2w")]
    assert contrast_subsets(contrasts, RECIPES["valverde2017"]) == [()]
    assert contrast_subsets(("FLAIR",), RECIPES["perceptrons"]) == [()]


SHAPE = (16, 18, 14)
NETWORK = nib.affines.from_matvec(np.eye(3), (-8, -9, -7))


def make_case(folder, *, contrasts=("FLAIR",), reference=None, to_flair=None):
    """A box of a brain, whose lesions as given may lie on another grid."""
    images = np.random.default_rng(0).normal(size=(len(contrasts), *SHAPE)).astype(np.float32)
    everywhere = nib.Nifti1Image(np.ones(SHAPE, np.uint8), NETWORK)
    save_case(
        folder,
        [nib.Nifti1Image(image, NETWORK) for image in images],
        everywhere,
        everywhere,
        anatomy=None,
        reference=reference,
        to_flair=to_flair,
    )
    return Case(Scan("1", None, None), folder, contrasts)


def draw_blob():
    """Draw a probability that is highest in one voxel, off the middle."""
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - (6, 10, 5), axis=-1)
    return np.clip(0.9 - 0.2 * distance, 0, 1).astype(np.float32)


def test_on_the_same_grid_a_map_comes_back_as_it_was(tmp_path):
    probability = draw_blob()
    found = bring_to_flair(probability, make_case(tmp_path))
    np.testing.assert_allclose(found.probability, probability, atol=1e-6)
    assert found.lesions.all()
    assert found.voxel_mm3 == pytest.approx(1)


def test_a_map_comes_back_to_where_the_flair_lies(tmp_path):
    """On a FLAIR that lies elsewhere, with slices of 3 mm."""
    to_flair = nib.affines.from_matvec(np.eye(3), (5, -7, 11))
    thick = to_flair @ NETWORK @ np.diag([1.0, 1, 3, 1])
    lesions = np.zeros((16, 18, 5), np.uint8)
    lesions[6, 10, 1:3] = 1
    reference = nib.Nifti1Image(lesions, thick)
    probability = draw_blob()
    found = bring_to_flair(probability, make_case(tmp_path, reference=reference, to_flair=to_flair))
    assert found.probability.shape == lesions.shape
    np.testing.assert_array_equal(found.lesions, lesions > 0)
    assert found.voxel_mm3 == pytest.approx(3)
    np.testing.assert_allclose(found.probability, probability[:, :, ::3], atol=1e-5)


def test_half_a_voxel_away_neighbours_are_averaged(tmp_path):
    half = nib.affines.from_matvec(np.eye(3), (0.5, 0, 0))
    reference = nib.Nifti1Image(np.ones(SHAPE, np.uint8), half @ NETWORK)
    probability = draw_blob()
    found = bring_to_flair(probability, make_case(tmp_path, reference=reference)).probability
    expected = (probability[:-1] + probability[1:]) / 2
    np.testing.assert_allclose(found[:-1], expected, atol=1e-5)


def test_contrasts_that_a_scan_lacks_or_that_are_hidden_are_0(tmp_path):
    case = make_case(tmp_path, contrasts=("FLAIR", "T2w"))
    stacked = stack_channels(case, ("T1w", "T2w", "FLAIR"))
    assert not stacked[0].any()
    assert torch.equal(stacked[1:], case.channels.flip(0))
    hidden = stack_channels(case, ("T1w", "T2w", "FLAIR"), hidden=("T2w",))
    assert not hidden[:2].any()
    assert torch.equal(hidden[2], case.channels[0])
