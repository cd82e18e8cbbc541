"""Contrast agent, as the name of an image and its sidecars tell it."""

import json
import os
import re
from pathlib import Path
from typing import Any

_KEYS = ("ContrastBolusIngredient", "ContrastBolusAgent", "ContrastBolusAgentSequence")
"""Entries of sidecars: that of BIDS first, then DICOM's, which converters copy."""
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
"""Words of a label by its capitals and digits: ``3DPostGd`` is 3, D, Post and Gd."""
_SEQUENCE = "t ?[12]|flair|mprage|space|spgr|vibe|flash"
_AGENT = re.compile(
    rf"gado|\bgbca\b|ga?d\b|\bga?d(?={_SEQUENCE})"
    rf"|\bce\b|\bce(?={_SEQUENCE})|(?:\bw|post|{_SEQUENCE})ce\b"
    r"|(?:post|with|plus) ?con(?:trast|tr|t)?\b|contrast ?(?:agent|enhance)|^contrast$"
)
"""A contrast agent in the words of a label, in lower case."""
_WITHOUT = re.compile(r"(?:no|non|pre|without|wo|sans|ohne|minus|before) ?$")
"""What stands before it in the label of an image that was made without it."""
_NOTHING = re.compile(r"(?:no|non|none|not|nil|without)\b.*|n|n/?a|null|false|0*|-*")
"""Values, in lower case, of an entry for an image that was made without it."""


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
    words = " ".join(_WORDS.findall(label)).lower()
    return any(not _WITHOUT.search(words[: found.start()]) for found in _AGENT.finditer(words))


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
    return value is not None and not _NOTHING.fullmatch(str(value).strip().lower())


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
