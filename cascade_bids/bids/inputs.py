"""From a BIDS dataset to scans: which images each one has, and what stands in its way."""

import logging
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
from bids.utils import natural_sort
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

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

logger = logging.getLogger(__name__)

_QUERIES = tuple(contrast.lower() for contrast in CONTRASTS)
_MASK_SPACES = {"FLAIR": "FLAIR", "T1w": "T1w", None: "T1w"}
"""Space entity of a brain mask to the contrast on which it lies; fMRIPrep omits T1w."""
_UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""What nibabel may raise on a damaged header."""


def find_scans(config: InputConfig) -> list[Scan]:
    """Find the scans of a BIDS dataset and choose one image for each contrast.

    A scan is a participant's session that has any of the four contrasts. FLAIR is required: a
    scan without it is returned with a ``problem``; so is a participant who has no image at all,
    unless only some sessions were asked for, of anyone. Of several images of one contrast the one
    with the smallest voxels is taken, then the first by name. Images made with a contrast agent,
    phase images and images with a magnetisation-transfer pulse are never taken. Of several images,
    one with an unreadable header is passed over; a contrast's only image is kept unseen, so that
    the scan fails with the reader's message and the others go on.

    Parameters
    ----------
    config
        The dataset and what to take from it.

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
    subjects = _select(
        "participant", "sub-", config.participant_labels, root.glob("sub-*"), where=root
    )
    if not subjects:
        raise UsageError(
            f"{root} has no participant: no folder named sub-<label>. "
            "Give the folder that holds the sub- folders as bids_dir."
        )
    folders = [folder for subject in subjects for folder in root.glob(f"sub-{subject}/ses-*")]
    sessions = _select("session", "ses-", config.session_labels, folders, where=root)
    _check_derivatives(config.derivatives)

    images = index_images(
        root,
        subjects=subjects if config.participant_labels else None,
        # The validator of names knows raw datasets only.
        validate=config.validate and description.get("DatasetType", "raw") == "raw",
        database_dir=config.database_dir,
    )
    session_filter = {k: v for k, v in config.filters.get("flair", {}).items() if k == "session"}
    groups: dict[tuple[str, str | None], list[Image]] = {}
    for image in images:
        subject, session = image.entities["subject"], image.entities.get("session")
        if (
            subject in subjects
            and (not config.session_labels or session in sessions)
            and _matches(image.entities, session_filter)  # one that picks sessions picks scans
        ):
            groups.setdefault((subject, session), []).append(image)
    scans = [_make_scan(config, *key, found) for key, found in groups.items()]

    absent = sorted(set(subjects) - {scan.subject for scan in scans}, key=subjects.index)
    hint = _why_nothing(config)
    if not (scans or config.participant_labels):
        raise StartError(f"No scan in {root} can be processed. {hint}")
    if not config.participant_labels and (config.session_labels or session_filter):
        # They need not have the sessions that were asked for.
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
    place = {subject: number for number, subject in enumerate(subjects)}
    return sorted(scans, key=lambda scan: place[scan.subject])


def load_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Read a filter file in the form of fMRIPrep's ``--bids-filter-file``.

    Each key is a contrast in lower case, each value maps BIDS entities (by their long names, as
    in pybids) to the value that an image must have, or a list of such. ``null`` means that the
    entity must be absent, ``"*"`` that it must be there with any value.

    Parameters
    ----------
    path
        A JSON file such as ``{"flair": {"acquisition": "highres", "run": null}}``.

    Returns
    -------
    dict
        Contrast in lower case to entities to wanted values.

    Raises
    ------
    UsageError
        If the file is not JSON of that form, or names a query or entity that does not exist.
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
    what: str, prefix: str, asked: Sequence[str], folders: Iterable[Path], where: Path
) -> list[str]:
    """Labels that were asked for, or all of them; with or without the prefix."""
    known = natural_sort({path.name.removeprefix(prefix) for path in folders if path.is_dir()})
    if not asked:
        return known
    wanted = list(dict.fromkeys(label.removeprefix(prefix) for label in asked))
    unknown = [label for label in wanted if label not in known]
    if unknown:
        has = _shorten(known) if known else f"no {what} at all"
        raise UsageError(f"Unknown {what}: {', '.join(unknown)}. {where} has {has}.")
    return natural_sort(wanted)


def _shorten(labels: Sequence[str], most: int = 20) -> str:
    """List labels for a message, the first ones if they are many."""
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


def _why_nothing(config: InputConfig) -> str:
    """Say what to do when a participant or a whole dataset has no image."""
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
    """Choose among the images of one contrast, and say by which rule."""
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
    """Why an image is not one of its contrast's plain images, if so."""
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
    """Whether entities fit a filter: None means absent, ``*`` any value, a list one of these."""

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
    """Write a value as pybids compares it: runs by number, extensions with their dot."""
    if name == "run":
        return value.lstrip("0")
    return f".{value.lstrip('.')}" if name == "extension" else value


def _voxel_mm3(path: Path) -> float:
    """Volume of a voxel in mm³ from the header alone, to 6 digits so that equal ones tie."""
    zooms = cast(SpatialImage, nib.load(path)).header.get_zooms()[:3]
    volume = math.prod(abs(float(zoom)) for zoom in zooms)
    if not (math.isfinite(volume) and volume > 0):
        raise ValueError(f"the voxels have a volume of {volume} mm³")
    return float(f"{volume:.6g}")


@dataclass(frozen=True)
class _Mask:
    """A brain mask, the derivatives that it is from, and the contrast that it lies on."""

    path: Path
    derivatives: str
    space: str


def _find_brain_mask(
    derivatives: Mapping[str, Path], subject: str, session: str | None, images: Mapping[str, Image]
) -> _Mask | None:
    """Find a brain mask aligned with one of the chosen images, FLAIR before T1w.

    A mask whose name tells of an acquisition, reconstruction or run must agree with the image's.
    A mask outside the session's own folder is not taken: fMRIPrep puts a mask there that lies on
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
    """Whether the entities of a mask do not speak against its being of an image."""
    names = ("acquisition", "reconstruction", "run")
    return image is not None and all(
        mask.get(name) in (None, image.entities.get(name)) for name in names
    )
