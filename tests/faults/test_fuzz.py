"""Random damage ends as the documentation says: no traceback, no load that is not a number."""

from pathlib import Path

import pytest

from .fuzz import check_header, check_tree

pytestmark = pytest.mark.slow

CASES = 100
"""Of each kind: two minutes for both together."""


@pytest.mark.parametrize("number", range(CASES))
def test_damaged_header(number: int, tmp_path: Path) -> None:
    check_header(number, tmp_path)


@pytest.mark.parametrize("number", range(CASES))
def test_damaged_tree(number: int, tmp_path: Path) -> None:
    check_tree(number, tmp_path)
