"""What the tests of containers and clusters need of a machine, and how they measure."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("cascade-bids")


def require_packages(*names: str, commands: Sequence[str]) -> None:
    """Install Debian packages that are missing, or skip with the reason."""
    missing = [command for command in commands if shutil.which(command) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        pytest.skip(f"needs {', '.join(missing)}, and only root on Debian can install them here")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *names]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True, check=False
        )
    if done.returncode:
        pytest.skip(f"{', '.join(names)} can't be installed: {done.stderr.strip()[-300:]}")


def call(*command: object, code: int = 0, **options: object) -> str:
    """Run a command that is to end with an exit code; give what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    text = done.stdout + done.stderr
    assert done.returncode == code, (
        f"{' '.join(words)}: exit code {done.returncode}\n{text[-4000:]}"
    )
    return text


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> int:
        """Whole seconds."""
        return round(time.monotonic() - self.start)


def make_phantom(folder: Path) -> Path:
    """Write the phantom dataset."""
    call(PROGRAM, "phantom", folder)
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
