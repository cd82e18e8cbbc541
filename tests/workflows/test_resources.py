"""What steps need, and how threads are shared."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import IdentityInterface

from cascade_bids.config import ResourceConfig
from cascade_bids.workflows.resources import NEEDS, count_mvoxels, share_cores, step


def test_a_step_is_given_what_its_kind_needs() -> None:
    interface = IdentityInterface(["x"])
    find = step(interface, "find_lesions", threads=3)
    assert find.mem_gb > NEEDS["find_lesions"].gb
    assert find.n_procs == 3
    small, large = (step(interface, "correct_bias_T1w", mvoxels=n, threads=3) for n in (1, 20))
    assert small.mem_gb < large.mem_gb
    assert small.n_procs == 1
    # The longest start of the name is the kind.
    assert step(interface, "measure_anatomy").mem_gb > step(interface, "measure").mem_gb
    assert step(interface, "merge_images").run_without_submitting
    assert not small.run_without_submitting


def test_the_largest_image_counts_and_broken_ones_do_not(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.nii.gz" for name in ("small", "large", "broken", "absent")]
    for path, size in zip(paths, (50, 100), strict=False):
        nib.Nifti1Image(np.zeros((size, 100, 100), np.uint8), np.eye(4)).to_filename(path)
    paths[2].write_bytes(b"no image")
    assert count_mvoxels(paths) == 1
    assert count_mvoxels([]) == 0


@pytest.mark.parametrize(
    ("cores", "scans", "asked", "threads"),
    [(2, 1, 0, 2), (2, 2, 0, 1), (8, 3, 0, 2), (2, 16, 0, 1), (4, 16, 3, 3), (2, 16, 4, 2)],
)
def test_cores_are_shared_among_scans_unless_threads_are_asked_for(
    cores: int, scans: int, asked: int, threads: int
) -> None:
    assert share_cores(ResourceConfig(nprocs=cores, omp_nthreads=asked), scans) == threads


def test_each_step_of_a_plugin_may_have_a_machine_for_itself() -> None:
    cluster = ResourceConfig(nprocs=2, omp_nthreads=4, plugin={"plugin": "SLURM"})
    assert share_cores(cluster, 16) == 4
    assert share_cores(replace(cluster, omp_nthreads=0), 16) == 2
