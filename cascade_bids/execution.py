"""Run a workflow of many scans with Nipype, and tell which scans failed and why."""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from nipype import Node, Workflow
from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import GraphPluginBase

from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.machine import usable_memory
from cascade_bids.report.page import write_whole
from cascade_bids.workers import WorkersPlugin

log = logging.getLogger(__name__)

LOCAL = ("Linear", "MultiProc", "LegacyMultiProc")
"""Plugins of Nipype in whose place `WorkersPlugin` is taken."""

MEMORY_PART = 0.9
"""Of the memory that may be used, what steps may take together."""


def run_workflow(
    workflow: Workflow,
    scans: Sequence[Scan],
    resources: ResourceConfig,
    log_dir: Path,
    failures: dict[str, tuple[str, str]],
) -> None:
    """Run the journeys of scans; one that fails does not stop the others.

    Parameters
    ----------
    workflow
        Named ``cascade_bids``, with a subworkflow for each scan, named by `workflow_name`.
    scans
        The scans.
    resources
        What the run may use.
    log_dir
        Where crash files are kept.
    failures
        Gets step and cause of each scan that fails, by workflow name; those that have failed
        until then even if the run is interrupted.
    """
    with (
        _work_dir(resources, scans) as work_dir,
        _keep_caches(work_dir),
        _lend(work_dir, "crash-") as crash_dir,
    ):
        workflow.base_dir = str(work_dir / f"version-{VERSION}")
        # A workflow keeps the settings of the time when it was made.
        workflow.config["execution"].update(
            crashdump_dir=str(crash_dir),
            crashfile_format="txt",
            stop_on_first_crash=resources.stop_on_first_crash,
            create_report=False,  # it has files of no one scan, which runs side by side share
        )
        try:
            workflow.run(**_choose_plugin(resources, scans))
        except Exception as error:
            # Nipype raises once all that can run has run; the crash files say what did not.
            if not any(crash_dir.iterdir()):
                raise
            log.debug("workflow ended with %s", error)
        finally:
            failures.update(_read_crashes(crash_dir, log_dir))


