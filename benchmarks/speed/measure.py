"""What a command costs: processor time, wall time and memory of its whole process tree."""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
"""Of the repository."""

REAPER = Path(__file__).with_name("reap.py")
"""Runs a command, and sums the processor time of all its processes."""

PERIOD_S = 0.25
"""Seconds between two readings of the memory."""

FEWEST = 4
"""Readings that a peak needs."""


class CommandError(RuntimeError):
    """A command that was measured failed."""


@dataclass(frozen=True)
class Cost:
    """Cost of one run of a command."""

    cpu_s: float
    """Processor time in user and system mode, of the process and of all its children, s."""
    wall_s: float
    """Wall time, s."""
    memory_gb: float
    """Largest sum of the proportional set sizes of all its processes, GB; NaN when the run was too
    short to be sampled."""
    found: Mapping[str, Any] = field(default_factory=dict)
    """What a probe printed besides."""


def run_command(
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    allowed: Sequence[int] = (0,),
    output: Path | None = None,
) -> Cost:
    """Run a command and measure what it costs.

    Parameters
    ----------
    command
        Program and arguments.
    cwd
        Folder that it runs in.
    env
        Its environment; that of this process when None.
    allowed
        Exit codes that are no failure.
    output
        Takes its standard output; dropped when None.

    Returns
    -------
    Cost
        Of all processes that it started; the wall time is that of the first alone.

    Raises
    ------
    CommandError
        When it ends with another exit code; the message has the end of its messages.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result, log = folder / "result.json", folder / "log"
        reaper = [sys.executable, "-IS", str(REAPER), str(result), *map(str, command)]
        with log.open("wb") as errors, (output or Path(os.devnull)).open("wb") as out:
            process = subprocess.Popen(
                reaper, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
            peak = 0
            while process.poll() is None:
                peak = max(peak, _memory(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PERIOD_S)
        last = " | ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
        if not result.exists():
            raise CommandError(f"not measured: {last}")
        found = json.loads(result.read_text())
    if found["code"] not in allowed:
        raise CommandError(f"exit code {found['code']}: {last}")
    wall = found["wall_s"]
    return Cost(found["cpu_s"], wall, peak / 1e9 if wall > FEWEST * PERIOD_S else math.nan)


def run_probe(
    name: str,
    *arguments: str | Path,
    threads: int | None = None,
    paths: Sequence[Path] = (),
) -> Cost:
    """Run a module of `benchmarks.speed.probes` in a process of its own.

    Parameters
    ----------
    name
        Of the module. It prints JSON with ``cpu_s`` and ``wall_s`` of what it timed, imports
        excluded, and whatever else it found.
    *arguments
        Passed to it.
    threads
        Of the libraries; what they take by themselves when None.
    paths
        Folders of further packages.

    Returns
    -------
    Cost
        Of what it timed; the memory is that of the whole process.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *paths]))}
    if threads:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
        env |= dict.fromkeys(names, str(threads))
    with tempfile.NamedTemporaryFile() as printed:
        module = f"benchmarks.speed.probes.{name}"
        command = [sys.executable, "-m", module, *map(str, arguments)]
        cost = run_command(command, env=env, output=Path(printed.name))
        found = json.loads(printed.read().decode().splitlines()[-1])
    return replace(cost, cpu_s=found.pop("cpu_s"), wall_s=found.pop("wall_s"), found=found)


def measure_in_turn(
    variants: Mapping[str, Callable[[], Cost]], repeats: int
) -> dict[str, list[Cost]]:
    """Measure variants in turn (A B A B …), so that a drift of the machine meets all of them.

    Parameters
    ----------
    variants
        Name to what runs and measures it.
    repeats
        Rounds.

    Returns
    -------
    dict
        Name to the cost in each round.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in variants}
    for number in range(repeats):
        for name, measure in variants.items():
            cost = measure()
            costs[name].append(cost)
            print(
                f"  {name}, {number + 1} of {repeats}: {cost.cpu_s:.2f} s CPU, "
                f"{cost.wall_s:.2f} s wall, {cost.memory_gb:.2f} GB",
                flush=True,
            )
    return costs


def _memory(pid: int) -> int:
    """Return the proportional set size of all that a process started, bytes; 0 at its end."""
    try:
        processes = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return 0
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total
