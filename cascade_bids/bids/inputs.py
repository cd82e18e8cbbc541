"""Find the scans of a BIDS dataset: their images, and why a scan cannot be processed."""

import logging
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
from bids.utils import natural_sort
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cascade_bids.bids.dataset import (
    Image,
    index_images,
    known_entities,
    parse_entities,
    read_description,
    read_json,
)
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, InputConfig
from cascade_bids.errors import StartError, UsageError
from cascade_bids.units import mm_per_unit

logger = logging.getLogger(__name__)

_QUERIES = tuple(contrast.lower() for contrast in CONTRASTS)
_MASK_SPACES = {"FLAIR": "FLAIR", "T1w": "T1w", None: "T1w"}
"""Space entity of a brain mask to the contrast it is aligned with; fMRIPrep omits T1w."""
_UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""Errors that nibabel may raise on a damaged header."""


def find_scans(config: InputConfig) -> list[Scan]:
    """Find the scans of a BIDS dataset and choose one image for each contrast.

    A scan is a participant's session that has any of the four contrasts. FLAIR is required: a
    scan without it is returned with a ``problem``; so is a participant without any image, unless
    the settings select sessions but no participants. Of several images of one contrast the one with
    the smallest voxels is used, then the first by name. Images made with a contrast agent, phase
    images and images with a magnetisation-transfer pulse are never used. Of several images, one
    with an unreadable header is ignored; the only image of a contrast is not read here, so that
    the scan fails later with the reader's message and the other scans are processed.

    Parameters
    ----------
    config
        The dataset, and which of its images are used.

    Returns
    -------
    list of Scan
        In natural order of participant and session (``sub-2`` before ``sub-10``).

    Raises
    ------
    UsageError
        If the dataset, a named participant or session, or a derivatives folder is missing.
    StartError
        If no participant has an image of any contrast.
    """
    root = config.bids_dir.absolute()
    description = read_description(root)
    subjects = _select("participant", "sub-", config.participant_labels, [root], where=root)
    if not subjects:
        raise UsageError(
            f"{root} has no participant: no folder named sub-<label>. "
            "Give the folder that holds the sub- folders as bids_dir."
        )
    folders = [root / f"sub-{subject}" for subject in subjects] if config.session_labels else []
    sessions = _select("session", "ses-", config.session_labels, folders, where=root)
    _check_derivatives(config.derivatives)

    images = index_images(
        root,
        subjects=subjects if config.participant_labels else None,
        # Only names of raw datasets can be validated.
        validate=config.validate and description.get("DatasetType", "raw") == "raw",
        database_dir=config.database_dir,
    )
    session_filter = {k: v for k, v in config.filters.get("flair", {}).items() if k == "session"}
    order = {subject: number for number, subject in enumerate(subjects)}
    groups: dict[tuple[str, str | None], list[Image]] = {}
    for image in images:
        subject, session = image.entities.get("subject"), image.entities.get("session")
        if (
            subject in order
            and (not config.session_labels or session in sessions)
            and _matches(image.entities, session_filter)  # a filter of sessions selects scans
        ):
            groups.setdefault((subject, session), []).append(image)
    scans = [_make_scan(config, *key, found) for key, found in groups.items()]

    present = {scan.subject for scan in scans}
    absent = [subject for subject in subjects if subject not in present]
    hint = _hint_no_image(config)
    if not (scans or config.participant_labels):
        raise StartError(f"No scan in {root} can be processed. {hint}")
    if not config.participant_labels and (config.session_labels or session_filter):
        # Participants need not have the selected sessions.
        if absent:
            logger.warning("No image is found for participant %s. %s", _shorten(absent), hint)
        return scans
    for subject in absent:
        problem = f"No image is found. {hint}"
        if not re.fullmatch(r"[0-9A-Za-z+]+", subject):
            problem = (
                f'"{subject}" is no label that BIDS knows: rename the folder sub-{subject} and its '
                "files, with letters and digits only."
            )
        scans.append(Scan(subject, None, None, problem=problem))
    return sorted(scans, key=lambda scan: order[scan.subject])


def load_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Load a filter file in the format of fMRIPrep's ``--bids-filter-file``.

    Each key is a contrast in lower case, each value maps BIDS entities (by their long names, as
    in pybids) to the value that an image must have, or a list of allowed values. ``null`` means
    that the entity must be absent, ``"*"`` that it must be present with any value.

    Parameters
    ----------
    path
        A JSON file such as ``{"flair": {"acquisition": "highres", "run": null}}``.

    Returns
    -------
    dict
        Contrast in lower case to entities to required values.

    Raises
    ------
    UsageError
        If the file is not JSON of that format, or names a query or entity that does not exist.
    """
    content = read_json(path, "filter file")
    unknown = sorted(set(content) - set(_QUERIES))
    if unknown:
        raise UsageError(
            f"Unknown query in the filter file {path}: {', '.join(unknown)}. "
            f"Allowed are {', '.join(_QUERIES)}."
        )
    names = sorted(entity.name for entity in known_entities())
    for query, wanted in content.items():
        if not isinstance(wanted, dict):
            raise UsageError(f'"{query}" in the filter file {path} must be an object {{…}}.')
        for name, value in wanted.items():
            if name not in names:
                raise UsageError(
                    f'Unknown entity "{name}" under "{query}" in the filter file {path}. '
                    f"Allowed are {', '.join(names)}."
                )
            options = value if isinstance(value, list) else [value]
            if not all(option is None or isinstance(option, str | int) for option in options):
                raise UsageError(
                    f'"{query}": "{name}" in the filter file {path} must be text, a number, '
                    "null (absent), * (any) or a list of these."
                )
    return content