def read_plugin(path: Path) -> dict[str, Any]:
    """Read which plugin of Nipype runs the steps, from YAML or JSON.

    Parameters
    ----------
    path
        Holds ``plugin``, a name, and maybe ``plugin_args``, a mapping. Other keys are left alone,
        as fMRIPrep does.

    Returns
    -------
    dict
        These two, and nothing else.

    Raises
    ------
    UsageError
        When it can't be read, or holds no such names.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--use-plugin {path} can't be read: {error}") from error
    arguments = (content.get("plugin_args") or {}) if isinstance(content, dict) else None
    if not (isinstance(arguments, dict) and isinstance(content.get("plugin"), str)):
        raise UsageError(
            f"--use-plugin {path}: write a line `plugin: NAME`, and below `plugin_args:` what "
            "Nipype's plugin of that name is to be given"
        )
    name = content["plugin"]
    # Those for whole graphs hand all steps over and end, so nobody would know what became of them.
    # Debug runs nothing.
    known = [
        word.removesuffix("Plugin")
        for word, one in vars(plugins).items()
        if word.endswith("Plugin") and not issubclass(one, GraphPluginBase | plugins.DebugPlugin)
    ]
    if name not in known:
        raise UsageError(
            f"--use-plugin {path}: take one of Nipype's {', '.join(known)}, not {name}"
        )
    cores = arguments.get("n_procs", 1)
    if not (isinstance(cores, int) and cores > 0):
        raise UsageError(f"--use-plugin {path}: n_procs must be a whole number, not {cores!r}")
    return {"plugin": name, "plugin_args": arguments}


def _choose_plugin(resources: ResourceConfig, scans: Sequence[Scan]) -> dict[str, Any]:
    given = resources.plugin or {"plugin": "MultiProc", "plugin_args": {}}
    arguments = {
        # Nipype would take that of the machine, also in a container that may use a part.
        "memory_gb": MEMORY_PART * usable_memory() / 2**30,
        # A step that asks for more cores than there are runs alone.
        "raise_insufficient": False,
        **given["plugin_args"],
        "n_procs": 1 if given["plugin"] == "Linear" else resources.nprocs,
    }
    if given["plugin"] not in LOCAL:
        return {"plugin": given["plugin"], "plugin_args": arguments}
    return {"plugin": WorkersPlugin({**arguments, "status_callback": _make_teller(scans)})}


def workflow_name(scan: Scan) -> str:
    """Name a scan as Nipype allows it.

    Examples
    --------
    >>> workflow_name(Scan("01", "2", None))
    'sub_01_ses_2'
    """
    return re.sub(r"\W", "_", scan.label)


@contextmanager
def _work_dir(resources: ResourceConfig, scans: Sequence[Scan]) -> Iterator[Path]:
    """Lend the work folder, a temporary one when none was asked for.

    Other runs may use the same one, so of an asked one only these scans' folders go.
    """
    if resources.work_dir is None:
        with tempfile.TemporaryDirectory(prefix="cascade_bids-") as folder:
            yield Path(folder)
        return
    resources.work_dir.mkdir(parents=True, exist_ok=True)
    yield resources.work_dir
    if resources.clean_work_dir:
        journeys = resources.work_dir / f"version-{VERSION}" / "cascade_bids"
        for scan in scans:
            shutil.rmtree(journeys / workflow_name(scan), ignore_errors=True)
        with suppress(OSError):  # not empty: another run goes on there
            journeys.rmdir()
            journeys.parent.rmdir()


@contextmanager
def _keep_caches(folder: Path) -> Iterator[None]:
    """Let matplotlib keep its list of fonts below a folder, not at home."""
    name = "MPLCONFIGDIR"
    if name in os.environ:
        yield
        return
    with _lend(folder, "matplotlib-") as own:
        os.environ[name] = str(own)
        try:
            yield
        finally:
            del os.environ[name]


@contextmanager
def _lend(work_dir: Path, name: str) -> Iterator[Path]:
    """Lend a folder of this run alone: others may use the same work folder at the same time."""
    folder = Path(tempfile.mkdtemp(prefix=name, dir=work_dir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_teller(scans: Sequence[Scan]) -> Callable[[Node, str], None]:
    """Make Nipype's status callback, which logs the progress of each step."""
    labels = {workflow_name(scan): scan.label for scan in scans}
    words = {"start": "started", "end": "done", "exception": "FAILED"}
    begun: set[str] = set()

    def tell(node: Node, status: str) -> None:
        if status == "start":
            begun.add(node.fullname)
        elif status == "end" and node.fullname not in begun:
            return  # left out after a failure, which Nipype calls an end too
        scan, step = node.fullname.split(".")[1:3]
        level = logging.WARNING if status == "exception" else logging.INFO
        log.log(level, "%s: %s %s", labels[scan], step.replace("_", " "), words.get(status, status))

    return tell


def _read_crashes(crash_dir: Path, log_dir: Path) -> dict[str, tuple[str, str]]:
    """Read Nipype's crash files, and keep them in the log folder."""
    failures: dict[str, tuple[str, str]] = {}
    for path in sorted(crash_dir.glob("crash-*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        node = re.search(r"^Node: cascade_bids\.(\w+)\.(\w+)", text, re.MULTILINE)
        if node is None:
            continue
        name, step = node.groups()
        log_dir.mkdir(parents=True, exist_ok=True)
        kept = log_dir / f"crash-{name}-{step}.txt"
        write_whole(kept, text)
        failures.setdefault(name, (step.replace("_", " "), _cause(text, kept)))
    return failures


def _cause(text: str, kept: Path) -> str:
    """Find the error in a traceback: our own message as it is, any other with its crash file."""
    ours = re.findall(r"^\s*cascade_bids\.errors\.\w+: (.+)$", text, re.MULTILINE)
    if ours:
        return str(ours[-1])
    others = re.findall(r"^\s*([\w.]*(?:Error|Exception|Killed)\w*(?:: .+)?)$", text, re.MULTILINE)
    last = others[-1] if others else "unknown error"
    return f"{last} (this is unexpected; please report it with {kept})"
