"""Build the image and run it as the README says: read-only, without network, as any user.

    make test-container

Prints one line of figures.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from cascade_bids.config import VERSION

from .image import RUN, Image, built_image, podman_environment
from .machine import (
    PROGRAM,
    Clock,
    call,
    make_phantom,
    mask_hashes,
    require_memory,
    run_command,
    snapshot,
)

ALIKE = ("--nprocs", "2", "--omp-nthreads", "1")
"""Probabilities are equal to the last bit only with as many threads."""

THEN_MEMORY = """/opt/cascade_bids/run.py "$@"
code=$?
cd /sys/fs/cgroup
cat memory.peak 2> /dev/null || cat memory/memory.max_usage_in_bytes 2> /dev/null || echo nan
exit $code"""
"""Runs the program and prints the most memory that the container took, in bytes; old kernels can't
say."""

CUDA = "import torch; print(torch.version.cuda)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with built_image(tmp_path_factory.mktemp("build")) as image:
        yield image


def test_the_image_does_what_the_bare_install_does(built, tmp_path: Path, capsys) -> None:
    require_memory(7)
    bids = make_phantom(tmp_path / "bids")
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    environment = podman_environment(tmp_path, built.name)

    def run(*arguments: str, options: tuple[str, ...] = ()) -> str:
        return call(*command(*arguments, options=options), env=environment)

    def command(*arguments: str, options: tuple[str, ...] = ()) -> tuple[object, ...]:
        mounts = ("-v", f"{bids}:/data:ro", "-v", f"{out}:/out")
        return (*RUN, *mounts, *options, built.name, *arguments)

    assert run("--version").strip().endswith(f"cascade_bids {VERSION}")
    assert "WRONG" not in run("doctor")
    before = snapshot(bids)
    clock = Clock()
    shell = ("--entrypoint", "/bin/sh")
    said = run("-c", THEN_MEMORY, "-", "/data", "/out", "participant", *ALIKE, options=shell)
    memory = float(said.splitlines()[-1]) / 1e9
    seconds = clock.seconds
    run("/data", "/out", "group")
    assert snapshot(bids) == before
    assert (out / "group.html").stat().st_uid == 12345
    done = run_command(*command("/data", "/out", "nothing"), env=environment, code=2)
    assert "nothing" in done.stderr
    python = ("--entrypoint", "/opt/cascade_bids/env/bin/python")
    cuda = run("-c", CUDA, options=python).strip()

    bare = tmp_path / "bare"
    call(PROGRAM, bids, bare, "participant", *ALIKE)
    assert mask_hashes(out) == mask_hashes(bare)
    loads = pd.read_csv(out / "lesions.tsv", sep="\t")
    facts = json.loads(call("podman", "image", "inspect", built.name))[0]["Config"]["Labels"]
    assert facts["org.opencontainers.image.version"] == VERSION
    with capsys.disabled():
        print(
            f"\nimage: built in {built.seconds} s, {built.gigabytes:.2f} GB (CUDA: {cuda}); "
            f"{len(loads)} phantom scans in {seconds} s with at most {memory:.1f} GB of memory and "
            "file cache, "
            "masks equal to those of the bare install"
        )
    assert built.gigabytes <= 2.2 or cuda != "None"
