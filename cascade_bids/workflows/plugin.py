"""A Nipype plugin that runs each step in a process of its own, which may be killed.

Nipype's MultiProc plugin waits forever for a step if its process was killed, or if it fails before
it has a folder: the error is then in the future, which the plugin does not check. The Linear plugin
runs steps in this process and cannot be interrupted: it treats an interrupt as a failed step.
"""

import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, util
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
from nipype import Node
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer

from cascade_bids.errors import ScanError
from cascade_bids.workflows.lifetime import die_with_run
from cascade_bids.workflows.resources import find_need

log = logging.getLogger(__name__)

PRELOADED = (
    "cascade_bids.workflows.server",
    "cascade_bids.workflows.plugin",
    "cascade_bids.interfaces.figures",
    "cascade_bids.interfaces.lesions",
    "cascade_bids.interfaces.masks",
    "cascade_bids.interfaces.models",
    "cascade_bids.interfaces.preprocess",
    "cascade_bids.interfaces.quality",
    "cascade_bids.lesions.label",
    "cascade_bids.lesions.location",
    "cascade_bids.lesions.measure",
    "cascade_bids.lesions.separate",
    "cascade_bids.models.brain_extraction",
    "cascade_bids.models.predict",
    "cascade_bids.preprocess.anatomical_coordinates",
    "cascade_bids.preprocess.bias",
    "cascade_bids.preprocess.normalise",
    "cascade_bids.preprocess.registration",
    "cascade_bids.quality.measures",
    "cascade_bids.report.panels",
)
"""Modules that the server of the processes imports once, with their libraries. None may start a
thread or use a GPU when it is imported, since neither works after a fork."""

LONGEST_FOLDER = 70
"""Characters of the name of a temporary folder in which sockets can lie."""


class Usage(NamedTuple):
    """What a step used."""

    seconds: float
    """Duration."""
    cpu_seconds: float
    """Time of all its threads."""
    peak_gb: float
    """Largest resident memory beyond that of the preloaded libraries."""


