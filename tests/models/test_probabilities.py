"""Maps of stages are combined, calibrated, and adapted to how common lesions are in a scan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bids.models.probabilities import LOWEST, adapt_prior, combine, scale_temperature

repeatable = settings(deadline=None, derandomize=True)


def test_most_of_the_votes_decide():
    maps = [np.array([[[0.9, 0.9, 0.2]]], np.float32), np.array([[[0.6, 0.1, 0.4]]], np.float32)]
    maps.append(np.array([[[0.1, 0.3, 1.0]]], np.float32))
    voted = combine(maps, "vote")
    assert voted.dtype == np.float32
    assert ((voted > 0.5) == (np.sum(np.array(maps) > 0.5, axis=0) >= 2)).all()
    np.testing.assert_allclose(combine(maps, "product"), maps[0] * maps[1] * maps[2])
    np.testing.assert_array_equal(combine(maps, "last"), maps[2])


def test_the_mean_is_that_of_the_log_odds():
    odds = np.array([[1, 9, 3, 0, 4], [1, 1, 27, 5, np.inf]], np.float64)
    with np.errstate(invalid="ignore"):
        maps = [np.where(np.isinf(one), 1, one / (1 + one)).astype(np.float32) for one in odds]
    found = combine(maps, "mean")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:3], [0.5, 0.75, 0.9], rtol=1e-5)
    # What one stage rules out is ruled out; what one is sure of, the other may still lower.
    assert found[3] == 0
    assert 0.9 < found[4] < 1
    np.testing.assert_array_equal(combine(maps[:1], "mean"), maps[0])


@repeatable
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), st.floats(0.2, 5))
def test_a_temperature_divides_the_logits(values, temperature):
    probability = np.array(values, np.float32)
    scaled = scale_temperature(probability, temperature)
    assert scaled.dtype == np.float32
    certain = (probability == 0) | (probability == 1)
    np.testing.assert_array_equal(scaled[certain], probability[certain])
    assert (np.diff(scaled[np.argsort(probability)]) >= 0).all()
    odds = probability[~certain] / (1 - probability[~certain].astype(np.float64))
    expected = odds ** (1 / temperature) / (1 + odds ** (1 / temperature))
    np.testing.assert_allclose(scaled[~certain], expected, rtol=1e-3, atol=1e-6)


def test_a_temperature_of_1_changes_no_bit():
    probability = np.random.default_rng(0).random(100).astype(np.float32)
    assert scale_temperature(probability, 1.0) is probability


def classify(part, size=20_000):
    """Predict lesions by a noisy mark, as if every second voxel were one."""
    rng = np.random.default_rng(0)
    lesion = rng.random(size) < part
    mark = rng.normal(size=size) + 3 * lesion
    return 1 / (1 + np.exp(-(3 * mark - 4.5))), lesion


@pytest.mark.parametrize("part", [0.2, 0.3, 0.5, 0.9])
def test_the_load_is_right_whatever_was_expected(part):
    predicted, lesion = classify(part)
    adapted = adapt_prior(predicted, 0.5)
    assert adapted.mean() == pytest.approx(lesion.mean(), abs=0.01)
    np.testing.assert_array_equal(np.argsort(adapted), np.argsort(predicted))


def test_where_nothing_is_sure_lesions_are_rare_but_not_impossible():
    adapted = adapt_prior(np.full(1000, 0.2), 0.5)
    assert 0.5 * LOWEST * 0.25 < adapted.mean() < 0.06


@repeatable
@given(
    st.lists(st.floats(0.001, 0.999), max_size=30),
    st.floats(0.01, 0.99),
)
def test_adapted_probabilities_stay_probabilities_and_in_order(values, prior):
    predicted = np.array(values, np.float32)
    adapted = adapt_prior(predicted, prior)
    assert adapted.shape == predicted.shape
    assert adapted.dtype == predicted.dtype
    assert ((adapted >= 0) & (adapted <= 1)).all()
    assert (np.diff(adapted[np.argsort(predicted)]) >= 0).all()
