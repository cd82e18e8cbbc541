"""Measure how fast the program is, in one table with a bar for each row.

Usage: python -m benchmarks.speed [--only ROW …] [--repeats N] [--old DIR] [--data DIR] [--out DIR]

Two things are measured in turn (A B A B …), and a row has the median of the ratios of the pairs.
The table is written after each group of rows, as speed.tsv, speed.md and speed.png; later calls
replace what they measure again. ``.bench`` keeps the old build, MindGlide, and outputs of whole
datasets.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.speed.builds import Bench, SkipError
from benchmarks.speed.measure import ROOT, CommandError
from benchmarks.speed.rows_masks import measure_masks, measure_precision
from benchmarks.speed.rows_others import measure_antspyx, measure_networks
from benchmarks.speed.rows_parts import measure_dense, measure_discovery, measure_gpu
from benchmarks.speed.rows_program import (
    measure_batch,
    measure_longitudinal,
    measure_processes,
    measure_rerun,
    measure_scans,
    measure_session,
    measure_startup,
    measure_voxels,
)
from benchmarks.speed.table import Row, read_table, replace_group, to_markdown, write_table

ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "session": measure_session,
    "batch": measure_batch,
    "antspyx": measure_antspyx,
    "networks": measure_networks,
    "voxels": measure_voxels,
    "scans": measure_scans,
    "processes": measure_processes,
    "longitudinal": measure_longitudinal,
    "startup": measure_startup,
    "rerun": measure_rerun,
    "discovery_one": partial(measure_discovery, which="one", bar=3),
    "discovery_all": partial(measure_discovery, which="all", bar=20),
    "gpu": measure_gpu,
    "masks": measure_masks,
    "precision": measure_precision,
    "dense": measure_dense,
}
"""What is measured together, and by which function."""


def measure_group(name: str, bench: Bench) -> list[Row]:
    """Measure the rows of a group; one that says why where that is impossible."""
    print(name, flush=True)
    try:
        return ROWS[name](bench)
    except SkipError as reason:
        return [Row(name, "", met=f"skipped: {reason}")]
    except CommandError as error:
        return [Row(name, "", met=f"failed: {error}".replace("\t", " "))]


def main() -> None:
    """Measure, print and write the table; exit with 1 when a row failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--repeats", type=int, default=3, help="pairs (default: %(default)s)")
    parser.add_argument("--old", type=Path, help="source tree to compare with")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / ".bench", help="default: .bench")
    options = parser.parse_args()
    folder = ROOT / ".bench"
    bench = Bench(options.repeats, options.data.resolve(), folder, options.out, options.old)
    table = read_table(options.out / "speed.tsv")
    for name in options.only:
        table = replace_group(table, name, measure_group(name, bench))
        write_table(table, options.out)
    print(to_markdown(table[["row", "what", "ratio", "spread", "bar", "met", "n"]]), end="")
    failed = table[table["group"].isin(options.only)]["met"].str.startswith("failed")
    raise SystemExit(bool(failed.any()))


if __name__ == "__main__":
    main()
