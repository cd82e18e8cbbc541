"""Rows of whole runs of the program: a session, a batch, a rerun, and how the cost grows."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from operator import methodcaller
from pathlib import Path

from benchmarks.speed.builds import Bench, Build, keep_run
from benchmarks.speed.datasets import copy_sessions, find_sessions, resample_in_plane
from benchmarks.speed.measure import Cost, measure_in_turn
from benchmarks.speed.table import Row, compare

SESSION = ("--participant-label", "04")
"""Of openms-raw: FLAIR, T1w and T2w of one session."""

PAIR = ("--participant-label", "01")
"""Of openms-raw: two sessions of one participant."""


def measure_session(bench: Bench) -> list[Row]:
    """Measure a raw session to finished outputs, beside the old build."""
    dataset = bench.dataset("openms-raw")
    costs = _compare_builds(bench, lambda build: run_fresh(bench, build, dataset, *SESSION))
    bars = {"cpu": 0.45, "wall": 0.5, "memory": 0.67}
    what = "raw session, FLAIR, T1w and T2w : old build"
    return [_of_builds(bench, f"session_{of}", what, costs, of, bar) for of, bar in bars.items()]


def measure_batch(bench: Bench) -> list[Row]:
    """Measure eight raw sessions in one call, beside the old build."""
    sessions = find_sessions(bench.dataset("openms-raw"))
    with temporary_folder(bench) as folder:
        dataset = copy_sessions([*sessions, *sessions], folder / "bids")
        costs = _compare_builds(bench, lambda build: run_fresh(bench, build, dataset))
    what = f"{2 * len(sessions)} raw sessions : old build"
    return [_of_builds(bench, "batch_wall", what, costs, "wall", 0.45)]


def measure_rerun(bench: Bench) -> list[Row]:
    """Measure a second call with the same work folder, beside the old build."""
    dataset = bench.dataset("openms-raw")
    scans = ("--participant-label", "01", "04")

    def rerun(build: Build) -> Cost:
        kept = keep_run(bench, build, "rerun", dataset, *scans)
        return build.run(dataset, kept / "out", "participant", *scans, "-w", kept / "work")

    for build in (bench.this, bench.old):
        rerun(build)  # what a first call leaves is made here, before any call counts
    costs = _compare_builds(bench, rerun)
    what = "second call on 3 scans with the same work folder : old build"
    return [_of_builds(bench, "rerun", what, costs, "wall", 0.4)]


def measure_startup(bench: Bench) -> list[Row]:
    """Measure what a call takes that does nothing, beside the old build."""
    rows = []
    for option in ("--help", "--version"):
        costs = _compare_builds(bench, methodcaller("run", option), times=5)
        name, what = f"startup_{option[2:]}", f"python run.py {option} : old build"
        rows.append(_of_builds(bench, name, what, costs, "wall"))
    return rows


def measure_voxels(bench: Bench) -> list[Row]:
    """Measure how the cost grows with the voxels of a slice."""
    session = find_sessions(bench.dataset("openms-raw"), "04")[0]
    with temporary_folder(bench) as folder:
        datasets = {
            f"{factor:g}x": resample_in_plane(session, factor, folder / f"{factor:g}")
            for factor in (1, 0.5, 2, 4)
        }
        variants = {
            name: partial(run_fresh, bench, bench.this, dataset)
            for name, dataset in datasets.items()
        }
        costs = measure_in_turn(variants, bench.repeats)
    what = "times the voxels in each slice of a raw session : once"
    return _of_growth(bench, "voxels", what, costs, "1x", "cpu", {"4x": 4.6})


def measure_scans(bench: Bench) -> list[Row]:
    """Measure how the wall time grows with the scans of a call."""
    session = find_sessions(bench.dataset("openms-raw"), "04")[0]
    with temporary_folder(bench) as folder:
        dataset = copy_sessions([session] * 8, folder / "bids")
        variants = {
            str(count): partial(
                run_fresh,
                bench,
                bench.this,
                dataset,
                "--participant-label",
                *map(str, range(1, count + 1)),
            )
            for count in (1, 2, 4, 8)
        }
        costs = measure_in_turn(variants, bench.repeats)
    what = "copies of a raw session : one"
    return _of_growth(bench, "scans", what, costs, "1", "wall", {"8": 8})


def measure_processes(bench: Bench) -> list[Row]:
    """Measure two scans with two processes, beside one."""
    session = find_sessions(bench.dataset("openms-raw"), "04")[0]
    with temporary_folder(bench) as folder:
        dataset = copy_sessions([session] * 2, folder / "bids")
        variants = {
            count: partial(run_fresh, bench, bench.this, dataset, "--nprocs", count)
            for count in ("1", "2")
        }
        costs = measure_in_turn(variants, bench.repeats)
    what = "processes (--nprocs) for two copies of a raw session : one"
    return _of_growth(bench, "processes", what, costs, "1", "wall", {})


def measure_longitudinal(bench: Bench) -> list[Row]:
    """Measure two sessions of a participant with their comparison, beside without."""
    dataset = bench.dataset("openms-raw")
    variants = {
        value: partial(run_fresh, bench, bench.this, dataset, *PAIR, "--longitudinal", value)
        for value in ("off", "on")
    }
    costs = measure_in_turn(variants, bench.repeats)
    what = "(--longitudinal), two raw sessions : off"
    return _of_growth(bench, "longitudinal", what, costs, "off", "cpu", {"on": 1.35})


def run_fresh(bench: Bench, build: Build, dataset: Path, *options: str) -> Cost:
    """Run a build on a dataset, with empty output and work folders that are removed after."""
    with temporary_folder(bench) as folder:
        out, work = folder / "out", folder / "work"
        return build.run(dataset, out, "participant", *options, "-w", work)


@contextmanager
def temporary_folder(bench: Bench) -> Iterator[Path]:
    """Provide an empty folder on the disk of all others."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        yield Path(folder)


def _compare_builds(
    bench: Bench, measure: Callable[[Build], Cost], *, times: int = 1
) -> dict[str, list[Cost]]:
    builds = (bench.this, bench.old)
    return measure_in_turn({b.name: partial(measure, b) for b in builds}, times * bench.repeats)


def _of_builds(
    bench: Bench,
    row: str,
    what: str,
    costs: Mapping[str, list[Cost]],
    of: str,
    bar: float | None = None,
) -> Row:
    return compare(
        row,
        what,
        costs["this"],
        costs["old"],
        of=of,
        bar=bar,
        build=bench.this.state,
        base=bench.old.state,
    )


def _of_growth(
    bench: Bench,
    group: str,
    what: str,
    costs: Mapping[str, list[Cost]],
    base: str,
    of: str,
    bars: Mapping[str, float],
) -> list[Row]:
    return [
        compare(
            f"{group}_{name}",
            f"{name.removesuffix('x')} {what}",
            found,
            costs[base],
            of=of,
            bar=bars.get(name),
            build=bench.this.state,
            base=bench.this.state,
            notes=f"{os.cpu_count()} cores",
        )
        for name, found in costs.items()
        if name != base
    ]
