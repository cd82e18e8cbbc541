"""The two builds that are compared, and where a benchmark finds data and keeps what it made."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.speed.measure import ROOT, Cost, run_command

OLD_COMMIT = "496e6a5"
"""The build that this one is compared with."""

_WHERE = """
from importlib.util import find_spec
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
print(find_spec("cascade_bids").origin)
with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
    print(pool.submit(find_spec, "cascade_bids").result().origin)
"""


class SkipError(RuntimeError):
    """A row cannot be measured here; the message is the reason."""


@dataclass(frozen=True)
class Build:
    """A source tree of the program, run with the packages of this environment."""

    name: str
    """``this`` or ``old``."""
    root: Path
    """Folder with run.py."""
    state: str
    """Commit; with ``+changes`` when files differ from it."""

    @property
    def env(self) -> dict[str, str]:
        """Environment in which its package is imported, by the workers that it starts too."""
        return {**os.environ, "PYTHONPATH": str(self.root)}

    def run(self, *arguments: str | Path, allowed: Sequence[int] = (0,)) -> Cost:
        """Run the program and measure it."""
        command = [sys.executable, self.root / "run.py", *arguments]
        return run_command(command, cwd=self.root, env=self.env, allowed=allowed)

    def check(self) -> None:
        """Refuse to measure another package than that of this tree, an installed one for example.

        Raises
        ------
        RuntimeError
            When the package, or that of a worker, lies elsewhere.
        """
        command = [sys.executable, "-c", _WHERE]
        done = subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True, check=True
        )
        expected = str(self.root / "cascade_bids" / "__init__.py")
        if done.stdout.split() != [expected, expected]:
            raise RuntimeError(f"{expected} is not what is imported: {done.stdout.split()}")


@dataclass(frozen=True)
class Bench:
    """What every row is measured with."""

    repeats: int
    """Pairs of measurements."""
    data: Path
    """Folder of the public datasets."""
    folder: Path
    """Keeps the old build, generated datasets and outputs that are made once."""
    out: Path
    """Takes the tables."""
    old_tree: Path | None = None
    """Source tree of the old build; that of `OLD_COMMIT` when None."""

    @cached_property
    def this(self) -> Build:
        """The build in the repository."""
        build = Build("this", ROOT, describe_state(ROOT))
        build.check()
        return build

    @cached_property
    def old(self) -> Build:
        """The build that it is compared with."""
        if self.old_tree is None:
            tree, state = extract_commit(OLD_COMMIT, self.folder / f"old-{OLD_COMMIT}"), OLD_COMMIT
        else:
            tree = self.old_tree.resolve()
            state = describe_state(tree) if (tree / ".git").exists() else tree.name
        build = Build("old", tree, state)
        build.check()
        return build

    def dataset(self, name: str) -> Path:
        """Return the folder of a public dataset.

        Raises
        ------
        SkipError
            When it is not there.
        """
        path = self.data / name
        if not path.is_dir():
            raise SkipError(f"no {name} in the folder of the data (--data)")
        return path


def describe_state(tree: Path) -> str:
    """Return the commit of a source tree, with ``+changes`` when its files differ from it."""

    def git(*arguments: str) -> str:
        # Without the lock, so that nothing is written to the repository.
        command = ["git", "--no-optional-locks", "-C", str(tree), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "cascade_bids", "run.py")
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")


def extract_commit(commit: str, folder: Path) -> Path:
    """Extract the files of a commit into a folder, unless they are there; return the folder."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        # Not a worktree, which the repository would have to be told about again.
        command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
        files = subprocess.run(command, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(files)) as archive:
            archive.extractall(partial, filter="data")
        # As the package of this environment is compiled too.
        command = [sys.executable, "-m", "compileall", "-q", str(partial / "cascade_bids")]
        subprocess.run(command, check=True)
        partial.rename(folder)
    return folder.resolve()


def keep_run(bench: Bench, build: Build, name: str, dataset: Path, *options: str) -> Path:
    """Run a build on a dataset and keep ``out`` and ``work``; return their folder.

    A finished run of the same commit is taken as it is, unless files differ from the commit.
    """
    folder = bench.folder / "runs" / f"{build.name}-{name}"
    done = folder / "done"
    if not (done.exists() and done.read_text() == build.state and "+" not in build.state):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"  {build.name} build on {name}", flush=True)
        out, work = folder / "out", folder / "work"
        # 1: some scans failed.
        build.run(dataset, out, "participant", *options, "-w", work, allowed=(0, 1))
        done.write_text(build.state)
    return folder
