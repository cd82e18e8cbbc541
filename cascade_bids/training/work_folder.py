"""Work folders of trainings: which training one belongs to."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade_bids.errors import UsageError
from cascade_bids.files import write_text
from cascade_bids.models.cases import Case

LAYOUT = 3
"""Of the files in a work folder; raised when they change and the version does not."""

SETTINGS = "settings.json"
"""File of the work folder that tells it."""

MINUTES = "max_minutes"
"""The setting that may grow: a training goes on for longer; None is no limit."""


def require_same(work_dir: Path, settings: Mapping[str, object]) -> None:
    """Refuse a work folder whose checkpoints are of another training.

    Raises
    ------
    UsageError
        When a setting differs.
    """
    path = work_dir / SETTINGS
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if before.get("layout") != LAYOUT:
        raise UsageError(
            f"{work_dir} belongs to a training of another version of cascade_bids; give another "
            "work folder, or empty it"
        )
    changed = [name for name in settings if settings[name] != before.get(name, settings[name])]
    if MINUTES in changed and _is_longer(settings[MINUTES], before[MINUTES]):
        changed.remove(MINUTES)
    if changed:
        raise UsageError(
            f"{work_dir} belongs to a training with other {', '.join(changed)}; give another work "
            "folder, or empty it"
        )


def _is_longer(minutes: object, before: object) -> bool:
    """Return whether a limit is above another."""
    if minutes is None or before is None:
        return minutes is None
    return float(str(minutes)) > float(str(before))


def claim(work_dir: Path, settings: Mapping[str, object]) -> bool:
    """Write settings down beside those that are there; errors as of `require_same`.

    Returns
    -------
    bool
        Whether the training that is there is to go on for longer.
    """
    require_same(work_dir, settings)
    path = work_dir / SETTINGS
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps({**before, **settings, "layout": LAYOUT}, indent=2))
    return MINUTES in settings and before.get(MINUTES, settings[MINUTES]) != settings[MINUTES]


def digest(content: bytes) -> str:
    """Return a digest that tells one mask, or file, from another."""
    return hashlib.sha256(content).hexdigest()


def digest_files(paths: Sequence[Path]) -> str:
    """Return a digest of files, one after the other."""
    return digest(b"".join(path.read_bytes() for path in paths))


def fingerprint(case: Case) -> str:
    """Return a digest that tells a scan from another, or from one prepared in another way."""
    found = hashlib.sha256()
    for name in ("volume.npy", "brain.npy", "share.npy", "reference.npy"):
        found.update((case.folder / name).read_bytes())
    return found.hexdigest()
