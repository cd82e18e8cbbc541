"""Probabilities are adapted to how common lesions are in a scan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_bids.network.prior import LOWEST, adapt_prior


def answers(part, size=20_000):
    """Say what a classifier makes of a noisy mark if it takes every second voxel for a lesion."""
    rng = np.random.default_rng(0)
    lesion = rng.random(size) < part
    mark = rng.normal(size=size) + 3 * lesion
    return 1 / (1 + np.exp(-(3 * mark - 4.5))), lesion


@pytest.mark.parametrize("part", [0.2, 0.3, 0.5, 0.9])
def test_the_load_is_right_whatever_was_expected(part):
    said, lesion = answers(part)
    adapted = adapt_prior(said, 0.5)
    assert adapted.mean() == pytest.approx(lesion.mean(), abs=0.01)
    np.testing.assert_array_equal(np.argsort(adapted), np.argsort(said))


def test_where_nothing_is_sure_lesions_are_rare_but_not_impossible():
    adapted = adapt_prior(np.full(1000, 0.2), 0.5)
    assert 0.5 * LOWEST * 0.25 < adapted.mean() < 0.06


@given(
    st.lists(st.floats(0.001, 0.999), max_size=30),
    st.floats(0.01, 0.99),
)
def test_probabilities_stay_probabilities_and_in_order(values, prior):
    said = np.array(values, np.float32)
    adapted = adapt_prior(said, prior)
    assert adapted.shape == said.shape
    assert adapted.dtype == said.dtype
    assert ((adapted >= 0) & (adapted <= 1)).all()
    assert (np.diff(adapted[np.argsort(said)]) >= 0).all()
