"""Odd inputs of full size with the default method, and an hour of random damage: make faults."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from cascade_bids.phantom import write_phantom

from ..faults import (
    test_files,
    test_groups,
    test_headers,
    test_names,
    test_trees,
    test_voxels,
)
from ..faults.fuzz import check_header, check_tree
from ..faults.heads import MakeCase, make_phantoms
from ..faults.rows import Row, Undisturbed, judge, measure
from ..faults.test_fuzz import CASES

THEMES = (test_headers, test_voxels, test_files, test_names, test_trees, test_groups)
ROWS = [row for theme in THEMES for row in theme.ROWS if row.full]

HOUR = range(CASES, CASES + 3000)
"""Numbers of the cases of each kind that take an hour; those before are of ``make test-slow``."""


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> MakeCase:
    folder = tmp_path_factory.mktemp("phantom") / "bids"
    write_phantom(folder)
    return make_phantoms(folder)


@pytest.fixture(scope="session")
def undisturbed(
    make: MakeCase, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Undisturbed]:
    @cache
    def process(contrasts: tuple[str, ...]) -> Undisturbed:
        case = make(tmp_path_factory.mktemp("undisturbed") / "row", ("sub-01",), contrasts)
        return measure(case, ())

    return process


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_odd_input_of_full_size(
    row: Row,
    make: MakeCase,
    undisturbed: Callable[[tuple[str, ...]], Undisturbed],
    tmp_path: Path,
) -> None:
    case = make(tmp_path / "row", row.ends.labels, row.contrasts)
    judge(row, case, (), undisturbed(row.contrasts))


@pytest.mark.parametrize("number", HOUR)
def test_damaged_header(number: int, tmp_path: Path) -> None:
    check_header(number, tmp_path)


@pytest.mark.parametrize("number", HOUR)
def test_damaged_tree(number: int, tmp_path: Path) -> None:
    check_tree(number, tmp_path)
