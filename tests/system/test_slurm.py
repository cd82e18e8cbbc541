"""Submit phantom scans to a SLURM of one node: one of them bad, one killed, one step by step.

    make test-slurm

Prints one line of figures.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from .cluster import job_states, start_slurm, wait_for
from .machine import (
    PROGRAM,
    ROOT,
    Clock,
    MemoryMeter,
    call,
    make_phantom,
    mask_hashes,
    run_command,
    snapshot,
)

SUBMIT = ROOT / "hpc" / "submit_slurm.sh"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with start_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        path = f"{PROGRAM.parent}:{os.environ['PATH']}"
        yield {**environment, "PATH": path, "CORES": "1"}


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantom scans, the last of them torn."""
    folder = make_phantom(tmp_path_factory.mktemp("data") / "bids")
    for second in folder.glob("sub-*/ses-2"):
        shutil.rmtree(second)
    for name in ("sub-03", "sub-99"):
        for path in list((folder / "sub-01").rglob("*.nii.gz")):
            copy = Path(str(path).replace("sub-01", name))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    torn = next((folder / "sub-99").rglob("*_FLAIR.nii.gz"))
    torn.write_bytes(torn.read_bytes()[:1000])
    return folder


@pytest.fixture(scope="module")
def bare(bids: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The masks of the good scans by the bare install."""
    out = tmp_path_factory.mktemp("bare") / "out"
    good = [path.name.removeprefix("sub-") for path in sorted(bids.glob("sub-*"))[:-1]]
    alike = ("--nprocs", "2", "--omp-nthreads", "1")
    call(PROGRAM, bids, out, "participant", "--participant-label", *good, *alike)
    return mask_hashes(out)


def loads(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "lesions.tsv", sep="\t", dtype={"participant_id": str})


def test_an_array_with_a_bad_scan(slurm, bids, bare, tmp_path, capsys) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    elsewhere = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in elsewhere.values():
        folder.mkdir()
    slurm = {**slurm, **{name: str(folder) for name, folder in elsewhere.items()}}
    before = snapshot(bids, ROOT / "cascade_bids")
    clock = Clock()
    with MemoryMeter() as memory:
        array, group = call(SUBMIT, bids, out, work, env=slurm).split()
        wait_for(slurm, array, group)
    seconds = clock.seconds
    states = job_states(slurm, array)
    assert [states[str(task)] for task in (1, 2, 3)] == [("COMPLETED", "0")] * 3
    assert states["4"] == ("FAILED", "1")
    assert job_states(slurm, group)[""][0] == "CANCELLED"
    assert not (out / "lesions.tsv").exists()
    assert "99" in (out / "logs" / f"task-{array}_4.txt").read_text()
    assert "sub-99 has no lesion statistics" in run_command(PROGRAM, bids, out, "group").stderr
    assert len(loads(out)) == 3
    assert snapshot(bids, ROOT / "cascade_bids") == before
    assert snapshot(*elsewhere.values()) == {}

    assert mask_hashes(out) == bare

    good = next(path for path in sorted(bids.glob("sub-*")) if path.name != "sub-99")
    mended = tmp_path / "mended"
    shutil.copytree(bids, mended)
    shutil.copy(
        next(good.rglob("*_FLAIR.nii.gz")), next((mended / "sub-99").rglob("*_FLAIR.nii.gz"))
    )
    array, group = call(SUBMIT, mended, out, work, env=slurm).split()
    wait_for(slurm, array, group)
    assert job_states(slurm, array) == {"1": ("COMPLETED", "0")}
    assert job_states(slurm, group)[""] == ("COMPLETED", "0")
    assert len(loads(out)) == 4
    with capsys.disabled():
        print(
            f"\nSLURM: array of 4 with one bad in {seconds} s, tasks together at most "
            f"{memory.gigabytes:.1f} GB, masks equal to those of the bare install"
        )


def test_a_killed_task_is_resubmitted_and_goes_on(slurm, bids, tmp_path) -> None:
    one = tmp_path / "bids"
    first = sorted(bids.glob("sub-*"))[0].name
    shutil.copytree(
        bids, one, ignore=lambda _, names: {n for n in names if n[:4] == "sub-"} - {first}
    )
    shutil.copytree(bids / first, one / first, dirs_exist_ok=True)
    out, work = tmp_path / "out", tmp_path / "work"
    array, group = call(SUBMIT, one, out, work, env=slurm).split()
    deadline = time.monotonic() + 300
    while not list(work.rglob("result_*.pklz")) and time.monotonic() < deadline:
        time.sleep(0.2)
    done_before = set(work.rglob("result_*.pklz"))
    assert done_before
    call("scancel", array, env=slurm)
    wait_for(slurm, array, group)
    assert not list(out.rglob("*_stats.json"))
    kept = {path: path.stat().st_mtime_ns for path in done_before}
    array, group = call(SUBMIT, one, out, work, env=slurm).split()
    wait_for(slurm, array, group)
    assert job_states(slurm, group)[""] == ("COMPLETED", "0")
    assert len(loads(out)) == 1
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_steps_as_jobs_of_slurm(slurm, bids, tmp_path) -> None:
    file = tmp_path / "plugin.yml"
    file.write_text(
        "plugin: SLURM\nplugin_args:\n  n_procs: 1\n  sbatch_args: --mem=4G --time=20\n"
    )
    first = sorted(bids.glob("sub-*"))[0].name
    out = tmp_path / "out"
    options = ("--participant-label", first, "--use-plugin", file, "-w", tmp_path / "work")
    call(PROGRAM, bids, out, "participant", *options, env=slurm)
    # Jobs may land on any processor, so their networks compute in float32.
    alike = ("--participant-label", first, "--omp-nthreads", "1", "--precision", "float32")
    call(PROGRAM, bids, tmp_path / "bare", "participant", *alike)
    assert mask_hashes(out) == mask_hashes(tmp_path / "bare")
