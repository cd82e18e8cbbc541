"""The curves of a training as table and picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

COLUMNS = ("epoch", "training_loss", "validation_loss", "seconds")


def write_curves(folder: Path, rows: Sequence[Sequence[str]], *, keep_last: bool = False) -> None:
    """Write ``curves.tsv`` and ``curves.png``.

    Parameters
    ----------
    folder
        Where.
    rows
        A row of `COLUMNS` for each epoch.
    keep_last
        Whether the last epoch is the one whose weights are kept, and not the best.
    """
    with (folder / "curves.tsv").open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    _draw(folder / "curves.png", rows, keep_last)


def _draw(path: Path, rows: Sequence[Sequence[str]], keep_last: bool) -> None:
    # The object interface needs no display and leaves no figure behind.
    from matplotlib.figure import Figure

    epochs, trained, validated, _ = (
        [float("nan" if value == "n/a" else value) for value in column]
        for column in zip(*rows, strict=True)
    )
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs, trained, label="training", marker=".")
    if np.isfinite(validated).any():
        axes.plot(epochs, validated, label="validation", marker=".")
        kept = len(epochs) - 1 if keep_last else int(np.nanargmin(validated))
        axes.plot(epochs[kept], validated[kept], "o", mfc="none", ms=10, color="C1", label="kept")
    axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=100)
