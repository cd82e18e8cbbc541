"""Contrast agent, as the name of an image and its sidecars tell it."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_KEYS = ("ContrastBolusIngredient", "ContrastBolusAgent", "ContrastBolusAgentSequence")
"""Entries of sidecars: that of BIDS first, then DICOM's, which converters copy."""
AGENTS = {
    *("gd", "gad", "gbca", "ce", "gdtpa", "gddtpa", "dtpa", "km", "t1c", "t1wc"),
    *("magnevist", "dotarem", "clariscan", "prohance", "multihance", "omniscan", "elucirem"),
}
"""Words for an agent in a label, beside those that begin with ``gado``; ``km`` is German."""
CONTRASTS = {"contrast", "contr", "cont", "con"}
"""Words that stand for an agent after one of `LINKS` or before one of `RELATED`."""
LINKS = {"post", "with", "plus", "w"}
RELATED = {"agent", "enhance", "enhanced", "enhancement", "enhancing"}
NEGATIONS = {"no", "non", "pre", "without", "wo", "sans", "ohne", "minus", "before"}
"""What stands before the agent in the label of an image that was made without it."""
SEQUENCES = {"t1", "t1w", "t2", "t2w", "flair", "mprage", "space", "spgr", "vibe", "flash"}
"""What may be written together with an agent, without capitals."""
ABSENT = {
    *("no", "non", "none", "not", "nil", "without", "n", "na", "nan", "null", "false"),
    *("undefined", "unknown", "unspecified", "unused"),
}
"""First words of an entry of a sidecar for an image that was made without it."""

_WORDS = sorted(AGENTS | CONTRASTS | LINKS | RELATED | NEGATIONS | SEQUENCES, key=len)[::-1]
_PARTS = re.compile(r"[A-Z\d]+(?=[A-Z][a-z])|[A-Z]?\d*[a-z][a-z\d]*|[A-Z\d]+")
"""Parts of a label by its capitals: ``3DPostGd`` is 3, D, Post and Gd."""
_AGENT_AT_END = re.compile(r"(?=gado|gad$|gd$)")
_LETTERS_OR_NUMBER = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)?")


def names_agent(label: str) -> bool:
    """Return whether a free label, of ``acq-`` or ``desc-``, says that a contrast agent was used.

    Parameters
    ----------
    label
        The label. Its words are told apart by capitals and digits.

    Returns
    -------
    bool
        False for a label that says the opposite, such as ``preGd``.

    Examples
    --------
    >>> [names_agent(label) for label in ("gd", "3DpostGad", "t1ce", "SPACE", "nogad")]
    [True, True, True, False, False]
    """
    words = [word for part in _PARTS.findall(label) for word in _split(part.lower())]
    return any(_is_agent_word(words, place) for place in range(len(words)))


def _split(part: str) -> list[str]:
    """Split what is written without capitals into words, those that are known by themselves."""
    if (words := _split_known(part)) is not None:
        return words
    found: list[str] = []
    for piece in _LETTERS_OR_NUMBER.findall(part):
        found += _split_known(piece) or _AGENT_AT_END.split(piece)
    return found


def _split_known(part: str) -> list[str] | None:
    """Split a part into known words and numbers; None if it holds anything else."""
    if not part or part.isdigit() or part.startswith("gado"):
        return [part] if part else []
    digits = len(part) - len(part.lstrip("0123456789"))
    starts = [part[:digits]] if digits else [word for word in _WORDS if part.startswith(word)]
    for start in starts:
        if (rest := _split_known(part[len(start) :])) is not None:
            return [start, *rest]
    return None


def _is_agent_word(words: Sequence[str], place: int) -> bool:
    """Return whether a word of a label stands for an agent that was used."""
    word, before = words[place], [*words[:place]]
    after = words[place + 1] if place + 1 < len(words) else ""
    if word in CONTRASTS:
        linked = bool(before) and before[-1] in LINKS
        found = linked or after in RELATED or words == ["contrast"]
    else:
        found = word in AGENTS or word.startswith("gado")
    while before and before[-1] in LINKS | AGENTS:
        before.pop()
    return found and not (before and before[-1] in NEGATIONS)


