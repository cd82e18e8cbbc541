"""A Nipype plugin with processes that can be killed without affecting other steps.

Nipype's MultiProc plugin waits forever for a step if its process was killed, or if it fails before
it has a folder: the error is then in the future, which the plugin does not check. The Linear plugin
runs steps in this process and cannot be interrupted: it treats an interrupt as a failed step.
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
    """Run each step in a process that no other step uses at the same time.

    A pool of several processes breaks when one of them dies. So each worker is a pool of one
    process, which is reused as long as it lives.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[int, tuple[Future, ProcessPoolExecutor]] = {}

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the workflow; all processes end with it, even after an error."""
        try:
            super().run(graph, config, updatehash)
        except KeyboardInterrupt:
            # Ctrl-C reaches the workers too, but a signal to this process alone does not.
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
        except BrokenProcessPool:  # killed while it was idle
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
        """Do nothing: `_get_result` removes a task when it has ended."""


def _run_step(node: Node, updatehash: bool) -> list[str] | None:
    """Run a step; return the traceback of a failure, since the error itself may not pickle."""
    try:
        node.run(updatehash=updatehash)
    except Exception:
        return format_exception(*sys.exc_info())
    return None
