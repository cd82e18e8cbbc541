"""What is timed inside a process of its own, without imports; each prints one line of JSON."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def timed() -> Iterator[dict[str, Any]]:
    """Time a block on all its threads, and print that with what it put into the mapping."""
    found: dict[str, Any] = {}
    cpu, wall = time.process_time(), time.perf_counter()
    yield found
    found["cpu_s"] = time.process_time() - cpu
    found["wall_s"] = time.perf_counter() - wall
    print(json.dumps(found))
