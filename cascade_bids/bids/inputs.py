"""Find the scans of a BIDS dataset: their images, and why a scan cannot be processed."""

import logging
import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids.utils import natural_sort

from cascade_bids.bids.choice import NOT_IN_FILTERS, choose_image
from cascade_bids.bids.contrast_agent import Sidecars
from cascade_bids.bids.dataset import parse_entities, read_bidsignore, read_description, show
from cascade_bids.bids.filters import matches
from cascade_bids.bids.index import Image, PassedOver, index_images, why_no_label
from cascade_bids.bids.overlooked import tell_overlooked
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, InputConfig
from cascade_bids.errors import StartError, UsageError

logger = logging.getLogger(__name__)

_IGNORED = ".bidsignore lists it"
_MASK_SPACES = {"FLAIR": "FLAIR", "T1w": "T1w", None: "T1w"}
"""Space entity of a brain mask to the contrast it is aligned with; fMRIPrep omits T1w."""


def find_scans(config: InputConfig) -> list[Scan]:
    """Find the scans of a BIDS dataset and choose one image for each contrast.

    A scan is a participant's session that has any of the four contrasts. FLAIR is required: a
    scan without it is returned with a ``problem``; so is a participant without any image, unless
    the settings select sessions but no participants. `cascade_bids.bids.choice.choose_image` tells
    which of several images of one contrast is used. Of several images, one with an unreadable
    header is ignored; the only image of a contrast is not read here, so that the scan fails later
    with the reader's message and the other scans are processed. A participant of whom
    ``.bidsignore`` lists all images is left out, with a warning, unless named.

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

    images, passed_over = index_images(
        root,
        subjects=subjects if config.participant_labels else None,
        # Only names of raw datasets can be validated.
        validate=config.validate and description.get("DatasetType", "raw") == "raw",
        database_dir=config.database_dir,
    )
    images, passed_over = _leave_out_ignored(root, images, passed_over)
    sessions_wanted = _session_filter(config)
    order = {subject: number for number, subject in enumerate(subjects)}
    sidecars = Sidecars(root)
    known = {image.path for image in images} | {file.path for file in passed_over}
    scans = [
        _make_scan(config, *key, found, others, sidecars, known)
        for key, (found, others) in _group(images, passed_over).items()
        if key[0] in order
        and (not config.session_labels or key[1] in sessions)
        and matches({"session": key[1]} if key[1] else {}, sessions_wanted)
        and (found or any(map(_was_meant, others)))
    ]
    scans += _without_images(config, root, subjects, scans, passed_over, known)
    return sorted(natural_sort(scans, field="label"), key=lambda scan: order[scan.subject])


def _group(
    images: Sequence[Image], passed_over: Sequence[PassedOver]
) -> dict[tuple[str, str | None], tuple[list[Image], list[PassedOver]]]:
    """Group files by participant and session."""
    groups: dict[tuple[str, str | None], tuple[list[Image], list[PassedOver]]] = {}
    for image in images:
        key = image.entities["subject"], image.entities.get("session")
        groups.setdefault(key, ([], []))[0].append(image)
    for file in passed_over:
        groups.setdefault((file.subject, file.session), ([], []))[1].append(file)
    return groups


def _without_images(
    config: InputConfig,
    root: Path,
    subjects: Sequence[str],
    scans: Sequence[Scan],
    passed_over: Sequence[PassedOver],
    known: Container[Path],
) -> list[Scan]:
    """Return a scan with a problem for each participant who has none and should have one."""
    hint = _hint_no_image(config)
    present = {scan.subject for scan in scans}
    absent = [subject for subject in subjects if subject not in present]
    if not config.participant_labels:
        ignored = {file.subject for file in passed_over if file.reason == _IGNORED}
        if left_out := [subject for subject in absent if subject in ignored]:
            logger.warning("Left out, as .bidsignore lists the images: %s.", _shorten(left_out))
        absent = [subject for subject in absent if subject not in ignored]
        if not scans:
            overlooked = (tell_overlooked(root / f"sub-{subject}", known) for subject in subjects)
            example = next(filter(None, overlooked), "")
            raise StartError(f"No scan in {root} can be processed. {example}{hint}")
        if config.session_labels or _session_filter(config):
            # Participants need not have the selected sessions.
            if absent:
                logger.warning("No image is found for participant %s. %s", _shorten(absent), hint)
            return []
    problems = {subject: why_no_label(subject, "sub") for subject in absent}
    return [
        Scan(
            subject,
            None,
            None,
            problem=f"{problem}."
            if problem
            else f"No image is found. {tell_overlooked(root / f'sub-{subject}', known)}{hint}",
        )
        for subject, problem in problems.items()
    ]


def _leave_out_ignored(
    root: Path, images: Sequence[Image], passed_over: Sequence[PassedOver]
) -> tuple[list[Image], list[PassedOver]]:
    """Pass over what the ``.bidsignore`` of the dataset lists."""
    spec = read_bidsignore(root)
    if not len(spec):
        return list(images), list(passed_over)

    def is_listed(path: Path) -> bool:
        return bool(spec.match_file(path.relative_to(root)))

    kept, others = [], []
    for image in images:
        if is_listed(image.path):
            subject, session = image.entities["subject"], image.entities.get("session")
            others.append(PassedOver(image.path, subject, session, _IGNORED))
        else:
            kept.append(image)
    for file in passed_over:
        others.append(replace(file, reason=_IGNORED) if is_listed(file.path) else file)
    return kept, others


def _session_filter(config: InputConfig) -> dict[str, Any]:
    """Return the filter of sessions, which selects scans."""
    return {k: v for k, v in config.filters.get("flair", {}).items() if k == "session"}


def _was_meant(file: PassedOver) -> bool:
    """Return whether a file that is passed over was probably meant as an image of a scan."""
    contrasts = {contrast.lower() for contrast in CONTRASTS}
    is_meant = file.suffix in contrasts or "flair" in file.name.lower()
    return is_meant and file.reason != _IGNORED and why_no_label(file.subject, "sub") is None


def _select(
    what: str, prefix: str, labels: Sequence[str], folders: Sequence[Path], where: Path
) -> list[str]:
    """Return the selected labels, given with or without the prefix, or all in the folders."""
    known: set[str] = set()
    for folder in folders:
        _, names, _ = next(os.walk(folder), ("", [], []))
        known |= {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        for label in sorted(known):
            # A line break would tear lists of participants apart.
            if label and show(label) == label:
                continue
            what = "its label can't be printed" if label else "it has no label"
            path = show(folder / f"{prefix}{label}")
            logger.warning("%s is passed over: %s; rename it to %s<label>.", path, what, prefix)
            known.remove(label)
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
    hint = (
        f"A scan needs an anat/ folder with {', '.join(CONTRASTS)} images, FLAIR at least, in "
        ".nii or .nii.gz files."
    )
    if config.session_labels or config.filters:
        hint += " The session labels and the filter file narrow what is taken."
    if config.validate:
        hint += " Names that BIDS does not know are passed over (--skip-bids-validation)."
    if config.database_dir:
        hint += f" If {config.database_dir} is older than the images, delete it."
    return hint


def _advise(reasons: Sequence[str], folder: Path) -> str:
    """Return what to do about a scan without a FLAIR, for reasons that are told before."""
    text = " ".join(reasons)
    ways = ["change the filter file"] if NOT_IN_FILTERS in text else []
    if any(word in text for word in ("its name", "such a name", "no space- in its name")):
        ways.append("rename what is meant as the FLAIR")
    if _IGNORED in text:
        ways.append("change .bidsignore")
    ways += [f"add one to {folder}", "leave this scan out"]
    advice = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return advice[0].upper() + advice[1:]


def _make_scan(
    config: InputConfig,
    subject: str,
    session: str | None,
    images: Sequence[Image],
    passed_over: Sequence[PassedOver],
    sidecars: Sidecars,
    known: Container[Path],
) -> Scan:
    """Choose the images of one session."""
    chosen: dict[str, Image] = {}
    choices: list[str] = []
    for contrast in CONTRASTS:
        candidates = [image for image in images if image.entities["suffix"] == contrast]
        filters = config.filters.get(contrast.lower(), {})
        others = [file for file in passed_over if file.suffix == contrast.lower()]
        image, sentences = choose_image(candidates, filters, sidecars)
        sentences = [f"passed over {file.name}, {file.reason}." for file in others] + sentences
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
        reasons = [choice for choice in choices if "FLAIR" in choice]
        reasons += [
            f"Passed over {file.name}, {file.reason}."
            for file in passed_over
            if "flair" in file.name.lower() and not any(file.name in reason for reason in reasons)
        ]
        folder = (images[0] if images else passed_over[0]).path.parent
        place = (
            config.bids_dir.absolute() / f"sub-{subject}" / (f"ses-{session}" if session else "")
        )
        overlooked = tell_overlooked(place, known)
        reasons += [overlooked.strip()] if overlooked else []
        problem = (
            "No FLAIR image can be used, and FLAIR is required. "
            f"{' '.join(reasons) or 'There is none.'} {_advise(reasons, folder)}"
        )
    scan = Scan(
        subject,
        session,
        run=chosen["FLAIR"].entities.get("run") if "FLAIR" in chosen else None,
        images={contrast: image.path for contrast, image in chosen.items()},
        choices=tuple(map(show, choices)),
        brain_mask=mask.path if mask else None,
        problem=problem and show(problem),
        brain_mask_space=mask.space if mask else None,
    )
    for choice in choices:
        logger.info("%s: %s", scan.label, choice)
    for file in passed_over:
        if file.is_misplaced and file.reason != _IGNORED:
            logger.warning("%s is passed over: %s.", show(file.path), file.reason)
    return scan


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
