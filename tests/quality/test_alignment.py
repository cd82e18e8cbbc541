import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cascade_bids.quality.alignment import measure_alignment, measure_match

few = settings(max_examples=25, derandomize=True, deadline=None)
BRAIN = np.ones((16, 16, 16), bool)


def draw(seed):
    """Draw smooth noise, as z-scores."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=BRAIN.shape), 1.5)
    return noise / noise.std()


def test_an_image_matches_itself_in_any_contrast_and_not_another():
    one, other = draw(0), draw(1)
    inverted = measure_match(one, -one, BRAIN)
    assert inverted == pytest.approx(2)
    assert measure_match(one, other, BRAIN) < 1.2
    assert measure_match(one, np.roll(-one, 4, axis=0), BRAIN) < 1.2


def test_the_match_is_the_same_from_both_sides():
    one = draw(0)
    other = one**2 + draw(1) / 4
    assert measure_match(one, other, BRAIN) == pytest.approx(measure_match(other, one, BRAIN))


@few
@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1),
    st.floats(0, 170),
    st.lists(st.floats(0.7, 1.4), min_size=3, max_size=3),
)
def test_rotation_and_stretch_are_those_of_the_affine(axis, degrees, lengths):
    turn = Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() @ np.diag(lengths)
    found = measure_alignment(affine, BRAIN, BRAIN)
    assert found["rotation"] == pytest.approx(degrees, abs=1e-3)
    assert found["stretch"] == pytest.approx(max(lengths) / min(lengths))
    assert found["dice"] == 1