def _select(
    what: str, prefix: str, labels: Sequence[str], folders: Sequence[Path], where: Path
) -> list[str]:
    """Return the selected labels, given with or without the prefix, or all in the folders."""
    known: set[str] = set()
    for folder in folders:
        _, names, _ = next(os.walk(folder), ("", [], []))
        known |= {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    wanted = list(dict.fromkeys(label.removeprefix(prefix) for label in labels))
    unknown = [label for label in wanted if label not in known]
    if unknown:
        has = _shorten(natural_sort(sorted(known))) if known else f"no {what} at all"
        raise UsageError(f"Unknown {what}: {', '.join(unknown)}. {where} has {has}.")
    return natural_sort(wanted or sorted(known))


def _shorten(labels: Sequence[str], most: int = 20) -> str:
    """Format labels for a message, only the first ones if there are many."""
    rest = f", … ({len(labels)} in all)" if len(labels) > most else ""
    return ", ".join(labels[:most]) + rest


def _check_derivatives(derivatives: Mapping[str, Path]) -> None:
    for name, path in derivatives.items():
        if not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or name == "raw":
            raise UsageError(
                f'"{name}" cannot name derivatives (--derivatives NAME=PATH): use letters and '
                "digits, and not raw, which is the input dataset."
            )
        if not path.is_dir():
            raise UsageError(f"The derivatives folder {path} (--derivatives {name}) is missing.")


def _hint_no_image(config: InputConfig) -> str:
    """Return advice for a participant or a dataset without images."""
    hint = f"A scan needs an anat/ folder with {', '.join(CONTRASTS)} images, FLAIR at least."
    if config.session_labels or config.filters:
        hint += " The session labels and the filter file narrow what is taken."
    if config.validate:
        hint += " Names that BIDS does not know are passed over (--skip-bids-validation)."
    if config.database_dir:
        hint += f" If {config.database_dir} is older than the images, delete it."
    return hint


def _make_scan(
    config: InputConfig, subject: str, session: str | None, images: Sequence[Image]
) -> Scan:
    """Choose the images of one session."""
    chosen: dict[str, Image] = {}
    choices: list[str] = []
    for contrast in CONTRASTS:
        candidates = [image for image in images if image.entities["suffix"] == contrast]
        image, sentences = _choose(candidates, config.filters.get(contrast.lower(), {}))
        choices += [f"{contrast}: {sentence}" for sentence in sentences]
        if image is not None:
            chosen[contrast] = image

    mask = _find_brain_mask(config.derivatives, subject, session, chosen)
    if mask is not None:
        choices.append(f"Brain mask: took {mask.path.name} of {mask.derivatives} ({mask.space}).")
    elif config.derivatives:
        choices.append(f"Brain mask: none for this scan in {', '.join(config.derivatives)}.")

    problem = None
    if "FLAIR" not in chosen:
        reasons = " ".join(choice for choice in choices if choice.startswith("FLAIR: "))
        problem = (
            f"No FLAIR image can be used, and FLAIR is required. {reasons or 'There is none.'} "
            f"Add one to {images[0].path.parent}, or leave this scan out."
        )
    scan = Scan(
        subject,
        session,
        run=chosen["FLAIR"].entities.get("run") if "FLAIR" in chosen else None,
        images={contrast: image.path for contrast, image in chosen.items()},
        choices=tuple(choices),
        brain_mask=mask.path if mask else None,
        problem=problem,
        brain_mask_space=mask.space if mask else None,
    )
    for choice in choices:
        logger.info("%s: %s", scan.label, choice)
    return scan


def _choose(images: Sequence[Image], filters: Mapping[str, Any]) -> tuple[Image | None, list[str]]:
    """Choose among the images of one contrast; return it, and the reasons as sentences."""
    sentences: list[str] = []
    fitting: list[Image] = []
    for image in images:
        reason = _reason_against(image, filters)
        if reason is None:
            fitting.append(image)
        else:
            sentences.append(f"passed over {image.name}, {reason}.")
    if len(fitting) < 2:
        return (fitting[0] if fitting else None), sentences

    sized: list[tuple[float, Image]] = []
    for image in fitting:
        try:
            sized.append((_voxel_mm3(image.path), image))
        except _UNREADABLE as error:
            cause = str(error).replace(str(image.path), image.name)
            sentences.append(f"passed over {image.name}, its header cannot be read ({cause}).")
    if not sized:
        return fitting[0], [*sentences, f"took {fitting[0].name} all the same, as the first."]

    finest = min(volume for volume, _ in sized)
    chosen, *equals = [image for volume, image in sized if volume == finest]
    others = ", ".join(image.name for _, image in sized if image is not chosen)
    if others:
        rule = f"with the finest voxels ({finest:g} mm³)" + (" the first by name" if equals else "")
        sentences.append(f"took {chosen.name} among {len(sized)} images, {rule}; not {others}.")
    return chosen, sentences


def _reason_against(image: Image, filters: Mapping[str, Any]) -> str | None:
    """Return why an image is not a plain image of its contrast, or None."""
    if "ceagent" in image.entities:
        return "it was made with a contrast agent"
    if image.entities.get("part", "mag") != "mag":
        return f"it holds the {image.entities['part']} part and not the magnitude"
    if image.entities.get("mt") == "on":
        return "it was made with a magnetisation-transfer pulse"
    if not _matches(image.entities, filters):
        return "it does not match the filter file"
    return None


def _matches(entities: Mapping[str, str], filters: Mapping[str, Any]) -> bool:
    """Return whether entities match a filter: None is absent, ``*`` any value, a list any of it."""

    def fits(name: str, option: Any) -> bool:
        value = entities.get(name)
        if option is None or value is None:
            return option is value
        return option == "*" or _normal(name, str(option)) == _normal(name, value)

    return all(
        any(fits(name, option) for option in (wanted if isinstance(wanted, list) else [wanted]))
        for name, wanted in filters.items()
    )


def _normal(name: str, value: str) -> str:
    """Normalise a value as pybids compares it: runs by number, extensions with a dot."""
    if name == "run":
        return value.lstrip("0")
    return f".{value.lstrip('.')}" if name == "extension" else value


def _voxel_mm3(path: Path) -> float:
    """Read the volume of a voxel, mm³, from the header, to 6 digits so that equal volumes tie."""
    image = nib.Nifti1Image.from_image(nib.load(path))
    sides = [abs(float(zoom)) * mm_per_unit(image) for zoom in image.header.get_zooms()[:3]]
    volume = math.prod(sides)
    if not (math.isfinite(volume) and volume > 0):
        raise ValueError(f"the voxels have a volume of {volume} mm³")
    return float(f"{volume:.6g}")


@dataclass(frozen=True)
class _Mask:
    """A brain mask, the name of its derivatives, and the contrast it is aligned with."""

    path: Path
    derivatives: str
    space: str


def _find_brain_mask(
    derivatives: Mapping[str, Path], subject: str, session: str | None, images: Mapping[str, Image]
) -> _Mask | None:
    """Find a brain mask aligned with one of the chosen images, FLAIR before T1w.

    An acquisition, reconstruction or run in the name of a mask must be that of the image. A mask
    outside the session's own folder is not used: fMRIPrep writes a mask there that is aligned with
    the average over the sessions.
    """
    found: list[_Mask] = []
    for name, root in derivatives.items():
        folder = root.absolute() / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
        for path in natural_sort(folder.glob("*_desc-brain_mask.nii.gz")):
            entities = parse_entities(path.relative_to(root.absolute()))
            space = _MASK_SPACES.get(entities.get("space"))
            if space is not None and _are_of_one_image(entities, images.get(space)):
                found.append(_Mask(path, name, space))
    return min(found, key=lambda mask: mask.space != "FLAIR", default=None)


def _are_of_one_image(mask: Mapping[str, str], image: Image | None) -> bool:
    """Return whether the entities of a mask are compatible with those of an image."""
    names = ("acquisition", "reconstruction", "run")
    return image is not None and all(
        mask.get(name) in (None, image.entities.get(name)) for name in names
    )
