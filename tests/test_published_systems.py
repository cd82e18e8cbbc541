"""Every published system is one file of models and one recipe: without them all else works."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cascade_bids

pytestmark = pytest.mark.slow

PACKAGE = Path(cascade_bids.__file__).parent

SYSTEMS = {
    "valverde2017": ("valverde2017",),
    "nicmslesions": ("nicmslesions",),
    "msseg2016": ("msseg2016",),
    "allnet": ("allnet", "allnet-anaconv", "allnet-base", "allnet-lesloss", "allnet-tiramisu"),
}
"""File of a system to the methods that its recipes make."""

OWN_COMMANDS = {"nicmslesions": ("cli/train/import_nicmslesions.py",)}
"""Commands that belong to a system, and go with it."""

PROGRAM = """
import pkgutil, importlib, cascade_bids
for module in pkgutil.walk_packages(cascade_bids.__path__, "cascade_bids."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from cascade_bids.cli.main import main
from cascade_bids.models.card import load_card
from cascade_bids.training.recipes import RECIPES
load_card("ensemble")
print(cascade_bids.__file__, *RECIPES)
try:
    main(["--help"])
except SystemExit:
    pass
"""


@pytest.mark.parametrize("system", SYSTEMS)
def test_deleting_a_published_system_touches_nothing_else(system: str, tmp_path: Path) -> None:
    copy = tmp_path / "cascade_bids"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        f"models/architectures/{system}.py",
        f"training/recipes/{system}.py",
        *OWN_COMMANDS.get(system, ()),
    ):
        (copy / name).unlink()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *text = done.stdout.splitlines()
    where, *recipes = first.split()
    assert Path(where).parent == copy
    published = {method for methods in SYSTEMS.values() for method in methods}
    assert set(recipes) == {"cascade", "perceptrons", *published} - set(SYSTEMS[system])
    assert any("crossval" in line for line in text)
