"""BIDS datasets: description, ignored files, entities and URIs."""

import json
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from bids.layout import parse_file_entities
from bids.layout.models import Config
from pathspec import GitIgnoreSpec

from cascade_bids.errors import UsageError


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
    """Read a JSON file that must hold one object, in any Unicode encoding.

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
        content = json.loads(path.read_bytes())  # bytes may start with a byte order mark
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The {what} {path} is not valid JSON: {error}. Correct it.") from error
    except RecursionError as error:
        raise UsageError(f"The {what} {path} is nested too deeply to be read.") from error
    if not isinstance(content, dict):
        raise UsageError(f"The {what} {path} must hold one JSON object {{…}}.")
    return content


def read_bidsignore(root: Path) -> GitIgnoreSpec:
    """Read which files of a dataset are not part of it.

    Parameters
    ----------
    root
        Root of the dataset.

    Returns
    -------
    pathspec.GitIgnoreSpec
        The patterns of its ``.bidsignore``, which are those of Git, for paths relative to the
        root; none if there is no such file.

    Raises
    ------
    UsageError
        If the file cannot be read or holds a pattern that Git does not know.
    """
    path = root / ".bidsignore"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() if path.exists() else []
        return GitIgnoreSpec.from_lines(lines)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{path} cannot be understood: {error}. Correct it.") from error


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


def show(text: object) -> str:
    r"""Return text in one line that can be printed.

    Parameters
    ----------
    text
        A label or path; names of folders may hold line breaks, and bytes of no encoding.

    Returns
    -------
    str
        The text, what can't be printed escaped.

    Examples
    --------
    >>> show("sub-a\nb")
    'sub-a\\nb'
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return "".join(shown)


def split_name(name: str) -> list[tuple[str, str]]:
    """Split the name of a file into keys and labels, also where BIDS does not know such a name.

    Parameters
    ----------
    name
        Name of a file.

    Returns
    -------
    list of tuple of str
        Key and label of each part but the last, the suffix; the key is empty where there is none.

    Examples
    --------
    >>> split_name("sub-01_acq-3d_new_FLAIR.nii.gz")
    [('sub', '01'), ('acq', '3d'), ('', 'new')]
    """
    parts = name.split("_")[:-1]
    pairs = [part.split("-", 1) if "-" in part else ("", part) for part in parts]
    return [(key, label) for key, label in pairs]


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
