"""Whether runs survive ``kill -9``: the same command again ends as if nothing had happened.

Usage: python benchmarks/kills.py BIDS_DIR FOLDER [--kills 25] [--seed 0] [options of cascade-bids]

Each time, the participant level is killed at a random moment of its duration, and the same command
is given again with the same work folder. A kill is survived if all processes ended with the run, if
what it left was no mixture of two results, and if all files have in the end the bytes of an
undisturbed run, those of logs/ aside. Every second run is one over a complete result with another
seed. Small heads and a small method make many kills cheap: see tests/test_kills.py.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

LONGEST_END_S = 10
"""Time that processes have to end after the run."""


def start(bids: Path, out: Path, work: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the participant level."""
    program = [sys.executable, "-m", "cascade_bids", bids, out, "participant", "-w", work]
    return subprocess.Popen([*program, *options], stdout=subprocess.DEVNULL)


def complete(bids: Path, out: Path, work: Path, options: Sequence[str]) -> float:
    """Run the participant level; return its duration in s."""
    began = time.monotonic()
    code = start(bids, out, work, options).wait()
    if code != 0:
        raise SystemExit(f"{out}: exit code {code}")
    return time.monotonic() - began


def read(out: Path) -> dict[str, bytes]:
    """Return the content of each file of the derivatives but the logs."""
    paths = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    return {str(p): (out / p).read_bytes() for p in paths if p.parts[0] != "logs"}


def kill(run: subprocess.Popen[bytes], after_s: float) -> list[psutil.Process] | None:
    """Kill a run; return the processes that outlive it, or None if it had ended before."""
    time.sleep(after_s)
    if run.poll() is not None:
        return None
    processes = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    return psutil.wait_procs(processes, timeout=LONGEST_END_S)[1]


def find_mixture(out: Path, whole: Sequence[dict[str, bytes]]) -> list[str]:
    """Return the names of statistics beside which lie files of another run."""
    left, mixed = read(out), []
    for name in (name for name in left if name.endswith("_stats.json")):
        seed = json.loads(left[name])["random_seed"]
        own = next(one for one in whole if json.loads(one[name])["random_seed"] == seed)
        scan = name.rsplit("_desc-", 1)[0].rsplit("/", 1)[-1]
        mixed += [
            f for f in left if f.rsplit("/", 1)[-1].startswith(f"{scan}_") and left[f] != own.get(f)
        ]
    return mixed


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill runs, print what became of each, and return 0 if all were survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("folder", type=Path, help="new, for all that is written")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given, options = parser.parse_known_args(arguments)
    folder = given.folder
    rng = random.Random(given.seed)
    undisturbed, earlier = folder / "undisturbed", folder / "earlier"
    complete(given.bids_dir, earlier, folder / "work-earlier", [*options, "--random-seed", "1"])
    duration = complete(given.bids_dir, undisturbed, folder / "work", options)
    whole = [read(undisturbed), read(earlier)]
    survived = 0
    for number in range(given.kills):
        out, work = folder / f"killed-{number + 1}", folder / f"work-{number + 1}"
        if number % 2:
            shutil.copytree(earlier, out)
        moment, outlived = rng.uniform(0, duration), None
        while outlived is None:  # a run that ended before was not killed
            shutil.rmtree(work, ignore_errors=True)
            outlived = kill(start(given.bids_dir, out, work, options), moment)
            moment *= 1 if outlived is not None else 0.8
        faults = [f"outlived by {process}" for process in outlived]
        faults += [f"{name} is of another run" for name in find_mixture(out, whole)]
        complete(given.bids_dir, out, work, options)
        again = read(out)
        faults += [
            f"{name} differs"
            for name in sorted(again.keys() | whole[0].keys())
            if again.get(name) != whole[0].get(name)
        ]
        survived += not faults
        print(f"killed after {moment:.1f} of {duration:.1f} s: {'; '.join(faults) or 'survived'}")
        if not faults:
            shutil.rmtree(out)
            shutil.rmtree(work)
    print(f"kills survived: {survived} of {given.kills}")
    return 0 if survived == given.kills else 1


if __name__ == "__main__":
    sys.exit(main())
