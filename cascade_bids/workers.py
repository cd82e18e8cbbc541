"""Processes that run the steps of a workflow, each of which may die without taking others along.

Nipype's own plugin waits for ever for a step whose process was killed, or that fails before it
has a folder: the error then comes out of the future, where the plugin does not look. The one that
runs steps in this process can't be told to end: it takes that for a failure of the step.
"""

import multiprocessing
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from traceback import format_exception
from typing import Any

from nipype import Node
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer

from cascade_bids.errors import ScanError


class WorkersPlugin(MultiProcPlugin):
    """Run each step in a process that no other step shares at the time.

    A pool of several processes breaks as a whole when one of them dies. So each worker is a pool
    of one, which is used again for as long as it lives.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[int, tuple[Future, ProcessPoolExecutor]] = {}

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the workflow, and leave no process behind however it ends."""
        try:
            super().run(graph, config, updatehash)
        except KeyboardInterrupt:
            # At Ctrl-C they hear of it themselves, but not when this process alone is told to end.
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        finally:
            for worker in [*self._idle, *(worker for _, worker in self._running.values())]:
                worker.shutdown()

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        worker = self._idle.pop() if self._idle else self._start_worker()
        try:
            future = worker.submit(_run_step, node, updatehash)
        except BrokenProcessPool:  # killed while it had nothing to do
            worker = self._start_worker()
            future = worker.submit(_run_step, node, updatehash)
        self._taskid += 1
        self._running[self._taskid] = future, worker
        return int(self._taskid)

    def _start_worker(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=1,
            initializer=process_initializer,
            initargs=(self._cwd,),
            mp_context=multiprocessing.get_context("spawn"),
        )

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        future, worker = self._running[taskid]
        if not future.done():
            return None
        del self._running[taskid]
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            worker.shutdown()
            error = ScanError(
                "the process of this step was killed, most often for want of memory; run again "
                "with a smaller --nprocs or more memory"
            )
        else:
            self._idle.append(worker)
        traceback = future.result() if error is None else format_exception(error)
        return {"result": None, "traceback": traceback, "taskid": taskid}

    def _clear_task(self, taskid: int) -> None:
        """Do nothing: `_get_result` forgets a task when it has ended."""


def _run_step(node: Node, updatehash: bool) -> list[str] | None:
    """Run a step, in its process; return the traceback of a failure, which may not pickle."""
    try:
        node.run(updatehash=updatehash)
    except Exception:
        return format_exception(*sys.exc_info())
    return None
