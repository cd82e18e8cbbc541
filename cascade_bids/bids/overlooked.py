"""Files that seem to be a FLAIR, but are no image of the dataset."""

import os
from collections.abc import Container
from pathlib import Path

_ENDINGS = (".nii", ".nii.gz")
_PAIR = (".img", ".hdr", ".img.gz", ".hdr.gz")
_BESIDE = (".json", ".tsv", ".txt", ".bval", ".bvec")
"""Endings of files that belong to an image."""
_MOST = 5
"""So many files are named."""


def tell_overlooked(place: Path, known: Container[Path]) -> str:
    """Tell which files of a participant or session seem to be a FLAIR, and why they are not taken.

    Parameters
    ----------
    place
        Folder of the participant or session, which is walked.
    known
        Files that are images, or of which it is told elsewhere why they are none.

    Returns
    -------
    str
        Sentences, each with a space behind it; empty if there are no such files.
    """
    found = []
    for folder, folders, files in os.walk(place):
        folders.sort()
        here = Path(folder)
        found += [
            f"{here / name} is a folder with the name of an image; put the image in its place."
            for name in folders
            if name.endswith(_ENDINGS)
        ]
        found += [
            f"{here / name} is passed over: {_why(here / name, place)}."
            for name in sorted(files)
            if _seems_flair(name) and here / name not in known
        ]
    rest = [f"So are {len(found) - _MOST} more."] if len(found) > _MOST else []
    return "".join(f"{sentence} " for sentence in [*found[:_MOST], *rest])


def _seems_flair(name: str) -> bool:
    lower = name.lower()
    return "flair" in lower and not lower.startswith(".") and not lower.endswith(_BESIDE)


def _why(path: Path, place: Path) -> str:
    """Return why a file is no image of the dataset, as the end of a sentence."""
    lower = path.name.lower()
    if lower.endswith(_PAIR):
        return "it is one of a pair of files (.img, .hdr); convert both to one .nii.gz"
    if not lower.endswith(_ENDINGS):
        return "its name does not end in .nii or .nii.gz; convert it"
    if not path.name.endswith(_ENDINGS):
        return "its name must end in .nii or .nii.gz, in lower case; rename it"
    folders = path.parent.relative_to(place.parent).parts
    if "ses-" in folders:
        return "the folder ses- has no label; rename it to ses-<label>"
    if path.parent.name != "anat" or "anat" in folders[:-1]:
        return "it does not lie in a folder anat/ of a participant or session; move it there"
    return "it is not in the index of the dataset"
