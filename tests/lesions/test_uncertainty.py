"""Larger and surer lesions are likelier such, and the ends of the load enclose it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_bids.lesions.uncertainty import expected_error_ml, lesion_confidence, load_interval_ml

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


def test_the_expected_error_is_the_volume_on_the_wrong_side():
    probability = np.array([[[0.0, 1.0, 0.9, 0.2, 0.5]]])
    assert expected_error_ml(probability, 2.0) == pytest.approx((0.1 + 0.2 + 0.5) * 2 / 1000)


@given(load=st.floats(0, 100), error=st.floats(0, 20), factor=st.floats(0, 10))
def test_the_interval_holds_the_load_and_is_wider_the_less_sure(load, error, factor):
    low, high = load_interval_ml(load, error, factor)
    assert 0 <= low <= load <= high
    wider = load_interval_ml(load, error + 1, factor)
    assert wider[0] <= low
    assert wider[1] >= high
