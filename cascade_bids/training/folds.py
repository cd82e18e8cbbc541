"""The folds of a cross-validation: who is left out, and what is kept of each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sklearn.model_selection import GroupKFold

from cascade_bids.errors import UsageError
from cascade_bids.models.cases import Case


@dataclass(frozen=True)
class Fold:
    """Participants who are left out, and the others."""

    name: str
    """What progress calls it."""
    left_out: frozenset[str]
    """Participants, without ``sub-``."""
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

    def prediction(self, case: Case, hidden: Sequence[str] = ()) -> Path:
        """Return the file of its prediction of a scan with some contrasts hidden."""
        name = f"{case.label}_without-{'+'.join(hidden)}" if hidden else case.label
        return self.folder / "found" / f"{name}.npz"


def split_cases(cases: Sequence[Case], folds: str, folder: Path) -> list[Fold]:
    """Split cases into the folds of `make_folds`, each with a folder of its own."""
    parted = make_folds([case.scan.subject for case in cases], folds)
    return [
        Fold(
            f"sub-{min(left_out)}" if len(left_out) == 1 else f"fold {number} of {len(parted)}",
            frozenset(left_out),
            tuple(case for case in cases if case.scan.subject in left_out),
            tuple(case for case in cases if case.scan.subject not in left_out),
            folder / _fold_name(left_out),
        )
        for number, left_out in enumerate(parted, start=1)
    ]


def make_folds(subjects: Sequence[str], folds: str) -> list[set[str]]:
    """Share participants among folds; all scans of a participant stay together.

    Parameters
    ----------
    subjects
        Participant of each scan.
    folds
        ``loo`` or a number.

    Returns
    -------
    list of set of str
        The participants of each fold.

    Raises
    ------
    UsageError
        When `folds` is neither, or there are fewer participants than folds.

    Examples
    --------
    >>> [sorted(fold) for fold in make_folds(["1", "1", "2", "3"], "2")]
    [['1', '3'], ['2']]
    """
    different = list(dict.fromkeys(subjects))
    count = len(different) if folds == "loo" else int(folds) if folds.isdecimal() else 0
    if not 2 <= count <= len(different):
        raise UsageError(
            f"--folds {folds}: give loo, or a number from 2 to that of the participants with a "
            f"mask, which is {len(different)}"
        )
    # A participant is one sample however many scans there are.
    parts = GroupKFold(count).split(different, groups=range(len(different)))
    order = sorted(sorted(numbers) for _, numbers in parts)
    return [{different[number] for number in numbers} for numbers in order]


def _fold_name(left_out: set[str]) -> str:
    """Return the name of a fold: its participants, or their hash where these are too many."""
    name = "-".join(sorted(left_out))
    return name if len(name) <= 100 else hashlib.sha256(name.encode()).hexdigest()[:16]
