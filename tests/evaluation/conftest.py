"""Reference masks of three scans, and masks of a method beside them."""

import pytest

from .masks import make_mask, make_probability, put


@pytest.fixture
def reference(tmp_path):
    root = tmp_path / "manual"
    for k in (1, 2, 10):
        put(root, f"sub-{k}_label-lesion_mask", make_mask(k))
    return root


@pytest.fixture
def prediction(tmp_path):
    root = tmp_path / "method"
    for k in (1, 2, 10):
        image = make_mask(k, shift=1)
        put(root, f"sub-{k}_space-FLAIR_label-lesion_mask", image)
        put(root, f"sub-{k}_space-FLAIR_label-lesion_probseg", make_probability(image))
    return root
