"""Time and memory of one raw session, and dense against patch-by-patch evaluation.

Usage: python benchmarks/speed.py BIDS_DIR PARTICIPANT [SESSION]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from cascade_bids.models.architectures.patch_classifier import evaluate_dense, evaluate_patches
from cascade_bids.models.card import load_card
from cascade_bids.models.predict import load_stages

SIDE = 48
"""Voxels along each side of the volume on which both evaluations are timed."""


def run_session(bids_dir: Path, participant: str, session: str | None) -> tuple[float, float]:
    """Run one session from raw images to finished outputs; return seconds and peak memory in GB.

    Memory is the proportional set size of all processes of the run, sampled four times a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run.py", str(bids_dir), folder, "participant"]
        command += ["--participant-label", participant]
        command += ["--session-label", session] if session else []
        started = time.monotonic()
        run = psutil.Popen(command, stdout=subprocess.DEVNULL)
        peak = 0
        while run.poll() is None:
            peak = max(peak, _memory(run))
            time.sleep(0.25)
        if run.returncode:
            raise SystemExit(f"the run failed with exit code {run.returncode}")
        return time.monotonic() - started, peak / 1e9


def _memory(run: psutil.Popen) -> int:
    total = 0
    for process in [run, *run.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def time_evaluations() -> tuple[float, float]:
    """Measure the seconds of dense and of patch-by-patch evaluation of one network and volume."""
    network = load_stages(load_card("valverde2017"), device=torch.device("cpu"))[0].network
    volume = torch.randn(2, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    everywhere = np.ones((SIDE, SIDE, SIDE), dtype=bool)
    seconds, results = [], []
    for evaluate in (evaluate_dense, evaluate_patches):
        evaluate(network, volume[:, :16, :16, :16], everywhere[:16, :16, :16])
        started = time.monotonic()
        results.append(evaluate(network, volume, everywhere))
        seconds.append(time.monotonic() - started)
    print(f"largest difference between the two: {np.abs(results[0] - results[1]).max():.1e}")
    return seconds[0], seconds[1]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("participant")
    parser.add_argument("session", nargs="?")
    options = parser.parse_args()
    dense, patches = time_evaluations()
    print(
        f"{SIDE}³ voxels: dense {dense:.2f} s, patch by patch {patches:.1f} s, "
        f"{patches / dense:.0f} times faster"
    )
    seconds, peak = run_session(options.bids_dir, options.participant, options.session)
    print(f"raw session to finished outputs: {seconds:.0f} s, peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
