"""The result of a scan in the derivatives, and how a new one replaces it.

A result is what is written of a session, whichever of its runs the FLAIR is from. It is complete
when its statistics are there.
"""

import contextlib
import glob
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cascade_bids.bids.change_outputs import change_paths
from cascade_bids.bids.dataset import parse_entities
from cascade_bids.bids.outputs import output_path, sidecar_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, TEMPLATE_SPACE
from cascade_bids.files import alone, clear_broken, replace_together, write_text

DID_NOT_FINISH = "did not finish"
"""Why a run has no result that neither failed nor is over."""


def find_result(root: Path, scan: Scan) -> tuple[Scan, Path] | None:
    """Find the statistics of a session.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        A scan of the session.

    Returns
    -------
    tuple or None
        The scan with the run that its files have in their names, and its statistics, which may be a
        link to a file that was not fetched; None if there are none.
    """
    found = _stats(root, scan)
    if not found:
        return None
    own = output_path(root, scan, "stats")
    if scan.stem is not None or own in found:
        return scan, own
    return replace(scan, run=parse_entities(found[0].relative_to(root)).get("run")), found[0]


def start_result(root: Path, scan: Scan) -> None:
    """Note that a run is at work on a scan, and remove what others left of it that is no result.

    The note stays until `replace_result`.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        The scan.
    """
    note_failure(root, scan, DID_NOT_FINISH)
    folder = output_path(root, scan, "stats").parent
    if scan.stem is None:
        # The folder shows the group level that the scan was started but has no result.
        folder.parent.mkdir(parents=True, exist_ok=True)
    for path in {root, folder, output_path(root, scan, "figure", desc="any").parent}:
        clear_broken(path)
    with changing(root, scan):
        if find_result(root, scan) is None:
            for figure in _figures(root, scan):
                figure.unlink(missing_ok=True)


def replace_result(root: Path, scan: Scan, contents: Mapping[Path, Path | str]) -> None:
    """Replace the result of a session as one step, so that no two are ever mixed.

    `root` and `scan` are as of `start_result`.

    Parameters
    ----------
    contents
        Target of each output to the file that is copied there or its text, the statistics last.

    Raises
    ------
    CascadeBidsError
        If a file cannot be written. If there is no room for a file, the earlier result stays.
    """
    with changing(root, scan):
        images = [*_images(root, scan), *_figures(root, scan)]
        images += _comparison(root, scan)
        outdated = [path for path in images if path not in contents]
        # The page shows what goes now. It is written again when the run is over.
        page = output_path(root, scan, "report")
        replace_together(contents, [page, *_stats(root, scan), *outdated])
        clear_failure(root, scan)


@contextlib.contextmanager
def changing(root: Path, scan: Scan) -> Iterator[None]:
    """Keep other runs from changing the files of a participant.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        A scan of the participant.

    Yields
    ------
    None
        When no other run is at it.
    """
    lock = root / "logs" / f"{output_path(root, scan, 'report').stem}.lock"
    with alone(lock):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def note_failure(root: Path, scan: Scan, cause: str) -> None:
    """Note that the last run of a scan has no result, and why.

    `root` and `scan` are as of `start_result`.

    Parameters
    ----------
    cause
        What the run did: ``did not finish``, ``failed: …``.
    """
    write_text(_note(root, scan), f"{cause}\n")


def clear_failure(root: Path, scan: Scan) -> None:
    """Remove the note of `note_failure`, if there is one; `root` and `scan` are as there."""
    _note(root, scan).unlink(missing_ok=True)


def read_failure(root: Path, scan: Scan) -> str | None:
    """Return why the last run of a scan has no result; None if it has one, or none was started.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        The scan; its run does not matter.

    Returns
    -------
    str or None
        What the run did, from `note_failure`. Statistics are then those of an earlier run.
    """
    note = _note(root, scan)
    try:
        return note.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"left a note, {note}, that can't be read ({error.strerror})"


def _note(root: Path, scan: Scan) -> Path:
    return root / "logs" / f"unfinished-{replace(scan, run=None).label}.txt"


def _any_run(scan: Scan) -> list[Scan]:
    """Return scans whose outputs are patterns that match those of a session of any run."""
    if scan.stem is not None:
        return [replace(scan, stem=glob.escape(scan.stem))]
    # A folder may have a name such as sub-*, which must not match those of others.
    session = scan.session and glob.escape(scan.session)
    own = replace(scan, subject=glob.escape(scan.subject), session=session)
    return [replace(own, run=None), replace(own, run="*")]


def _glob(root: Path, scan: Scan, name: str, **entities: str) -> list[Path]:
    pattern = output_path(Path(), scan, name, **entities).as_posix()
    # That of Path passes over links to nothing.
    return sorted(root / path for path in glob.glob(pattern, root_dir=root))  # noqa: PTH207


def _stats(root: Path, scan: Scan) -> list[Path]:
    return [path for one in _any_run(scan) for path in _glob(root, one, "stats")]


def _figures(root: Path, scan: Scan) -> list[Path]:
    return [path for one in _any_run(scan) for path in _glob(root, one, "figure", desc="*")]


def _comparison(root: Path, scan: Scan) -> list[Path]:
    """Find what a comparison with other sessions wrote of a session, and its tables.

    The numbers of the lesions stay, for the next comparison.
    """
    if scan.stem is not None:
        return []
    shared = [output_path(root, scan, name) for name in ("change_table", "change_stats")]
    found = [shared[0], sidecar_path(shared[0]), shared[1]]
    for one in _any_run(scan):
        for name, path in change_paths(Path(), one).items():
            if not name.startswith("tracked"):
                kept = glob.glob(path.as_posix(), root_dir=root)  # noqa: PTH207
                found += [root / match for match in sorted(kept)]
                found += [sidecar_path(root / match) for match in sorted(kept)]
    return found


def _images(root: Path, scan: Scan) -> list[Path]:
    """Find all images, tables and transforms of a session, and their sidecars."""
    described: list[tuple[str, dict[str, str]]] = [
        *((name, {}) for name in ("lesion_probseg", "lesion_dseg", "lesion_table", "brain_mask")),
        *(("lesion_mask", {"space": space}) for space in ("FLAIR", "T1w", TEMPLATE_SPACE)),
        *(("preproc", {"contrast": contrast}) for contrast in CONTRASTS),
    ]
    pairs = [(contrast, "FLAIR") for contrast in CONTRASTS[1:]]
    pairs += [("FLAIR", TEMPLATE_SPACE), (TEMPLATE_SPACE, "FLAIR")]
    found = []
    for one in _any_run(scan):
        for name, entities in described:
            for path in _glob(root, one, name, **entities):
                found += [path, sidecar_path(path)]
        for source, target in pairs:
            found += _glob(root, one, "xfm", from_=source, to=target)
    return found
