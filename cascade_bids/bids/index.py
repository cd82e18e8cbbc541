"""Index of the images of a BIDS dataset: where they lie, and what their names mean."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from bids.exceptions import BIDSValidationError
from bids.layout import BIDSLayout, BIDSLayoutIndexer
from bids.layout.validation import validate_root
from bids.utils import natural_sort
from sqlalchemy.exc import SQLAlchemyError

from cascade_bids.bids.dataset import parse_entities, show, split_name
from cascade_bids.config import CONTRASTS
from cascade_bids.errors import UsageError

_INDEXED = re.compile(r"/sub-[^/]+(?:/ses-[^/]+)?(?:/anat(?:/[^/.][^/]*\.nii(?:\.gz)?)?)?")
"""Paths inside a dataset that are looked at: images in anat/, and the folders above them.
Sidecars and other datatypes would cost time in large datasets."""
_PLACE = re.compile(r"/sub-([^/]+)(?:/ses-([^/]+))?/anat/([^/]+)")
"""Path of an image: labels of its folders, and its name."""
_EXTENSIONS = (".nii", ".nii.gz")
_OF_SUBJECT = re.compile(r"/sub-([0-9A-Za-z+]+)(/.+/)sub-\1(_[^/]+)")
"""Path of an image that starts with the participant of its folder."""

_Name = tuple[Mapping[str, str], str | None]
"""Entities of a name, and why it is not that of an image, if so."""


@dataclass(frozen=True)
class Image:
    """An image of a dataset with the BIDS entities of its name."""

    path: Path
    """Absolute path."""
    entities: Mapping[str, str]
    """Long name of each entity to its value."""

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name


@dataclass(frozen=True)
class PassedOver:
    """A NIfTI file among the images that is not taken for one of them."""

    path: Path
    """Absolute path."""
    subject: str
    """Label of its participant, by the folder."""
    session: str | None
    """Label of its session; None without one."""
    reason: str
    """Why, as the end of a sentence."""
    is_misplaced: bool = False
    """Whether it does not belong to the participant and session of its folders, by its name."""

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """Last part of the name, in lower case."""
        return self.name.split(".")[0].split("_")[-1].lower()


def why_no_label(label: str, prefix: str) -> str | None:
    """Return why a folder can't stand for a participant (``sub``) or session (``ses``), or None.

    Examples
    --------
    >>> why_no_label("01", "sub") is None
    True
    """
    if re.fullmatch(r"[0-9A-Za-z+]+", label):
        return None
    return (
        f'"{show(label)}" is no label that BIDS knows: rename the folder {prefix}-{show(label)} '
        "and its files, with letters and digits only"
    )


def index_images(
    root: Path,
    *,
    subjects: Sequence[str] | None,
    validate: bool,
    database_dir: Path | None,
    suffixes: Sequence[str] = CONTRASTS,
) -> tuple[list[Image], list[PassedOver]]:
    """List the anatomical images in a dataset, and the files beside them.

    pybids decides which names are valid and what they mean. The folders are listed here, and only
    those that may hold images: the index of pybids is slow in large datasets.

    Parameters
    ----------
    root
        Root of the dataset, absolute.
    subjects
        Participants to index; None for all. A database always holds all of them, since later runs
        use it too.
    validate
        Whether files with names that are not valid in BIDS are ignored.
    database_dir
        Folder of the pybids database to create or reuse, if any.
    suffixes
        Suffixes of the images: the four contrasts, or those of masks.

    Returns
    -------
    list of Image
        In natural order of their paths.
    list of PassedOver
        Other NIfTI files in the same folders, in the same order: those of another suffix, with a
        name that is not valid, or with a name of another participant or session than the folder.

    Raises
    ------
    UsageError
        If the dataset is not valid, or the database cannot be used.
    """
    try:
        if database_dir is None:
            validate_root(root, validate)
            paths = list(_walk(root, subjects))
        else:
            paths = _query_database(root, validate, database_dir)
    except BIDSValidationError as error:
        raise UsageError(
            f"{root} is not a valid BIDS dataset: {error} "
            "(--skip-bids-validation reads it all the same.)"
        ) from error

    validator = BIDSLayoutIndexer(validate=validate).validator

    @cache
    def parse(path: str) -> _Name:
        entities = parse_entities(PurePath(path[1:]))
        valid = validator is None or validator.is_bids(path)
        return entities, _why_other_name(entities, suffixes, valid)

    files = [
        _classify(root, place, parse)
        for path in natural_sort(
            sorted(paths)
        )  # sorted: equal numbers, as 1 and 01, in fixed order
        if (place := _PLACE.fullmatch(path))
    ]
    images = [file for file in files if isinstance(file, Image)]
    return images, [file for file in files if isinstance(file, PassedOver)]


def _classify(
    root: Path, place: re.Match[str], parse: Callable[[str], _Name]
) -> Image | PassedOver:
    """Tell whether a file in a folder of images is one, by its name and its folders."""
    subject, in_session, name = place.groups()
    entities, other_name = parse(_as_anyone(place[0]))
    session = in_session or entities.get("session")
    file = Path(f"{root}{place[0]}")
    if misplaced := why_misplaced(subject, in_session, name):
        return PassedOver(file, subject, session, misplaced, is_misplaced=True)
    if other_name:
        return PassedOver(file, subject, session, other_name)
    # The whole names of the folders, of which pybids may take a part.
    labels = {"subject": subject} | ({"session": session} if session else {})
    return Image(file, {**entities, **labels})


def _as_anyone(path: str) -> str:
    """Return the path that a file of participant 0 would have, which means the same but for that.

    So names that differ in the participant alone are parsed once.
    """
    named = _OF_SUBJECT.fullmatch(path)
    return f"/sub-0{named[2]}sub-0{named[3]}" if named else path


def why_misplaced(subject: str, session: str | None, name: str) -> str | None:
    """Return why a file can't be of the participant and session of its folders.

    Parameters
    ----------
    subject, session
        Labels of the folders; None without a session.
    name
        Name of the file, which need not tell a participant or session.

    Returns
    -------
    str or None
        The reason, as the end of a sentence; None if it can.

    Examples
    --------
    >>> why_misplaced("01", None, "sub-01_ses-2_FLAIR.nii.gz") is None
    True
    """
    folders = {"sub": subject, "ses": session}
    says = [(prefix.lower(), label) for prefix, label in split_name(name) if prefix]
    for prefix, label in [*folders.items(), *says]:
        if prefix in folders and label and (reason := why_no_label(label, prefix)):
            return reason
    for prefix, label in says:
        folder = folders.get(prefix)
        if folder is not None and label != folder:
            return (
                f"its name says {prefix}-{label} and its folder {prefix}-{folder}, so it is not "
                "known whose it is; move or rename it"
            )
    return None


def _why_other_name(
    entities: Mapping[str, str], suffixes: Sequence[str], valid: bool
) -> str | None:
    """Return why a name is not that of an image with one of the suffixes, or None."""
    suffix = entities.get("suffix")
    if suffix is None or entities.get("extension") not in _EXTENSIONS:
        return "BIDS does not know such a name"
    meant = [right for right in suffixes if right.lower() == suffix.lower() and right != suffix]
    if meant:
        return f"its name must end in {meant[0]}, not {suffix}"
    if not valid and "space" in entities:
        return "a raw image has no space- in its name (--skip-bids-validation takes it)"
    if not valid:
        return "BIDS does not know such a name (--skip-bids-validation takes it)"
    return None if suffix in suffixes else f"its name ends in {suffix}"


def _walk(root: Path, subjects: Sequence[str] | None) -> Iterator[str]:
    """Yield the files that may be images, as paths below the root that start with a slash.

    As in pybids, links are followed and a folder that cannot be read is empty.
    """
    tops = [root] if subjects is None else [root / f"sub-{subject}" for subject in subjects]
    for top in tops:
        for folder, folders, files in os.walk(top, followlinks=True):
            inside = folder[len(str(root)) :]
            folders[:] = [name for name in folders if _INDEXED.fullmatch(f"{inside}/{name}")]
            yield from (path for name in files if _INDEXED.fullmatch(path := f"{inside}/{name}"))


def _query_database(root: Path, validate: bool, database_dir: Path) -> list[str]:
    """Query the pybids database of a dataset, which is created when missing; as `_walk`."""
    if database_dir.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"The database folder {database_dir} lies inside the input dataset {root}, which is "
            "never written to. Give another folder to --bids-database-dir."
        )
    database = database_dir / "layout_index.sqlite"
    try:
        if not database.exists():
            database_dir.mkdir(parents=True, exist_ok=True)
            indexer = BIDSLayoutIndexer(  # without validation: names that are wrong are told
                index_metadata=False,
                ignore=[re.compile(rf"^(?!{_INDEXED.pattern}$)")],
            )
            # Array jobs may share the folder, so the database is moved there once it is complete.
            with tempfile.TemporaryDirectory(dir=database_dir) as scratch:
                made = BIDSLayout(root, validate=validate, indexer=indexer, database_path=scratch)
                made.connection_manager.session.close()
                (Path(scratch) / database.name).replace(database)
        layout = BIDSLayout(root, validate=validate, database_path=database_dir)
    except BIDSValidationError:
        raise
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise UsageError(
            f"The database {database} cannot be used: {error}. Delete it, or give another folder "
            "to --bids-database-dir."
        ) from error
    if Path(layout.root) != root:
        raise UsageError(
            f"The database {database} is of another dataset, {layout.root}, not of {root}. "
            "Delete it, or give another folder to --bids-database-dir."
        )
    files = layout.get(return_type="filename")
    layout.connection_manager.session.close()
    return [f"/{Path(file).relative_to(root).as_posix()}" for file in files]
