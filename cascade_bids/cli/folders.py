"""Folders that a command writes to."""

import os
from pathlib import Path

from cascade_bids.errors import UsageError


def written_folders(output_dir: Path | None, work_dir: Path | None) -> dict[str, Path]:
    """Resolve the folders that a run writes to, which need not exist but must be possible."""
    given = {"output_dir": output_dir, "--work-dir": work_dir}
    folders = {name: folder.resolve() for name, folder in given.items() if folder is not None}
    for name, folder in folders.items():
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise UsageError(f"{name} {folder}: {nearest} is no folder that can be written to")
    return folders


def require_outside(name: str, folder: Path, dataset: Path) -> None:
    """Refuse to write into the input."""
    if folder.is_relative_to(dataset):
        raise UsageError(
            f"{name} {folder} lies inside the input, which is never written to; "
            "choose a folder outside it"
        )
