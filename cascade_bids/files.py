"""Write files completely, or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from cascade_bids.errors import CascadeBidsError

PART_NAME = re.compile(r"\.[0-9a-f]{32}\..+")
"""Name of a file that is being written."""

_POINTER = re.compile(rb"version https://git-lfs\.|[^\n\0]*/annex/objects/")
"""Start of the text that git-lfs and git-annex keep in the place of a file. The latter is a path,
relative where a file system has no links."""

_POINTER_BYTES = 512

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without locks."""


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
    with _named(target), _part(target) as part:
        yield part
        part.replace(target)


def replace_together(contents: Mapping[Path, Path | str], outdated: Iterable[Path]) -> None:
    """Replace files by others that belong together, as one step as far as a file system allows.

    First all of them are written beside their targets. Only then the outdated ones are removed, and
    the new ones moved to their names.

    Parameters
    ----------
    contents
        Target to the file that is copied there, or to its text, in the order in which they appear.
        So the last one says that all are there. Folders are created when missing.
    outdated
        Files that are removed, if they exist, in this order.

    Raises
    ------
    CascadeBidsError
        If a file cannot be written, removed or moved. After the former, all is as it was.
    """
    with contextlib.ExitStack() as stack:
        parts = {}
        for target, content in contents.items():
            with _named(target):
                parts[target] = stack.enter_context(_part(target))
                if isinstance(content, str):
                    parts[target].write_text(content, encoding="utf-8", newline="\n")
                else:
                    shutil.copyfile(content, parts[target])
        for path in outdated:
            with _named(path):
                path.unlink(missing_ok=True)
        for target, part in parts.items():
            with _named(target):
                part.replace(target)


def clear_broken(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder.

    Parameters
    ----------
    folder
        The folder, which need not exist. Files that another process is writing stay.
    """
    for part in folder.glob(".*"):
        if PART_NAME.fullmatch(part.name):
            with contextlib.suppress(OSError), part.open("r+b") as broken:
                fcntl.flock(broken, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


def why_unfetched(path: Path) -> str | None:
    """Return why a file must be fetched first, as git-annex, DataLad and git-lfs leave files.

    Parameters
    ----------
    path
        The path of a file, which need not exist.

    Returns
    -------
    str or None
        What it is and what to do, as the end of a sentence; None if it is there, or never was.
    """
    if not path.exists():
        what = "a link to a file that does not exist" if path.is_symlink() else None
    else:
        what = "a pointer to a file that is kept elsewhere" if _is_pointer(path) else None
    return what and f"is {what}; fetch it (datalad get, git annex get, git lfs pull)"


def _is_pointer(path: Path) -> bool:
    if not path.is_file():  # reading a pipe would wait for ever
        return False
    try:
        with path.open("rb") as stream:
            return bool(_POINTER.match(stream.read(_POINTER_BYTES)))
    except OSError:
        return False


@contextlib.contextmanager
def _part(target: Path) -> Iterator[Path]:
    """Provide a new file beside a target, locked so that others see that it is being written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # The process id is not unique across containers that share a folder.
    part = target.with_name(f".{uuid.uuid4().hex}.{target.name}")
    with part.open("xb") as mine:
        try:
            with contextlib.suppress(OSError):  # no locks here; nothing is cleared then
                fcntl.flock(mine, fcntl.LOCK_EX)
            part.touch()  # it may have been cleared before it was locked
            yield part
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """Name the file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise CascadeBidsError(
            f"{target} can't be written ({error.strerror or error}); make room or the folder "
            "writable, and run again."
        ) from error


@contextlib.contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes out of what may be done by one at a time.

    Parameters
    ----------
    lock
        The file that stands for it, in a folder that they share; it goes when the process ends,
        however it ends. On a file system without locks nobody is kept out.
    wait
        Whether to wait for the other.

    Yields
    ------
    bool
        False if another process is at it.

    Raises
    ------
    CascadeBidsError
        If the file cannot be written.
    """
    holder, own = FileLock(lock), True
    with _named(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            holder.acquire(timeout=-1 if wait else 0)
        except Timeout:
            own = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        yield own
    finally:
        holder.release()


@contextlib.contextmanager
def claim(lock: Path, names: Iterable[str]) -> Iterator[set[str]]:
    """Claim things that one process at a time may work on, as long as this lasts.

    Parameters
    ----------
    lock
        The file that stands for all of them, in a folder that the processes share. On a file system
        without locks everything can be claimed.
    names
        Names of the things. One file stands for any number, since open files are limited.

    Yields
    ------
    set of str
        Those that no other process has claimed. The claims go when the process ends, however it
        ends.

    Raises
    ------
    CascadeBidsError
        If the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        own = set()
        with _named(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("ab"))
            for name in names:
                place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                except OSError as error:
                    if error.errno in (errno.EACCES, errno.EAGAIN):
                        continue
                    if error.errno not in NO_LOCKS:
                        raise
                own.add(name)
        yield own


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
