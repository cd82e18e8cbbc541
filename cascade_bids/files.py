"""How a file comes to its place: whole, or not at all."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from cascade_bids.errors import CascadeBidsError


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Lend a hidden path beside the target, and move it there when it is complete.

    Parameters
    ----------
    target
        The file; its folder is made when missing, and what it held before is replaced.

    Yields
    ------
    Path
        Where to write; no other process uses this path, and it ends as the target does.

    Raises
    ------
    CascadeBidsError
        If the file can't be written; the target is as it was before.
    """
    # Not the process's number, which repeats across containers that share a folder.
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
