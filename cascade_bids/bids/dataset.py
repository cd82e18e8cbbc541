"""BIDS datasets: description, index, and URIs of files."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from bids.exceptions import BIDSValidationError
from bids.layout import BIDSLayout, BIDSLayoutIndexer, parse_file_entities
from bids.layout.models import Config
from bids.layout.validation import validate_root
from bids.utils import natural_sort
from sqlalchemy.exc import SQLAlchemyError

from cascade_bids.config import CONTRASTS
from cascade_bids.errors import UsageError

_INDEXED = re.compile(r"/sub-[^/]+(?:/ses-[^/]+)?(?:/anat(?:/[^/.][^/]*\.nii(?:\.gz)?)?)?")
"""Paths inside a dataset that are looked at: images in anat/, and the folders above them.
Sidecars and other datatypes would cost time in large datasets."""
_EXTENSIONS = (".nii", ".nii.gz")
_OF_SUBJECT = re.compile(r"/sub-([0-9A-Za-z+]+)(/.+/)sub-\1(_[^/]+)")
"""Path of an image that starts with the participant of its folder."""


def read_description(bids_dir: Path) -> dict[str, Any]:
    """Read the dataset_description.json of a dataset.

    Parameters
    ----------
    bids_dir
        Root of the dataset.

    Returns
    -------
    dict
        The description.

    Raises
    ------
    UsageError
        If the folder is missing or empty, or its description is missing or is not JSON.
    """
    if not bids_dir.is_dir():
        raise UsageError(f"{bids_dir} is not a folder. Give the root of a BIDS dataset.")
    path = bids_dir / "dataset_description.json"
    if not path.is_file():
        if not any(bids_dir.iterdir()):
            raise UsageError(f"{bids_dir} is empty. Is the dataset mounted there?")
        raise UsageError(
            f"{bids_dir} has no dataset_description.json, so it is not the root of a BIDS "
            "dataset. Give the root, or write that file with at least a Name and a BIDSVersion."
        )
    return read_json(path, "dataset description")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON file that must hold one object.

    Parameters
    ----------
    path
        The file.
    what
        What the file is, for error messages.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    UsageError
        If the file cannot be read, is not JSON or holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The {what} {path} is not valid JSON: {error}. Correct it.") from error
    if not isinstance(content, dict):
        raise UsageError(f"The {what} {path} must hold one JSON object {{…}}.")
    return content


def bids_uri(dataset: str, root: Path, path: Path) -> str:
    """Build the BIDS URI of a file.

    Parameters
    ----------
    dataset
        Name of the dataset, as in DatasetLinks; empty for the dataset that holds the URI.
    root
        Root of that dataset.
    path
        A file inside it.

    Returns
    -------
    str
        The URI.

    Raises
    ------
    ValueError
        If the file is not inside the dataset.

    Examples
    --------
    >>> bids_uri("raw", Path("/data"), Path("/data/sub-01/anat/sub-01_FLAIR.nii.gz"))
    'bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz'
    """
    return f"bids:{dataset}:{path.absolute().relative_to(root.absolute()).as_posix()}"


def parse_entities(relative: PurePath) -> dict[str, str]:
    """Parse the BIDS entities of a path inside a dataset.

    Parameters
    ----------
    relative
        Path relative to the root of the dataset. Only this part is parsed, since a folder above
        the dataset may look like an entity (``/scratch/run-3/dataset``).

    Returns
    -------
    dict
        Long name of each entity to its value, with zero padding.

    Examples
    --------
    >>> parse_entities(PurePath("sub-01/anat/sub-01_run-02_T1w.nii.gz"))["run"]
    '02'
    """
    found = parse_file_entities(f"/{relative.as_posix()}", entities=known_entities())
    return {name: str(value) for name, value in found.items()}


@cache
def known_entities() -> tuple[Any, ...]:
    """Return the entities that pybids knows.

    Returns
    -------
    tuple of bids.layout.models.Entity
        Each with the pattern that finds it in a path.
    """
    configs = [Config.load(name) for name in ("bids", "derivatives")]
    return tuple({name: e for config in configs for name, e in config.entities.items()}.values())


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


def index_images(
    root: Path,
    *,
    subjects: Sequence[str] | None,
    validate: bool,
    database_dir: Path | None,
    suffixes: Sequence[str] = CONTRASTS,
) -> list[Image]:
    """List the anatomical images in a dataset.

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

    Raises
    ------
    UsageError
        If the dataset is not valid, or the database cannot be used.
    """
    validator = None
    try:
        if database_dir is None:
            validate_root(root, validate)
            validator = BIDSLayoutIndexer(validate=validate).validator
            paths = list(_walk(root, subjects))
        else:
            paths = _query_database(root, suffixes, validate, database_dir)
    except BIDSValidationError as error:
        raise UsageError(
            f"{root} is not a valid BIDS dataset: {error} "
            "(--skip-bids-validation reads it all the same.)"
        ) from error

    @cache
    def parse(path: str) -> dict[str, str]:
        valid = validator is None or validator.is_bids(path)
        return parse_entities(PurePath(path[1:])) if valid else {}

    images = []
    for path in natural_sort(sorted(paths)):  # sorted: equal numbers, as 1 and 01, in a fixed order
        # Names that differ in the participant only are parsed once.
        named = _OF_SUBJECT.fullmatch(path)
        entities = parse(f"/sub-0{named[2]}sub-0{named[3]}" if named else path)
        if entities.get("suffix") in suffixes and entities["extension"] in _EXTENSIONS:
            label = {"subject": named[1]} if named else {}
            images.append(Image(Path(f"{root}{path}"), entities | label))
    return images


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


def _query_database(
    root: Path, suffixes: Sequence[str], validate: bool, database_dir: Path
) -> list[str]:
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
            indexer = BIDSLayoutIndexer(
                validate=validate,
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
    files = layout.get(return_type="filename", suffix=list(suffixes), extension=list(_EXTENSIONS))
    layout.connection_manager.session.close()
    return [f"/{Path(file).relative_to(root).as_posix()}" for file in files]
