"""Choose one image of each contrast among those of a session."""

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cascade_bids.bids.contrast_agent import Sidecars, is_agent, names_agent
from cascade_bids.bids.dataset import split_name
from cascade_bids.bids.filters import matches
from cascade_bids.bids.index import Image
from cascade_bids.files import why_unfetched
from cascade_bids.units import mm_per_unit

_UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""Errors that nibabel may raise on a damaged header."""

NOT_IN_FILTERS = "it does not match the filter file"
"""Why an image is passed over."""


def choose_image(
    images: Sequence[Image], filters: Mapping[str, Any], sidecars: Sidecars
) -> tuple[Image | None, list[str]]:
    """Choose among the images of one contrast.

    Images with a contrast agent, a magnetisation-transfer pulse, phases, parts of an image and
    images that do not match the filters are passed over. Of the others, the one whose longest voxel
    edge is the shortest is chosen, then the one with the smallest voxels, then the first by name.

    Parameters
    ----------
    images
        Images of the contrast in one session, in natural order.
    filters
        Entities that the image must have, as in `cascade_bids.bids.filters.load_filters`.
    sidecars
        Sidecars of the dataset.

    Returns
    -------
    image : Image or None
        The image; None if all are passed over. Its header is read only if there are several.
    sentences : list of str
        Which images were passed over and why, and by which rule one was chosen among several.
    """
    sentences: list[str] = []
    fitting: list[Image] = []
    for image in images:
        reason = _reason_against(image, filters)
        if reason is None:
            reason, problems = sidecars.find_agent(image.path)
            sentences += problems
        if reason is None:
            fitting.append(image)
        else:
            sentences.append(f"passed over {image.name}, {reason}.")
    if len(fitting) < 2:
        return (fitting[0] if fitting else None), sentences

    sized: list[tuple[tuple[float, float], Image]] = []
    for image in fitting:
        try:
            sized.append((_voxel_size(image.path), image))
        except _UNREADABLE as error:
            cause = str(error).replace(str(image.path), image.name)
            sentences.append(f"passed over {image.name}, its header cannot be read ({cause}).")
    if not sized:
        return fitting[0], [*sentences, f"took {fitting[0].name} all the same, as the first."]

    (edge, volume), chosen = min(sized, key=lambda one: one[0])  # the first of equals
    others = [(size, image.name) for size, image in sized if image is not chosen]
    if others:
        rule = f"whose longest voxel edge is the shortest ({edge:g} mm)"
        if any(size[0] == edge for size, _ in others):
            rule += f", with the smallest voxels ({volume:g} mm³)"
        if any(size == (edge, volume) for size, _ in others):
            rule += ", the first by name"
        names = ", ".join(name for _, name in others)
        sentences.append(f"took {chosen.name} among {len(sized)} images, {rule}; not {names}.")
    return chosen, sentences


def _reason_against(image: Image, filters: Mapping[str, Any]) -> str | None:
    """Return why an image is not a plain image of its contrast by its name, or None."""
    parts = split_name(image.name)
    labels = [label for key, label in parts if key in ("acq", "desc", "")]
    if is_agent(image.entities.get("ceagent")) or any(map(names_agent, labels)):
        return "it was made with a contrast agent"
    if image.entities.get("part", "mag") != "mag":
        return f"it holds the {image.entities['part']} part and not the magnitude"
    if image.entities.get("mt") == "on":
        return "it was made with a magnetisation-transfer pulse"
    if any(key == "chunk" for key, _ in parts):
        return "it is one of several parts of an image (chunk-)"
    if image.entities["suffix"] == "T2w" and any("flair" in label.lower() for label in labels):
        return "its name says both FLAIR and T2w; if it is a FLAIR, let it end in _FLAIR"
    if not matches(image.entities, filters):
        return NOT_IN_FILTERS
    return None


def _voxel_size(path: Path) -> tuple[float, float]:
    """Read the longest edge, mm, and the volume, mm³, of a voxel from the header.

    Both have 6 digits, so that equal ones tie.
    """
    if unfetched := why_unfetched(path):
        raise ValueError(f"it {unfetched}")
    if not path.is_file():  # reading a pipe would wait for ever
        raise ValueError("it is no file")
    image = nib.Nifti1Image.from_image(nib.load(path))
    edges = [abs(float(zoom)) * mm_per_unit(image) for zoom in image.header.get_zooms()[:3]]
    volume = math.prod(edges)
    if not (math.isfinite(volume) and volume > 0):
        raise ValueError(f"the voxels have a volume of {volume} mm³")
    return float(f"{max(edges):.6g}"), float(f"{volume:.6g}")
