"""The folds of a cross-validation: who is left out, and what is kept of each."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cascade_bids.errors import UsageError
from cascade_bids.models.cases import Case


@dataclass(frozen=True)
class Fold:
    """Participants who are left out, and the others."""

    name: str
    """What progress calls it."""
    left_out: frozenset[str]
    """Participants, see `bids.scan.name_participant`."""
    tested: tuple[Case, ...]
    """Their scans."""
    learned: tuple[Case, ...]
    """The scans of the others."""
    folder: Path
    """Keeps its checkpoints, its weights and its out-of-fold predictions."""

    @property
    def synthetic(self) -> Path:
        """Folder of its predictions of synthetic scans."""
        return self.folder / "synthetic"

    @property
    def weights(self) -> Path:
        """Folder of its method's weights and card."""
        return self.folder / "weights"

    def prediction(self, case: Case, hidden: Sequence[str] = (), stage: int | None = None) -> Path:
        """Return the file of its prediction of a scan with some contrasts hidden.

        With `stage`, it is the prediction of the stages until this one.
        """
        without = f"_without-{'+'.join(hidden)}" if hidden else ""
        until = "" if stage is None else f"_stage-{stage}"
        return self.folder / "found" / case.source / f"{case.scan.label}{without}{until}.npz"


def split_cases(cases: Sequence[Case], folds: str, folder: Path) -> list[Fold]:
    """Split cases into the folds of `make_folds`, each with a folder of its own."""
    parted = make_folds({case.participant: case.source for case in cases}, folds)
    return [
        Fold(
            min(left_out) if len(left_out) == 1 else f"fold {number} of {len(parted)}",
            frozenset(left_out),
            tuple(case for case in cases if case.participant in left_out),
            tuple(case for case in cases if case.participant not in left_out),
            folder / _fold_name(left_out),
        )
        for number, left_out in enumerate(parted, start=1)
    ]


def make_folds(sources: Mapping[str, str], folds: str) -> list[set[str]]:
    """Share participants among folds; all scans of a participant stay together.

    Parameters
    ----------
    sources
        Each participant's dataset.
    folds
        ``loo``, ``source`` for all participants of a dataset at a time, or a number, of folds that
        share the participants of each dataset as evenly as possible.

    Returns
    -------
    list of set of str
        The participants of each fold.

    Raises
    ------
    UsageError
        When `folds` is none of these, or there are fewer participants or datasets than folds.

    Examples
    --------
    >>> [sorted(fold) for fold in make_folds({"a/1": "a", "a/2": "a", "b/1": "b"}, "2")]
    [['a/1', 'b/1'], ['a/2']]
    >>> [sorted(fold) for fold in make_folds({"a/1": "a", "a/2": "a", "b/1": "b"}, "source")]
    [['a/1', 'a/2'], ['b/1']]
    """
    if folds == "source":
        parted = [
            {name for name, of in sources.items() if of == one} for one in _unique(sources.values())
        ]
        if len(parted) < 2:
            raise UsageError("--folds source: there is one dataset; give several, or loo")
        return parted
    count = len(sources) if folds == "loo" else int(folds) if folds.isdecimal() else 0
    if not 2 <= count <= len(sources):
        raise UsageError(
            f"--folds {folds}: give loo, source, or a number from 2 to that of the participants "
            f"with a mask, which is {len(sources)}"
        )
    grouped = [p for one in _unique(sources.values()) for p, of in sources.items() if of == one]
    return [set(grouped[first::count]) for first in range(count)]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _fold_name(left_out: set[str]) -> str:
    """Return the name of a fold: its participants, or their hash where these are too many."""
    name = "+".join(sorted(left_out)).replace("/", "_")
    return name if len(name) <= 100 else hashlib.sha256(name.encode()).hexdigest()[:16]
