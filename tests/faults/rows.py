"""What a row of the table of faults is, and how it is run and judged.

The table is spread over the files ``test_*.py`` of this folder, by theme; each has ``ROWS``.
"""

import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import pytest

from ..models.toy_method import save_toy
from ..tiny_heads import METHOD, Run, assert_tidy, call, contents, stats
from .heads import Case, make_tiny, quick

NEVER = re.compile(r"Traceback \(most recent call last\)|please report it")
"""What no message to a user may hold."""


class Undisturbed(NamedTuple):
    """What the head gives that nobody spoilt."""

    load_ml: float
    told: frozenset[str]


class Ends(Protocol):
    """How a row must end."""

    labels: tuple[str, ...]
    """Participants of the dataset."""

    def check(self, case: Case, done: Run, undisturbed: Undisturbed) -> None: ...


@dataclass(frozen=True)
class Right:
    """Complete with the load of the undisturbed head; nothing is told but what matches words."""

    words: tuple[str, ...] = ()
    within: float = 0.05
    label: str = "sub-01"
    labels: tuple[str, ...] = ("sub-01",)

    def check(self, case: Case, done: Run, undisturbed: Undisturbed) -> None:
        assert done.code == 0, done.text
        assert_load(case, self.label, undisturbed, self.within)
        said = told(case, self.label) - undisturbed.told
        assert_holds(self.words, " ".join(said))
        odd = [text for text in said if not any(re.search(word, text) for word in self.words)]
        assert not odd, odd


@dataclass(frozen=True)
class Told:
    """Complete, and a warning or a reason of the verdict matches each of the words."""

    words: tuple[str, ...]
    labels: tuple[str, ...] = ("sub-01",)

    def check(self, case: Case, done: Run, undisturbed: Undisturbed) -> None:
        assert done.code == 0, done.text
        said = " ".join(told(case, "sub-01") - undisturbed.told)
        assert_holds(self.words, said)
        page = (case.out / "sub-01.html").read_text()
        assert_holds(self.words, page)
        if verdict(case, "sub-01") != "pass":
            assert_holds(self.words, done.text)


@dataclass(frozen=True)
class Named:
    """The scan fails, the words tell which file, what and what to do; sub-02 is complete."""

    words: tuple[str, ...]
    label: str = "sub-01"
    labels: tuple[str, ...] = ("sub-01", "sub-02")

    def check(self, case: Case, done: Run, undisturbed: Undisturbed) -> None:
        assert done.code == 1, done.text
        said = [line for line in done.text.splitlines() if line.startswith(f"{self.label} failed")]
        assert len(said) == 1, done.text
        assert_holds(self.words, said[0])
        assert stats(case.out, self.label) is None
        assert_load(case, "sub-02", undisturbed, 0.05)


@dataclass(frozen=True)
class Refused:
    """The run does not start; the words tell which file or folder, what and what to do."""

    code: int
    words: tuple[str, ...]
    labels: tuple[str, ...] = ("sub-01",)

    def check(self, case: Case, done: Run, undisturbed: Undisturbed) -> None:
        assert done.code == self.code, done.text
        assert_holds(self.words, done.text)


@dataclass(frozen=True)
class Summed:
    """The group level ends with this code, its table has these participants and it says words."""

    code: int
    participants: tuple[str, ...]
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def check(self, case: Case, done: Run, undisturbed: Undisturbed) -> None:
        assert done.code == self.code, done.text
        table = pd.read_csv(case.out / "lesions.tsv", sep="\t")
        assert tuple(table["participant_id"]) == self.participants
        assert np.isfinite(table["load_ml"]).all()
        page = (case.out / "group.html").read_text()
        shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        assert_holds(self.words, shown)


def run_participants(case: Case, options: tuple[object, ...]) -> Run:
    return call(case.out, case.bids, case.out, "participant", "--nprocs", 1, *options)


def run_group(case: Case, options: tuple[object, ...]) -> Run:
    return call(case.out, case.bids, case.out, "group", *options)


