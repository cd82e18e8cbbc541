"""Write files completely, or not at all."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cascade_bids.errors import CascadeBidsError


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Provide a hidden temporary path, and move the file to the target when it is complete.

    Parameters
    ----------
    target
        The file; its folder is created when missing, and an existing file is replaced.

    Yields
    ------
    Path
        Path to write to, in the folder of the target and with the same suffix; no other process
        uses it.

    Raises
    ------
    CascadeBidsError
        If the file cannot be written; the target is unchanged.
    """
    # The process id is not unique across containers that share a folder.
    part = target.with_name(f".{uuid.uuid4().hex}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(target)
    except OSError as error:
        raise CascadeBidsError(
            f"{target} can't be written ({error}); make room or the folder writable, and run again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes out of what may be done by one at a time.

    Parameters
    ----------
    lock
        The file that stands for it, in a folder that they share; it goes when the process ends,
        however it ends.
    wait
        Whether to wait for the other.

    Yields
    ------
    bool
        False if another process is at it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = FileLock(lock)
    try:
        holder.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        holder.release()


def write_text(path: Path, text: str) -> Path:
    """Write a text file, completely or not at all.

    Parameters
    ----------
    path
        The file; its folder is created when missing.
    text
        Its content, written as UTF-8 with line feeds.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CascadeBidsError
        If the file cannot be written; an existing file is unchanged.
    """
    with appearing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path
