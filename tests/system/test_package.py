"""Install the wheel as a user would, into a new environment of each Python there is.

    make test-package

Prints one line of figures for each.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cascade_bids.config import VERSION

from .machine import ROOT, Clock, call, cannot_run

PYTHONS = ("3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    call("git", "clone", "--quiet", ROOT, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    call(*pip, "--wheel-dir", folder, source)
    return next(folder.glob("cascade_bids-*.whl"))


def interpreter(version: str) -> str:
    """Find a Python: on the path, or among those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    known = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python")]
    for found in filter(None, known):
        # What pyenv puts on the path may name a Python that is not there.
        if subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return str(found)
    cannot_run(f"there is no python{version} here")


def install(python: str, folder: Path, constraints: Path, wheel: Path) -> Path:
    """Install the wheel into a new environment; give the folder of its programs."""
    call(python, "-m", "venv", folder)
    programs = folder / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "-c", constraints)
    # Whether torch is for the CPU or for GPUs is up to pip's index, as everywhere.
    torch = next(line for line in constraints.read_text().splitlines() if line[:7] == "torch==")
    call(*pip, torch)
    call(*pip, wheel)
    return programs


def try_out(programs: Path, folder: Path) -> None:
    """See that it is whole, has its weights, and reads a dataset; far from the source."""
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    here = {"cwd": folder, "env": environment}
    assert "No broken requirements" in call(programs / "python", "-m", "pip", "check", **here)
    for command in ([programs / "cascade-bids"], [programs / "python", "-m", "cascade_bids"]):
        assert call(*command, "--version", **here).strip().endswith(f"cascade_bids {VERSION}")
    assert "WRONG" not in call(programs / "cascade-bids", "doctor", **here)
    call(programs / "cascade-bids", "phantom", "bids", **here)
    listed = call(programs / "cascade-bids", "plan", "bids", **here)
    assert "01" in listed.split()


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel(version: str, wheel: Path, tmp_path: Path, capsys) -> None:
    python = interpreter(version)
    clock = Clock()
    programs = install(python, tmp_path / "env", ROOT / "constraints.txt", wheel)
    seconds = clock.seconds
    try_out(programs, tmp_path / "there")
    with capsys.disabled():
        size = wheel.stat().st_size / 1e6
        print(f"\nPython {version}: wheel of {size:.1f} MB installed in {seconds} s, works")


def lowest_versions(folder: Path) -> Path:
    """Write constraints of what pyproject.toml asks for at the least."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    path = folder / "lowest.txt"
    path.write_text("".join(f"{one.replace('>=', '==')}\n" for one in asked))
    return path


@pytest.mark.parametrize("version", PYTHONS[:1])
def test_the_lowest_versions(version: str, wheel: Path, tmp_path: Path, capsys) -> None:
    """The oldest dependencies that are allowed process a scan, on the oldest Python."""
    lowest = lowest_versions(tmp_path)
    programs = install(interpreter(version), tmp_path / "env", lowest, wheel)
    there = tmp_path / "there"
    try_out(programs, there)
    one = ("participant", "--participant-label", "01")
    call(programs / "cascade-bids", "bids", "out", *one, cwd=there)
    assert list((there / "out").rglob("*_desc-lesions_stats.json"))
    with capsys.disabled():
        print("\nlowest versions: a phantom scan processed")
