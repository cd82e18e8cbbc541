"""Build the image and run it as the README says: read-only, without network, as any user.

    make test-container

Prints one line of figures.
"""

import json
from pathlib import Path

import pandas as pd
import pytest

from cascade_bids.config import VERSION

from .image import build_image, podman_environment
from .machine import PROGRAM, Clock, call, make_phantom, mask_hashes, run_command, snapshot

USER = "12345:12345"
"""Whom neither the machine nor the image knows."""

ALIKE = ("--nprocs", "2", "--omp-nthreads", "1")
"""Probabilities are equal to the last bit only with as many threads."""

THEN_MEMORY = """/opt/cascade_bids/run.py "$@"
code=$?
cat /sys/fs/cgroup/memory.peak 2> /dev/null || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes
exit $code"""
"""Runs the program and prints the most memory that the container took, in bytes."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, float]:
    return build_image(tmp_path_factory.mktemp("build"))


def test_the_image_does_what_the_bare_install_does(built, tmp_path: Path, capsys) -> None:
    image, build_seconds, gigabytes = built
    bids = make_phantom(tmp_path / "bids")
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    environment = podman_environment(tmp_path, image)

    def run(*arguments: str, options: tuple[str, ...] = ()) -> str:
        return call(*command(*arguments, options=options), env=environment)

    def command(*arguments: str, options: tuple[str, ...] = ()) -> tuple[object, ...]:
        return (
            *("podman", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp"),
            *("--user", USER, "--memory", "6g", "-v", f"{bids}:/data:ro", "-v", f"{out}:/out"),
            *(*options, image, *arguments),
        )

    assert run("--version").strip().endswith(f"cascade_bids {VERSION}")
    assert "WRONG" not in run("doctor")
    before = snapshot(bids)
    clock = Clock()
    shell = ("--entrypoint", "/bin/sh")
    said = run("-c", THEN_MEMORY, "-", "/data", "/out", "participant", *ALIKE, options=shell)
    gigabytes_of_memory = int(said.splitlines()[-1]) / 1e9
    seconds = clock.seconds
    run("/data", "/out", "group")
    assert snapshot(bids) == before
    assert (out / "group.html").stat().st_uid == int(USER.split(":")[0])
    assert (
        "nothing"
        in run_command(*command("/data", "/out", "nothing"), env=environment, code=2).stderr
    )

    bare = tmp_path / "bare"
    call(PROGRAM, bids, bare, "participant", *ALIKE)
    assert mask_hashes(out) == mask_hashes(bare)
    loads = pd.read_csv(out / "lesions.tsv", sep="\t")
    facts = json.loads(call("podman", "image", "inspect", image))[0]["Config"]["Labels"]
    assert facts["org.opencontainers.image.version"] == VERSION
    with capsys.disabled():
        print(
            f"\nimage: built in {build_seconds} s, {gigabytes:.2f} GB; {len(loads)} phantom scans "
            f"in {seconds} s with at most {gigabytes_of_memory:.1f} GB of memory and file cache, "
            "masks equal to those of the bare install"
        )
    assert gigabytes <= 2.2
