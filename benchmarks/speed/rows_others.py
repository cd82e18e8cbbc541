"""Rows beside other programs: bare calls of antspyx, and the network of MindGlide."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.speed.builds import Bench
from benchmarks.speed.datasets import find_sessions
from benchmarks.speed.measure import Cost, measure_in_turn, run_probe
from benchmarks.speed.rows_parts import THREADS, find_brain
from benchmarks.speed.rows_program import SESSION, run_fresh
from benchmarks.speed.table import Row, compare

MINDGLIDE = "1.3.0"
"""Version on PyPI. Its network and windows are run by monai and torch of this environment."""


def measure_antspyx(bench: Bench) -> list[Row]:
    """Measure a whole session, beside the sum of antspyx's default calls on its images."""
    dataset = bench.dataset("openms-raw")
    session = find_sessions(dataset, "04")[0]
    variants = {
        "this": partial(run_fresh, bench, bench.this, dataset, *SESSION),
        "antspyx": partial(run_probe, "antspyx_calls", session, threads=THREADS),
    }
    costs = measure_in_turn(variants, bench.repeats)
    row = compare(
        "antspyx",
        "raw session : 3 N4, 2 rigid and 1 affine registration with antspyx's defaults",
        costs["this"],
        costs["antspyx"],
        of="cpu",
        bar=0.5,
        build=bench.this.state,
        base=f"antspyx {costs['antspyx'][0].found['antspyx']}",
        notes=f"antspyx: {THREADS} threads, imports excluded",
    )
    return [row]


def measure_networks(bench: Bench) -> list[Row]:
    """Measure the lesion networks, beside MindGlide's network with its own windows."""
    folder, package = find_brain(bench), install_mindglide(bench)
    variants = {
        "ensemble": partial(run_probe, "networks", folder, threads=THREADS),
        "mindglide": partial(
            run_probe, "mindglide_network", folder, threads=THREADS, paths=[package]
        ),
    }
    costs = measure_in_turn(variants, bench.repeats)
    row = compare(
        "networks",
        "lesion networks on 182 x 218 x 182 voxels, 3 contrasts : network of MindGlide, FLAIR",
        costs["ensemble"],
        costs["mindglide"],
        of="cpu",
        bar=0.2,
        build=bench.this.state,
        base=f"mindglide {MINDGLIDE}",
        notes=f"ensemble: {_describe(costs['ensemble'])}; mindglide: "
        f"{_describe(costs['mindglide'])}, random weights",
    )
    return [row]


def install_mindglide(bench: Bench) -> Path:
    """Install MindGlide without what it depends on, unless it is there; return its folder."""
    folder = bench.folder / f"mindglide-{MINDGLIDE}"
    if not (folder / "mindglide").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--target", str(folder), f"mindglide=={MINDGLIDE}"]
        subprocess.run(command, check=True)
    return folder


def _describe(costs: list[Cost]) -> str:
    return ", ".join(f"{name} {value}" for name, value in costs[0].found.items())
