"""Which training a work folder belongs to."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade_bids.errors import UsageError
from cascade_bids.report.page import write_whole
from cascade_bids.training.cases import Case

SETTINGS = "settings.json"
"""File of the work folder that tells it."""


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
    changed = [name for name in settings if settings[name] != before.get(name, settings[name])]
    if changed:
        raise UsageError(
            f"{work_dir} belongs to a training with other {', '.join(changed)}; give another work "
            "folder, or empty it"
        )


def claim(work_dir: Path, settings: Mapping[str, object]) -> None:
    """Write settings down beside those that are there; errors as of `require_same`."""
    require_same(work_dir, settings)
    path = work_dir / SETTINGS
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_whole(path, json.dumps({**before, **settings}, indent=2))


def digest(content: bytes) -> str:
    """Tell one mask, or file, from another."""
    return hashlib.sha256(content).hexdigest()


def digest_files(paths: Sequence[Path]) -> str:
    """Tell files, one after the other, from others."""
    return digest(b"".join(path.read_bytes() for path in paths))


def fingerprint(case: Case) -> str:
    """Tell a scan from another, or from the same prepared in another way."""
    found = hashlib.sha256()
    for name in ("volume.npy", "lesions.npy"):
        found.update((case.folder / name).read_bytes())
    return found.hexdigest()
