"""Run a workflow of many scans with Nipype, and collect which scans failed and why."""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from nipype import Node, Workflow
from nipype.interfaces.base import specs
from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import GraphPluginBase

from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION, ResourceConfig
from cascade_bids.errors import CascadeBidsError, UsageError
from cascade_bids.files import claim, write_text
from cascade_bids.machine import usable_memory
from cascade_bids.workflows.plugin import WorkersPlugin
from cascade_bids.workflows.resources import COPIED_GB, LIBRARIES_GB, NEEDS

log = logging.getLogger(__name__)

LOCAL = ("Linear", "MultiProc", "LegacyMultiProc")
"""Plugins of Nipype that `WorkersPlugin` replaces."""

STEPS = f"version-{VERSION}-steps-7"
"""Folder of the steps in a work folder. Steps of another version, or of another wiring, are not
reused. Increase the number when the steps change and the version does not."""

CLAIMS = "claims.lock"
"""File in the folder of the steps that says which scans are being processed there."""

MEMORY_PART = 0.9
"""Fraction of the usable memory that a run may use."""


def run_workflow(
    workflow: Workflow,
    scans: Sequence[Scan],
    resources: ResourceConfig,
    log_dir: Path,
    failures: dict[str, tuple[str, str]],
) -> None:
    """Run the workflows of scans; one that fails does not stop the others.

    Parameters
    ----------
    workflow
        Workflow ``cascade_bids``, with a subworkflow for each scan, named by `workflow_name`.
    scans
        The scans.
    resources
        Resources of the run.
    log_dir
        Folder for crash files.
    failures
        Filled with the step and cause of each failure, by workflow name; if the run is interrupted,
        with the failures until then.
    """
    with (
        _work_dir(resources) as work_dir,
        _keep_caches(work_dir),
        _private_folder(work_dir, "crash-") as crash_dir,
        _hash_once(),
        claim(work_dir / STEPS / CLAIMS, map(workflow_name, scans)) as own,
    ):
        _leave_to_others(workflow, scans, own, failures)
        if not own:
            return
        workflow.base_dir = str(work_dir / STEPS)
        # A workflow keeps the settings from the time of its creation.
        workflow.config["execution"].update(
            crashdump_dir=str(crash_dir),
            crashfile_format="txt",
            stop_on_first_crash=resources.stop_on_first_crash,
            create_report=False,  # parallel runs would share its files
        )
        try:
            workflow.run(**_choose_plugin(resources, scans))
        except Exception as error:
            # Nipype raises after all steps that can run; the crash files record the failures.
            if not any(crash_dir.iterdir()):
                raise
            log.debug("workflow ended with %s", error)
        finally:
            failures.update(_read_crashes(crash_dir, log_dir))
        if resources.clean_work_dir:
            _clean(work_dir, own)


def _leave_to_others(
    workflow: Workflow,
    scans: Sequence[Scan],
    own: Collection[str],
    failures: dict[str, tuple[str, str]],
) -> None:
    """Take scans out of the workflow that another run is processing in the same work folder."""
    for scan in scans:
        if workflow_name(scan) not in own:
            workflow.remove_nodes([workflow.get_node(workflow_name(scan))])
            failures[workflow_name(scan)] = (
                "",
                f"another run is at work on {scan.label} in the same work folder; wait for it, or "
                "give another --work-dir",
            )


