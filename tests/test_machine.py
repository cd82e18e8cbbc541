import os
from pathlib import Path

import pytest

from cascade_bids.machine import usable_cores, usable_memory

TOTAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, Path]:
    return {"cgroups": tmp_path / "cgroup", "membership": tmp_path / "membership"}


def say(machine: dict[str, Path], membership: str, **files: str) -> None:
    machine["membership"].write_text(membership)
    for name, text in files.items():
        path = machine["cgroups"] / name.replace("__", "/").replace("_of_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_limits_all_of_the_machine_is_used(machine: dict[str, Path]) -> None:
    cores = usable_cores(**machine)
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert usable_memory(**machine) == TOTAL
    say(machine, "0::/job\n", job__memory_of_max="max\n", job__cpu_of_max="max 100000\n")
    assert usable_memory(**machine) == TOTAL
    assert usable_cores(**machine) == cores


def test_limits_of_the_group_and_those_around_it_count(machine: dict[str, Path]) -> None:
    say(
        machine,
        "0::/slurm/job/step\n",
        slurm__job__memory_of_max="2000000000\n",
        slurm__job__step__memory_of_max="max\n",
        slurm__job__step__cpu_of_max="50000 100000\n",
    )
    assert usable_memory(**machine) == 2_000_000_000
    assert usable_cores(**machine) == 1


def test_limits_of_the_first_version_count(machine: dict[str, Path]) -> None:
    say(
        machine,
        "4:memory:/job\n3:cpu,cpuacct:/job\n",
        memory__job__memory_of_limit_in_bytes="3000000000\n",
    )
    group = machine["cgroups"] / "cpu" / "job"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("100000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_memory(**machine) == 3_000_000_000
    assert usable_cores(**machine) == 1


def test_a_limit_of_the_container_is_at_the_root(machine: dict[str, Path]) -> None:
    say(machine, "0::/../outside\n", memory_of_max="1000000000\n")
    assert usable_memory(**machine) == 1_000_000_000
