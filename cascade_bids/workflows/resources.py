"""What each step needs of the machine: memory, threads and time, in one table."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes
from nipype import Node

from cascade_bids.config import ResourceConfig
from cascade_bids.errors import ScanError
from cascade_bids.models.device import FLOAT32, choose_precision, is_gpu_wanted
from cascade_bids.preprocess.load import read_grid
from cascade_bids.preprocess.masks import are_slices_thick


class Need(NamedTuple):
    """What a kind of step needs, as measured by `benchmarks/schedule.py`."""

    gb: float = 0.2
    """Peak memory beyond the preloaded libraries, without that of `gb_per_mvoxel`."""
    gb_per_mvoxel: float = 0
    """Further memory for each million voxels of the largest input image."""
    seconds: float = 1
    """Duration with one thread; only the proportions matter, to find the longest way."""
    threaded: bool = False
    """Whether the step can use several threads."""


NEEDS = {
    "conform": Need(0.02, 0.016, 0.2),
    "correct_bias": Need(0.03, 0.05, 4),
    "extract_brain": Need(0.55, 0.027, 4.2, threaded=True),
    "trim": Need(0.05, 0.052, 1),
    "register": Need(0.1, 0.01, 2.2),
    "align_to_template": Need(0.5, 0.01, 3.8),
    "prepare": Need(0.25, 0.03, 3.5),
    "measure_anatomy": Need(0.6, 0, 5),
    "find_lesions": Need(1.4, 0, 17, threaded=True),
    "resample": Need(0.1, 0.025, 0.8),
    "label": Need(0.03, 0.01, 0.3),
    "measure": Need(0.1, 0.01, 0.4),
    "register_ses": Need(0.3, 0.02, 6),
    "place_sessions": Need(0.2, 0.01, 0.5),
    "bring": Need(0.4, 0.02, 5),
    "compare_sessions": Need(0.6, 0.1, 8),
    "measure_quality": Need(0.2, 0.05, 0.8),
    "draw": Need(0.05, 0.01, 1.4),
    "save": Need(0.1, 0, 0.3),
    "merge": Need(0.01, 0, 0.1),
}
"""Kind of step, the start of its name, to what it needs; the longest start counts.

Measured by ``benchmarks/schedule.py measure``, `find_lesions` with the method ``ensemble``;
`measure_anatomy`, `measure_quality` and `trim` are estimates."""

COPIED_GB = 0.1
"""Memory of the preloaded libraries that a process copies since it writes to it."""

LIBRARIES_GB = 0.8
"""Memory of the process that starts the steps, and of the preloaded libraries."""

HERE = ("merge", "save_scan", "save_figure", "save_early_figure")
"""Kinds of steps that only merge or copy, for which a process of their own would cost more."""


def find_need(name: str) -> Need:
    """Return what a step needs, by its name.

    Examples
    --------
    >>> find_need("find_lesions").threaded
    True
    >>> find_need("unknown")
    Need(gb=0.2, gb_per_mvoxel=0, seconds=1, threaded=False)
    """
    kinds = [kind for kind in NEEDS if name.startswith(kind)]
    return NEEDS[max(kinds, key=len)] if kinds else Need()


def step(interface: Any, name: str, *, threads: int = 1, mvoxels: float = 0) -> Node:
    """Make the node of a step, with the memory and threads that it needs.

    Parameters
    ----------
    interface
        Interface of the step.
    name
        Name of the step, which starts with its kind.
    threads
        Number of threads of a step that can use several.
    mvoxels
        Millions of voxels of the largest input image, see `count_mvoxels`.

    Returns
    -------
    nipype.Node
        The node.
    """
    need = find_need(name)
    return Node(
        interface,
        name,
        mem_gb=COPIED_GB + need.gb + need.gb_per_mvoxel * mvoxels,
        n_procs=threads if need.threaded else 1,
        run_without_submitting=name.startswith(HERE),
    )


def count_mvoxels(paths: Iterable[Path]) -> float:
    """Return the millions of voxels of the largest of some images.

    Images that cannot be read count as empty: the step that reads them names the problem.
    """
    return max((math.prod(_read_grid(path)[0]) / 1e6 for path in paths), default=0)


def has_thick_slices(path: Path) -> bool:
    """Return whether an image has thick slices, see `preprocess.masks.are_slices_thick`."""
    return are_slices_thick(voxel_sizes(_read_grid(path)[1]))


def _read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    try:
        return read_grid(path)
    except ScanError:
        return (0,), np.eye(4)


def share_cores(resources: ResourceConfig, scans: int) -> int:
    """Return the threads of a step: those asked for, else the cores that each scan gets.

    Without a plugin they are at most the cores of the run.

    Parameters
    ----------
    resources
        Resources of the run.
    scans
        Number of scans of the run.

    Returns
    -------
    int
        At least 1.
    """
    if resources.plugin:  # each step may have a machine for itself
        return resources.omp_nthreads or resources.nprocs
    # A GPU holds one network at a time.
    sharing = 1 if is_gpu_wanted(resources.device) else max(1, scans)
    return min(resources.omp_nthreads or max(1, resources.nprocs // sharing), resources.nprocs)


def find_precision(resources: ResourceConfig) -> str:
    """Return how precisely the networks of a run compute, see `models.device.choose_precision`."""
    # With a plugin, the processors that run the networks are not known here.
    wanted = FLOAT32 if resources.plugin else resources.precision
    return choose_precision(wanted, resources.device)
