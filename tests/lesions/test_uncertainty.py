"""Larger and surer lesions are likelier such, and the ends of the load enclose it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade_bids.lesions.uncertainty import lesion_confidence, load_interval_ml

WEIGHTS = (-3.0, 1.0, 0.5)


@given(
    highest=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    volumes=st.lists(st.floats(1, 1e5), min_size=2, max_size=2),
)
def test_confidence_rises_with_probability_and_volume(highest, volumes):
    low, high = lesion_confidence(np.sort(highest), np.sort(volumes), WEIGHTS)
    assert 0 <= low <= high <= 1


def test_confidence_is_the_logistic_of_its_features():
    found = lesion_confidence(np.array([0.5]), np.array([np.e**2]), WEIGHTS)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(2)))


def test_the_interval_is_the_load_at_both_thresholds():
    probability = np.zeros((12, 12, 12), np.float32)
    probability[2:6, 2:6, 2:6] = 0.4
    probability[3:5, 3:5, 3:5] = 0.9
    probability[9, 9, 9] = 0.95  # smaller than the smallest lesion
    found = load_interval_ml(probability, (0.8, 0.3), min_lesion_mm3=3, voxel_mm3=2.0)
    assert found == (8 * 2 / 1000, 64 * 2 / 1000)