def read_plugin(path: Path) -> dict[str, Any]:
    """Read the settings of the Nipype plugin that runs the steps, from YAML or JSON.

    Parameters
    ----------
    path
        File with ``plugin``, a name, and optionally ``plugin_args``, a mapping. Other keys are
        ignored, as in fMRIPrep.

    Returns
    -------
    dict
        ``plugin`` and ``plugin_args``, and nothing else.

    Raises
    ------
    UsageError
        When the file cannot be read, or names no usable plugin or an invalid ``n_procs``.
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
    # Plugins for whole graphs submit all steps and end, so that failures would not be noticed. The
    # Debug plugin runs nothing.
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


def _warn_of_memory(asked_gb: float | None, usable_gb: float) -> None:
    """Warn of a memory that the run cannot keep to."""
    largest = LIBRARIES_GB + COPIED_GB + max(need.gb for need in NEEDS.values())
    if asked_gb is not None and asked_gb < largest:
        log.warning("--mem %g: one step alone takes up to about %.1f GB", asked_gb, largest)
    if asked_gb is not None and asked_gb > usable_gb:
        log.warning("--mem %g: there are only %.1f GB to use here", asked_gb, usable_gb)


def _choose_plugin(resources: ResourceConfig, scans: Sequence[Scan]) -> dict[str, Any]:
    given = resources.plugin or {"plugin": "MultiProc", "plugin_args": {}}
    usable = MEMORY_PART * usable_memory() / 2**30
    _warn_of_memory(resources.mem_gb, usable)
    memory = max(0.1, (resources.mem_gb or usable) - LIBRARIES_GB)
    arguments = {
        # Nipype would use all memory of the machine, even in a container with a limit.
        "memory_gb": memory,
        # A step that needs more cores than available runs alone.
        "raise_insufficient": False,
        **given["plugin_args"],
        **({} if resources.mem_gb is None else {"memory_gb": memory}),
        "n_procs": 1 if given["plugin"] == "Linear" else resources.nprocs,
    }
    if given["plugin"] not in LOCAL:
        return {"plugin": given["plugin"], "plugin_args": arguments}
    return {"plugin": WorkersPlugin({**arguments, "status_callback": _status_callback(scans)})}


def workflow_name(scan: Scan) -> str:
    """Return the name of a scan in a form that Nipype allows.

    Examples
    --------
    >>> workflow_name(Scan("01", "2", None))
    'sub_01_ses_2'
    """
    return re.sub(r"\W", "_", scan.label)


def remove_crashes(scan: Scan, log_dir: Path) -> None:
    """Remove the crash files of earlier runs, which may have chosen a FLAIR of another run."""
    name = workflow_name(replace(scan, run=None))
    for pattern in (name, f"{name}_run_*") if scan.stem is None else (name,):
        for path in log_dir.glob(f"crash-{pattern}-*.txt"):
            path.unlink()


@contextmanager
def _work_dir(resources: ResourceConfig) -> Iterator[Path]:
    """Provide the work folder, a temporary one if none is set."""
    if resources.work_dir is None:
        with tempfile.TemporaryDirectory(prefix="cascade_bids-") as folder:
            yield Path(folder)
        return
    resources.work_dir.mkdir(parents=True, exist_ok=True)
    yield resources.work_dir


def _clean(work_dir: Path, names: Collection[str]) -> None:
    """Remove the folders of scans from the work folder; other runs may use it."""
    workflows = work_dir / STEPS / "cascade_bids"
    for name in names:
        shutil.rmtree(workflows / name, ignore_errors=True)
    with suppress(OSError):  # not empty: another run uses it
        workflows.rmdir()
        (workflows.parent / CLAIMS).unlink()
        workflows.parent.rmdir()


@contextmanager
def _keep_caches(folder: Path) -> Iterator[None]:
    """Keep the font cache of matplotlib inside a folder, not in the home folder."""
    name = "MPLCONFIGDIR"
    if name in os.environ:
        yield
        return
    with _private_folder(folder, "matplotlib-") as cache:
        os.environ[name] = str(cache)
        try:
            yield
        finally:
            del os.environ[name]


@contextmanager
def _hash_once() -> Iterator[None]:
    """Hash each file once in a run; Nipype does so twice for each step that reads it."""
    whole, known = specs.hash_infile, {}

    def hash_file(path: str) -> str | None:
        state = Path(path).stat()
        # The last of these changes with each change of a file, and cannot be set.
        key = path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
        if key not in known:
            known[key] = whole(path)
        return known[key]

    specs.hash_infile = hash_file
    try:
        yield
    finally:
        specs.hash_infile = whole


@contextmanager
def _private_folder(work_dir: Path, name: str) -> Iterator[Path]:
    """Provide a folder of this run alone; other runs may use the same work folder in parallel."""
    folder = Path(tempfile.mkdtemp(prefix=name, dir=work_dir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _status_callback(scans: Sequence[Scan]) -> Callable[[Node, str], None]:
    """Build a status callback for Nipype that logs the progress of each step."""
    labels = {workflow_name(scan): scan.label for scan in scans}
    words = {"start": "started", "end": "done", "exception": "FAILED"}
    started: set[str] = set()

    def log_status(node: Node, status: str) -> None:
        if status == "start":
            started.add(node.fullname)
        elif status == "end" and node.fullname not in started:
            return  # skipped after a failure, which Nipype also reports as an end
        scan, step = node.fullname.split(".")[1:3]
        level = logging.WARNING if status == "exception" else logging.INFO
        log.log(level, "%s: %s %s", labels[scan], step.replace("_", " "), words.get(status, status))

    return log_status


def _read_crashes(crash_dir: Path, log_dir: Path) -> dict[str, tuple[str, str]]:
    """Read the crash files of Nipype, and copy them to the log folder."""
    failures: dict[str, tuple[str, str]] = {}
    for path in sorted(crash_dir.glob("crash-*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        node = re.search(r"^Node: cascade_bids\.(\w+)\.(\w+)", text, re.MULTILINE)
        if node is None:
            continue
        name, step = node.groups()
        kept = log_dir / f"crash-{name}-{step}.txt"
        try:
            write_text(kept, text)
        except CascadeBidsError as error:  # the cause matters more
            log.warning(error)
        failures.setdefault(name, (step.replace("_", " "), _cause(text, kept)))
    return failures


def _cause(text: str, kept: Path) -> str:
    """Find the error in a traceback: our own message, or any other with its crash file."""
    # A message may go on for several lines; an empty one follows, or nothing.
    ours = re.findall(r"^\s*cascade_bids\.errors\.\w+: (.+(?:\n.*\S.*)*)", text, re.MULTILINE)
    if ours:
        return " ".join(str(ours[-1]).split())
    others = re.findall(r"^\s*([\w.]*(?:Error|Exception|Killed)\w*(?:: .+)?)$", text, re.MULTILINE)
    last = others[-1] if others else "unknown error"
    return f"{last} (this is unexpected; please report it with {kept})"
