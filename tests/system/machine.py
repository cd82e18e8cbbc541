"""What the tests of containers and clusters need of a machine, and how they measure."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from cascade_bids.machine import usable_memory

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("cascade-bids")

SECONDS = 1800
"""After which a command hangs."""

# Where Debian keeps what root runs; not on everyone's path.
os.environ["PATH"] += ":/usr/sbin:/sbin"


def cannot_run(reason: str) -> NoReturn:
    """Skip a test, or fail it where ``MUST_RUN`` says that the machine can do all."""
    if os.environ.get("MUST_RUN"):
        pytest.fail(reason)
    pytest.skip(reason)


def require_packages(packages: Mapping[str, str]) -> None:
    """Install the Debian packages of commands that are missing, or skip; none is removed."""
    missing = [command for command in packages if shutil.which(command) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        cannot_run(f"needs {', '.join(missing)}, and only root on Debian can install them here")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    prepare("apt-get", "-qq", "update", env=quiet)
    names = {packages[command] for command in missing}
    install = ("install", "-y", "--no-install-recommends", "--no-remove", *sorted(names))
    prepare("apt-get", "-qq", *install, env=quiet)


def require_memory(gigabytes: float) -> None:
    """Skip where there is less than so much memory."""
    if usable_memory() < gigabytes * 2**30:
        cannot_run(f"needs {gigabytes} GB of memory")


def attempt(*command: object, **options: object) -> tuple[str, str]:
    """Run a command that may fail; give what it printed, and why it failed, if it did."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=SECONDS, **options
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    reason = f"{' '.join(words)}: {done.stderr.strip()[-400:]}" if done.returncode else ""
    return done.stdout, reason


def prepare(*command: object, **options: object) -> str:
    """Run a command without which the machine can't run a test, or skip; give what it printed."""
    printed, reason = attempt(*command, **options)
    if reason:
        cannot_run(reason)
    return printed


def call(*command: object, code: int = 0, **options: object) -> str:
    """Run a command that is to end with an exit code; give what it printed, without errors."""
    return run_command(*command, code=code, **options).stdout


def run_command(
    *command: object, code: int = 0, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command that is to end with an exit code; give its outputs."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=SECONDS, **options
    )
    text = (done.stdout + done.stderr)[-4000:]
    assert done.returncode == code, f"{' '.join(words)}: exit code {done.returncode}\n{text}"
    return done


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> int:
        """Whole seconds."""
        return round(time.monotonic() - self.start)


class MemoryMeter:
    """Measures, inside its ``with``, what all processes that start there take together."""

    def __init__(self) -> None:
        self.gigabytes = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=({*psutil.pids()},))

    def __enter__(self) -> "MemoryMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self, others: set[int]) -> None:
        while not self._ended.wait(0.5):
            total = 0
            for pid in {*psutil.pids()} - others:
                with contextlib.suppress(psutil.Error):
                    # What processes share counts once.
                    total += psutil.Process(pid).memory_full_info().pss
            self.gigabytes = max(self.gigabytes, total / 1e9)


def make_phantom(folder: Path) -> Path:
    """Write the phantom dataset, for anyone to read."""
    call(PROGRAM, "phantom", folder)
    call("chmod", "-R", "a+rX", folder)
    return folder


def mask_hashes(out: Path) -> dict[str, str]:
    """Hash the lesion masks and tables of a run by their path."""
    paths = [*out.rglob("*_label-lesion_mask.nii.gz"), *out.rglob("*_desc-lesions_dseg.tsv")]
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Note size and time of every file, to see later what was written."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                facts = path.stat()
                found[str(path)] = (facts.st_size, facts.st_mtime_ns)
    return found
