"""Measure what each step needs, and how well the steps of many scans fill a machine.

::

    python benchmarks/schedule.py measure BIDS_DIR --participant-label 01
    python benchmarks/schedule.py simulate

`measure` runs one participant, and prints the duration, CPU seconds and peak memory of each step
as TSV, from which the table in `cascade_bids.workflows.resources` is filled in.

`simulate` hands the real workflow of many scans to the real plugin, with a clock of its own: a step
ends when its duration in that table has passed, and nothing is computed. It prints how long the
machine would take, beside the two lower limits: the longest chain of one scan, and all work shared
among the cores.
"""

import argparse
import heapq
import logging
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype import Node

from cascade_bids.bids.scan import Scan
from cascade_bids.config import (
    InputConfig,
    MethodConfig,
    ParticipantConfig,
    PreprocessConfig,
    ResourceConfig,
)
from cascade_bids.models.card import Cards, load_card, load_model_card
from cascade_bids.workflows.plugin import Usage, WorkersPlugin
from cascade_bids.workflows.resources import find_need, share_cores
from cascade_bids.workflows.scan import init_participant_wf

USED = re.compile(r"(\S+) used ([\d.]+) s, ([\d.]+) CPU s, ([\d.]+) GB")

EFFICIENCY = 0.8
"""Assumed part of a further thread that makes a network faster."""


class SimulatedPlugin(WorkersPlugin):
    """Starts steps as the real plugin does, on a simulated clock."""

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args)
        self.clock = self.busy = self.peak_gb = 0.0
        self._ends: list[tuple[float, int, Future]] = []

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        self._taskid += 1
        cores = min(node.n_procs, self.processors)
        seconds = find_need(node.name).seconds / (1 + EFFICIENCY * (cores - 1))
        future: Future = Future()
        heapq.heappush(self._ends, (self.clock + seconds, self._taskid, future))
        self._running[self._taskid] = future, ThreadPoolExecutor(1)  # type: ignore[assignment]
        self.busy += cores * seconds
        return int(self._taskid)

    def _run_here(self, jobid: int, graph: Any) -> bool:
        if self.procs[jobid].run_without_submitting:
            self._task_finished_cb(jobid)
        return bool(self.procs[jobid].run_without_submitting)

    def _wait(self) -> None:
        running = [self.procs[jobid] for _, jobid in self.pending_tasks]
        self.peak_gb = max(self.peak_gb, sum(node.mem_gb for node in running))
        assert sum(min(node.n_procs, self.processors) for node in running) <= self.processors
        self.clock, _, future = heapq.heappop(self._ends)
        future.set_result(("step", None, Usage(0, 0, 0)))


def measure(arguments: list[str]) -> None:
    """Run one participant with one core, and print what each step used."""
    bids_dir, *options = arguments
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "cascade_bids", bids_dir, f"{folder}/out", "participant")
        done = subprocess.run(
            [*command, "-w", f"{folder}/work", "--nprocs", "1", "-vv", *options],
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
    print("scan", "step", "seconds", "cpu_seconds", "peak_gb", sep="\t")
    for name, *numbers in USED.findall(done.stderr):
        print(*name.split(".")[1:], *numbers, sep="\t")


def simulate(scans: int, cores: int, memory_gb: float, threads: int | None = None) -> None:
    """Print how long some scans take on a machine; `threads` of a step None as by default."""
    resources = ResourceConfig(nprocs=cores, omp_nthreads=threads or 0)
    threads = share_cores(resources, scans)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {contrast: folder / f"{contrast}.nii.gz" for contrast in ("FLAIR", "T1w")}
        for path in images.values():
            nib.Nifti1Image(np.zeros((256, 256, 128), np.uint8), np.eye(4)).to_filename(path)
        config = ParticipantConfig(
            folder / "out",
            InputConfig(folder),
            PreprocessConfig(),
            MethodConfig(),
            ResourceConfig(nprocs=cores, omp_nthreads=threads),
        )
        cards = Cards(load_card("ensemble"), load_model_card("brain"))
        listed = [Scan(f"{number:03}", None, None, images=images) for number in range(scans)]
        workflow = init_participant_wf(listed, config, cards)
        workflow.base_dir = name
        plugin = SimulatedPlugin(
            {"n_procs": cores, "memory_gb": memory_gb, "raise_insufficient": False}
        )
        start = time.process_time()
        workflow.run(plugin=plugin)
        spent = time.process_time() - start
    chain = max(plugin._way)
    print(
        *(scans, cores, memory_gb, threads, f"{plugin.clock:.0f}", f"{chain:.0f}"),
        f"{plugin.busy / cores:.0f}",
        f"{1 - plugin.busy / (plugin.clock * cores):.3f}",
        *(f"{plugin.peak_gb:.1f}", f"{spent:.1f}"),
        sep="\t",
        flush=True,
    )


def main() -> None:
    """Measure or simulate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("measure", "simulate"))
    options, rest = parser.parse_known_args()
    if options.what == "measure":
        measure(rest)
        return
    logging.disable(logging.INFO)
    columns = "scans cores memory_gb threads seconds chain work/cores idle peak_gb scheduler_cpu_s"
    print(*columns.split(), sep="\t")
    simulate(64, 64, 256)
    simulate(128, 64, 256)
    simulate(16, 2, 6)
    for scans in (1, 2, 8, 16):
        for threads in (1, 2):
            simulate(scans, 2, 20, threads)


if __name__ == "__main__":
    main()
