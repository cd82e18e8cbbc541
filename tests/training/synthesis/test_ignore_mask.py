"""What may be a lesion in scans that nobody labelled, and so is ignored."""

import numpy as np
import pytest

from cascade_bids.models.network import LesionMaps
from cascade_bids.training.synthesis import ignore_mask
from cascade_bids.training.synthesis.ignore_mask import (
    LIKELY_ABOVE,
    MANY_ML,
    MARGIN_MM,
    find_ignore_mask,
    find_ignore_masks,
)

from ..tiny_anatomy import SHAPE


def find(scanned, probability):
    case = scanned.case
    return find_ignore_mask(probability, np.asarray(case.brain), case.coordinates)


def test_a_method_finds_once_what_is_ignored(scanned, tmp_path, monkeypatch):
    probability = np.zeros(SHAPE, np.float32)
    probability[25, 22, 18], probability[30, 22, 18] = LIKELY_ABOVE + 0.01, LIKELY_ABOVE - 0.01
    predicted = []

    def predict(stages, volume, combination):
        predicted.append(volume)
        return LesionMaps(probability)

    monkeypatch.setattr(ignore_mask, "predict_stages", predict)
    contrasts = ("FLAIR", "T2w", "T1w")
    for _ in range(2):  # the second time it is there already
        (found,) = find_ignore_masks([scanned], [], contrasts, "mean", tmp_path / "found")
    (volume,) = predicted
    assert not volume.channels[1].any()
    np.testing.assert_array_equal(volume.channels[[0, 2]], scanned.case.channels)
    np.testing.assert_array_equal(volume.flair, scanned.case.flair)
    np.testing.assert_array_equal(volume.coordinates, scanned.case.coordinates)
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - (25, 22, 18), axis=-1)
    expected = (distance <= MARGIN_MM) & scanned.case.brain
    np.testing.assert_array_equal(np.load(found.ignore_mask), expected)


@pytest.mark.parametrize(("across", "ignored"), [(0.0, True), (0.3, True), (0.6, False)])
def test_what_is_alike_on_both_sides_is_not_ignored(scanned, across, ignored):
    """The two spots lie across from each other, but one is 2 mm farther back."""
    probability = np.zeros(SHAPE, np.float32)
    left, right = (28, 22, 18), (SHAPE[0] - 1 - 28, 24, 18)
    probability[left], probability[right] = 0.8, across
    found = find(scanned, probability)
    assert found[left] == ignored
    assert not found[right]


def test_in_the_middle_of_the_head_sides_are_not_compared(scanned):
    probability = np.zeros(SHAPE, np.float32)
    probability[18:22, 20:23, 16:19] = 0.8
    assert find(scanned, probability)[probability > 0].all()


def test_of_many_lesions_all_are_ignored(scanned):
    brain = np.asarray(scanned.case.brain)
    assert brain.sum() > 1000 * MANY_ML
    np.testing.assert_array_equal(find(scanned, brain.astype(np.float32)), brain)


@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_where_all_is_alike_or_unlikely_nothing_is_ignored(scanned, probability):
    maps = np.zeros(SHAPE, np.float32)
    maps[[8, SHAPE[0] - 1 - 8], 20:24, 16:20] = probability
    assert not find(scanned, maps).any()
