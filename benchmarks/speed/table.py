"""The table of all rows: what was measured, against which bar, and its files."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from benchmarks.speed.measure import Cost

QUANTITIES = {"cpu": "cpu_s", "wall": "wall_s", "memory": "memory_gb"}
"""What a ratio can be of, and its entry of `Cost`."""


@dataclass(frozen=True)
class Row:
    """One line of the table, as text; cells that do not apply are empty."""

    row: str
    """Name."""
    what: str
    """What is measured : what it is compared with."""
    ratio: str = ""
    """Median of the ratios of the pairs."""
    spread: str = ""
    """Lowest and highest of these ratios."""
    bar: str = ""
    """What the ratio must not exceed; with ≥ what it must reach."""
    met: str = "no bar"
    """``yes``, ``no``, ``no bar``, or ``skipped`` or ``failed`` with the reason."""
    cpu_s: str = ""
    """Median processor time."""
    base_cpu_s: str = ""
    wall_s: str = ""
    """Median wall time."""
    base_wall_s: str = ""
    memory_gb: str = ""
    """Median peak memory."""
    base_memory_gb: str = ""
    n: str = ""
    """Pairs."""
    build: str = ""
    """Commit of what is measured."""
    base: str = ""
    """Commit or name of what it is compared with."""
    notes: str = ""
    group: str = ""
    """The rows that are measured together, an argument of ``--only``."""


COLUMNS = [one.name for one in fields(Row)]


def paired_ratios(costs: Sequence[Cost], base: Sequence[Cost], of: str) -> list[float]:
    """Return the ratio of each pair of measurements, of ``cpu``, ``wall`` or ``memory``."""
    name = QUANTITIES[of]
    return [getattr(a, name) / getattr(b, name) for a, b in zip(costs, base, strict=True)]


def median_cost(costs: Sequence[Cost], of: str) -> float:
    """Return the median of a quantity, s or GB."""
    return statistics.median(getattr(cost, QUANTITIES[of]) for cost in costs)


def compare(
    row: str,
    what: str,
    costs: Sequence[Cost],
    base_costs: Sequence[Cost],
    *,
    of: str,
    bar: float | None = None,
    build: str,
    base: str,
    notes: str = "",
) -> Row:
    """Make the row of paired measurements.

    Parameters
    ----------
    row, what
        As of `Row`.
    costs, base_costs
        What is measured, and what it is compared with, pair by pair.
    of
        What the ratio is of: ``cpu``, ``wall`` or ``memory``.
    bar
        What the median of the ratios must not exceed.
    build, base, notes
        As of `Row`.

    Returns
    -------
    Row
        With the medians of both.
    """
    ratios = paired_ratios(costs, base_costs, of)
    ratio = statistics.median(ratios)
    medians = {}
    for quantity, name in QUANTITIES.items():
        medians[name] = _show(median_cost(costs, quantity))
        medians[f"base_{name}"] = _show(median_cost(base_costs, quantity))
    return Row(
        row,
        f"{what} ({of})",
        ratio=_show(ratio),
        spread=f"{_show(min(ratios))} to {_show(max(ratios))}",
        bar="" if bar is None else f"{bar:g}",
        met="no bar" if bar is None else answer(ratio <= bar),
        n=str(len(ratios)),
        build=build,
        base=base,
        notes=notes,
        **medians,
    )


def answer(is_met: bool) -> str:
    """Return the word of the column ``met``."""
    return "yes" if is_met else "no"


def read_table(path: Path) -> pd.DataFrame:
    """Read the rows of earlier calls; none when the file is missing."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def replace_group(table: pd.DataFrame, group: str, rows: Sequence[Row]) -> pd.DataFrame:
    """Put rows in the place of all earlier rows of their group, or at the end."""
    new = pd.DataFrame([{**asdict(row), "group": group} for row in rows], columns=COLUMNS)
    is_old = (table["group"] == group).to_numpy()
    first = int(is_old.argmax()) if is_old.any() else len(table)
    before, after = table[:first], table[first:][~is_old[first:]]
    return pd.concat([before, new, after], ignore_index=True)


def to_markdown(table: pd.DataFrame) -> str:
    """Format a table for Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write the table as ``speed.tsv``, ``speed.md`` and, with its bars, ``speed.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "speed.tsv", sep="\t", index=False)
    (folder / "speed.md").write_text(to_markdown(table.drop(columns="group")), encoding="utf-8")
    draw(table, folder / "speed.png")


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the ratios as bars on a logarithmic axis, and what they must not exceed as marks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = table[(table["ratio"] != "") & ~table["bar"].str.startswith("≥")][::-1]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = {"yes": "#2a7f62", "no": "#c0392b"}
    axes.barh(
        shown["row"],
        shown["ratio"].astype(float),
        color=[colours.get(met, "#8a8a8a") for met in shown["met"]],
    )
    barred = shown[shown["bar"] != ""]
    axes.plot(barred["bar"].astype(float), barred["row"], "|", color="black", ms=14, mew=2)
    axes.set_xscale("log")
    axes.axvline(1, color="#8a8a8a", lw=0.8)
    axes.set_xlabel("ratio, lower is faster; green: bar (black mark) met, red: not, grey: no bar")
    figure.savefig(path, dpi=150)


def _show(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