@dataclass(frozen=True)
class Row:
    """One odd or damaged input, and what must happen."""

    name: str
    spoil: Callable[[Case], object]
    """Writes or changes the dataset."""
    ends: Ends
    options: Callable[[Case], tuple[object, ...]] = lambda case: ()
    contrasts: tuple[str, ...] = ("FLAIR",)
    """With T1w, the method needs both."""
    world: np.ndarray = field(default_factory=lambda: np.eye(4))
    """(4, 4) how the head lies against the template, which tiny heads do not register."""
    run: Callable[[Case, tuple[object, ...]], Run] = run_participants
    during: Callable[[Case], AbstractContextManager[object]] = lambda case: contextlib.nullcontext()
    """What is so while the program runs."""
    also: Callable[[Case, Run], None] = lambda case, done: None
    """What must hold as well."""
    tiny: bool = True
    """Whether tiny heads can show it."""
    full: bool = False
    """Whether a head of full size and the default method can show more (``make faults``)."""


def parametrize(rows: list[Row]) -> pytest.MarkDecorator:
    """Return the mark of a test that takes each row that tiny heads can show."""
    tiny = [row for row in rows if row.tiny]
    return pytest.mark.parametrize("row", tiny, ids=[row.name for row in tiny])


def check_tiny(row: Row, folder: Path) -> None:
    """Run a row on tiny heads, with stand-ins for networks and registration, and judge it."""
    undisturbed = measure_tiny(row.contrasts)
    case = make_tiny(folder / "row", row.ends.labels, row.contrasts)
    with quick(row.world):
        judge(row, case, tiny_method(row.contrasts, folder), undisturbed)


@cache
def measure_tiny(contrasts: tuple[str, ...]) -> Undisturbed:
    """Run the program on a tiny head that nobody spoilt."""
    with tempfile.TemporaryDirectory() as name, quick():
        case = make_tiny(Path(name) / "row", ("sub-01",), contrasts)
        return measure(case, tiny_method(contrasts, Path(name)))


def measure(case: Case, method: tuple[object, ...]) -> Undisturbed:
    """Run the program on a head that nobody spoilt."""
    done = run_participants(case, method)
    found = stats(case.out, "sub-01")
    assert found is not None, done.text
    return Undisturbed(found["load_ml"], told(case, "sub-01"))


def tiny_method(contrasts: tuple[str, ...], folder: Path) -> tuple[object, ...]:
    return METHOD if "T1w" in contrasts else ("--method", save_toy(folder / "toy"))


def judge(row: Row, case: Case, method: tuple[object, ...], undisturbed: Undisturbed) -> None:
    """Spoil a sound dataset, run the program, and check what came of it."""
    row.spoil(case)
    before = contents(case.bids) if case.bids.is_dir() else {}
    with row.during(case), _logged() as logged:
        options = () if row.run is run_group else method
        done = row.run(case, (*options, *row.options(case)))
    done = done._replace(text="\n".join([done.text, *logged]))
    assert not NEVER.search(done.text), done.text
    for page in _pages(case.out):
        assert not NEVER.search(page)
    row.ends.check(case, done, undisturbed)
    row.also(case, done)
    assert before == (contents(case.bids) if case.bids.is_dir() else {}), "the input was written to"
    if (case.out / ".bidsignore").exists():
        assert_tidy(case.out)


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the warnings that the command line prints."""
    handler, messages = logging.Handler(logging.WARNING), []
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("cascade_bids")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def told(case: Case, label: str) -> frozenset[str]:
    """Return the warnings of a scan and the reasons of its verdict, as the report shows them."""
    found = stats(case.out, label)
    assert found is not None
    return frozenset([*found["warnings"], *found["quality"]["reasons"]])


def verdict(case: Case, label: str) -> str:
    found = stats(case.out, label)
    assert found is not None
    return str(found["quality"]["verdict"])


def assert_load(case: Case, label: str, undisturbed: Undisturbed, within: float) -> None:
    found = stats(case.out, label)
    assert found is not None, f"{label} has no statistics"
    load = found["load_ml"]
    assert load == pytest.approx(undisturbed.load_ml, rel=within), f"{load} ml"


def assert_holds(words: tuple[str, ...], text: str) -> None:
    """Each of the words, which are regular expressions, is in the text."""
    missing = [word for word in words if not re.search(word, text)]
    assert not missing, f"{missing} not in: {text}"


def _pages(out: Path) -> Iterator[str]:
    if out.is_dir():
        yield from (page.read_text() for page in out.glob("*.html"))