def is_agent(value: object) -> bool:
    """Return whether the value of ``ce-`` or of an entry of a sidecar stands for a contrast agent.

    Parameters
    ----------
    value
        The value: text, a number, or what else JSON holds.

    Returns
    -------
    bool
        False if it is empty or says that there was none.

    Examples
    --------
    >>> [is_agent(value) for value in ("GADOLINIUM", "NONE", "", None, ["no"], [])]
    [True, False, False, False, False, False]
    """
    if isinstance(value, list | dict):
        return any(map(is_agent, value.values() if isinstance(value, dict) else value))
    words = _LETTERS_OR_NUMBER.findall(str(value).lower())
    return bool(words) and words[0] not in ABSENT and words[0].strip("0.,") != ""


class Sidecars:
    """The sidecars of a dataset, which are read when an image needs them."""

    def __init__(self, root: Path) -> None:
        """Remember the absolute root of the dataset; nothing is read."""
        self._root = str(root)
        self._listed: dict[str, list[tuple[set[str], str, str]]] = {}
        self._entries: dict[str, dict[str, Any] | str] = {}

    def find_agent(self, image: Path) -> tuple[str | None, list[str]]:
        """Find the contrast agent of an image in its sidecars, by BIDS' inheritance principle.

        Parameters
        ----------
        image
            Absolute path of an image inside the dataset.

        Returns
        -------
        reason : str or None
            Which sidecar names an agent, as the end of a sentence on the image; None if none does.
        problems : list of str
            Sentences on sidecars that cannot be read.
        """
        entries: dict[str, tuple[Any, str]] = {}
        problems = []
        for path in self._of(image):
            found = self._read(path)
            if isinstance(found, str):
                problems.append(
                    f"{Path(path).name} cannot be read ({found}), so a contrast agent may be "
                    f"missed in {image.name}."
                )
            else:
                entries |= {key: (value, Path(path).name) for key, value in found.items()}
        for key, (value, name) in entries.items():
            if is_agent(value):
                return f"{name} names a contrast agent ({key}: {value!s:.60})", problems
        return None, problems

    def _of(self, image: Path) -> list[str]:
        """List the sidecars of an image, those that override others last."""
        parts = image.name.split(".nii")[0].split("_")
        said = set(parts)
        found: list[str] = []
        folder = str(image.parent)
        while folder.startswith(self._root):
            fitting = [
                (len(needed), path)
                for needed, suffix, path in self._list(folder)
                if suffix == parts[-1] and needed <= said
            ]
            found[:0] = [path for _, path in sorted(fitting)]
            folder = folder.rpartition("/")[0]
        return found

    def _list(self, folder: str) -> list[tuple[set[str], str, str]]:
        """List the JSON files of a folder: parts of the name, the last of them, and path."""
        if folder not in self._listed:
            _, _, names = next(os.walk(folder), ("", [], []))
            split = [(name, name[:-5].split("_")) for name in names if name.endswith(".json")]
            self._listed[folder] = [
                (set(parts), parts[-1], f"{folder}/{name}") for name, parts in split
            ]
        return self._listed[folder]

    def _read(self, path: str) -> dict[str, Any] | str:
        """Read the entries on contrast agents, or return why the file cannot be read."""
        if path not in self._entries:
            try:
                # Names of hospitals in other encodings do no harm.
                content = json.loads(Path(path).read_text(encoding="utf-8-sig", errors="replace"))
                if not isinstance(content, dict):
                    raise ValueError("another kind of JSON")
                self._entries[path] = {key: content[key] for key in _KEYS if key in content}
            except OSError as error:
                self._entries[path] = str(error.strerror)
            except ValueError:
                self._entries[path] = "it is no JSON object"
            except RecursionError:
                self._entries[path] = "it is nested too deeply"
        return self._entries[path]