class WorkersPlugin(MultiProcPlugin):
    """Run each step in a process of its own, within the given cores and memory.

    A pool of several processes breaks when one of them dies, so each step has a pool of one
    process. The process is forked from a server that has imported the libraries, so it starts in
    an instant, and it ends with the step, so that no memory is kept. There are no map nodes.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self.max_jobs = np.inf  # cores and memory limit the steps
        self._running: dict[int, tuple[Future, ProcessPoolExecutor]] = {}
        self._ended: list[ProcessPoolExecutor] = []
        self._uncached: set[int] = set()

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the workflow; all processes end with it, even after an error."""
        # `_send_procs_to_workers` waits until a step ends.
        config["execution"]["poll_sleep_duration"] = 0
        try:
            super().run(graph, config, updatehash)
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        finally:
            for worker in [*self._ended, *(worker for _, worker in self._running.values())]:
                worker.shutdown()

    # --- Which step is next ---

    def _generate_dependency_list(self, graph: Any) -> None:
        super()._generate_dependency_list(graph)
        number = {node: jobid for jobid, node in enumerate(self.procs)}
        self._seconds = np.array([find_need(node.name).seconds for node in self.procs])
        # The longest way from each step to the end of its scan.
        self._way = self._seconds.copy()
        for jobid in reversed(range(len(self.procs))):  # in topological order
            after = [self._way[number[node]] for node in graph.successors(self.procs[jobid])]
            self._way[jobid] += max(after, default=0)
        _, self._scan = np.unique([n._hierarchy for n in self.procs], return_inverse=True)

    def _sort_jobs(self, jobids: Any, scheduler: str | None = None) -> list[int]:
        """Sort the steps that are ready by which should start first.

        While there are more scans than cores, the scan with the least work left comes first: few
        scans are begun at the same time. Then the step with the longest way to the end of its scan
        comes first: all scans end early.
        """
        open_ = ~self.proc_done | self.proc_pending
        left = np.bincount(self._scan, weights=self._seconds * open_)
        if np.count_nonzero(np.bincount(self._scan, weights=open_)) > self.processors:
            return sorted(
                jobids, key=lambda job: (left[self._scan[job]], self._scan[job], -self._way[job])
            )
        return sorted(jobids, key=lambda job: -self._way[job])

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        """Start what is ready and fits, and wait until a step ends."""
        ready = np.flatnonzero(~self.proc_done & (self.depidx.sum(axis=0) == 0).__array__())
        gb, cores, _ = self._check_resources(self.pending_tasks)
        advanced = False
        for jobid in self._sort_jobs(ready):
            node = self.procs[jobid]
            if jobid not in self._uncached:
                self.proc_done[jobid] = self.proc_pending[jobid] = True
                if self._local_hash_check(jobid, graph) or self._run_here(jobid, graph):
                    advanced = True
                    continue
                self.proc_done[jobid] = self.proc_pending[jobid] = False
                self._uncached.add(jobid)
            threads = min(node.n_procs, self.processors)
            memory = min(node.mem_gb, self.memory_gb)
            if memory <= gb and threads <= cores:
                gb, cores = gb - memory, cores - threads
                self.proc_done[jobid] = self.proc_pending[jobid] = True
                self._report("start", jobid)
                self.pending_tasks.insert(0, (self._submit_job(node), jobid))
        while self._ended:  # while others compute
            self._ended.pop().shutdown()
        if not advanced and self.pending_tasks:
            self._wait()

    def _wait(self) -> None:
        """Wait until a step ends."""
        wait([future for future, _ in self._running.values()], return_when=FIRST_COMPLETED)

    def _run_here(self, jobid: int, graph: Any) -> bool:
        """Run a step in this process if it is one that only merges or copies."""
        if not self.procs[jobid].run_without_submitting:
            return False
        self._report("start", jobid)
        traceback = _run(self.procs[jobid])
        if traceback is None:
            self._task_finished_cb(jobid)
        else:
            self._run_errors.append("".join(traceback))
            self._clean_queue(jobid, graph, result={"result": None, "traceback": traceback})
        return True

    def _report(self, status: str, jobid: int) -> None:
        if self._status_callback:
            self._status_callback(self.procs[jobid], status)

    # --- Its process ---

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        worker = ProcessPoolExecutor(
            max_workers=1,
            initializer=_start_process,
            initargs=(self._cwd,),
            mp_context=_server_context(),
        )
        self._taskid += 1
        self._running[self._taskid] = worker.submit(_run_step, node), worker
        return int(self._taskid)

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        future, worker = self._running[taskid]
        if not future.done():
            return None
        del self._running[taskid]
        self._ended.append(worker)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            error = ScanError(
                "the process of this step was killed, most often for want of memory; run again "
                "with more memory, or a smaller --mem or --nprocs"
            )
        if error is not None:
            return {"result": None, "traceback": format_exception(error), "taskid": taskid}
        name, traceback, usage = future.result()
        log.debug("%s used %.2f s, %.2f CPU s, %.3f GB", name, *usage)
        return {"result": None, "traceback": traceback, "taskid": taskid}

    def _clear_task(self, taskid: int) -> None:
        """Do nothing: `_get_result` removes a task when it has ended."""


def _server_context() -> Any:
    """Return the context of processes that are forked from a server, which is started if needed.

    The server ends when this process does, however it ends.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    _keep_sockets_short()
    # Steps that set no number of threads have one: parallelism is across steps.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before = {name: os.environ.get(name) for name in single}
    os.environ.update(single)
    # Ctrl-C ends this process, which ends its children.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context


def _keep_sockets_short() -> None:
    """Let multiprocessing put its sockets elsewhere if the temporary folder has a long name.

    The path of a socket has about 100 characters at the most, and batch systems make long names.
    """
    if len(tempfile.gettempdir()) <= LONGEST_FOLDER:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        util.get_temp_dir()  # makes and remembers a folder
    finally:
        tempfile.tempdir = before


def _start_process(cwd: str) -> None:
    """Prepare the process of a step, which ends at the latest when the run does."""
    die_with_run()
    process_initializer(cwd)


def _run_step(node: Node) -> tuple[str, list[str] | None, Usage]:
    """Run a step; return its name, the traceback of a failure, and what it used."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    traceback = _run(node)
    after = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 2**10
    usage = Usage(
        time.monotonic() - start,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        (after.ru_maxrss - before.ru_maxrss) * unit / 2**30,
    )
    return node.fullname, traceback, usage


def _run(node: Node) -> list[str] | None:
    """Run a step; return the traceback of a failure, since the error itself may not pickle."""
    try:
        node.run()
    except Exception:
        return format_exception(*sys.exc_info())
    return None
