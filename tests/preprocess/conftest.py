"""One head in two contrasts, for the tests of registration and resampling."""

import pytest

from cascade_bids.phantom import make_head


@pytest.fixture(scope="module")
def flair():
    return make_head(4, spacing_mm=(2, 2, 4), contrast="FLAIR")


@pytest.fixture(scope="module")
def t1w():
    """Of the same head in the same pose as the FLAIR."""
    return make_head(4, spacing_mm=(3, 3, 3), contrast="T1w")
