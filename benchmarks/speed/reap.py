"""Run a command, wait for all processes that it started, and write what they took together.

Usage: python reap.py RESULT COMMAND …

The processor time of a process that outlives its parent, as a server of forked workers does, would
go to nobody who is asked. Here such processes become children of this one (Linux alone).
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36

if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "orphans cannot be waited for")
started = time.monotonic()
code = subprocess.run(sys.argv[2:], check=False).returncode
wall = time.monotonic() - started
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
result = {"code": code, "wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime}
Path(sys.argv[1]).write_text(json.dumps(result))
