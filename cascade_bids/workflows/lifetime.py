"""Processes that end when the run does, however it ends."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
"""Option of Linux's ``prctl``: which signal a process gets when its parent ends."""


def die_with_parent() -> None:
    """Let Linux kill this process when the one that started it ends, whatever it is at.

    To Linux, the parent is the thread that started the process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_run() -> None:
    """Let this process, of a step, end when the run does.

    Its parent is the server, which dies with the run on Linux. Other systems have a thread that
    watches the run, which has to wait while a library, such as ANTs, lets no other thread go on.
    """
    die_with_parent()
    threading.Thread(target=_watch_run, daemon=True).start()


def _watch_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os.kill(os.getpid(), signal.SIGKILL)
