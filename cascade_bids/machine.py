"""Memory and cores that a run may use, which containers and batch jobs may limit."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the memory that this process may use: that of the machine, or its limit.

    Parameters
    ----------
    cgroups, membership
        Files of Linux with the limits of control groups, and with the groups of this process.

    Returns
    -------
    int
        Bytes.
    """
    amount = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in _groups(cgroups, membership, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _numbers(folder / name)
            if limit:
                amount = min(amount, limit[0])
    return amount


def usable_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return how many cores this process may use, at least 1; parameters as of `usable_memory`."""
    # All cores where the affinity is not available (macOS).
    affine = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1
    for folder in _groups(cgroups, membership, "cpu"):
        quota = _numbers(folder / "cpu.max") or (
            _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
        )
        if len(quota) == 2 and quota[1]:
            count = min(count, math.ceil(quota[0] / quota[1]))
    return max(1, count)


def _groups(cgroups: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, and of their parents."""
    # In a container the membership may be the one outside of it; then the root is its group.
    yield from (cgroups, cgroups / controller)
    if not membership.exists():
        return
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controller if controllers else cgroups
        group = root / path.lstrip("/")
        while group != root and ".." not in group.parts:
            yield group
            group = group.parent


def _numbers(path: Path) -> list[int]:
    """Read the numbers in a file; none if it is missing or sets no limit."""
    try:
        words = path.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
