"""Scans, from a BIDS dataset or from individual files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cascade_bids.bids.dataset import show
from cascade_bids.errors import UsageError


@dataclass(frozen=True)
class Scan:
    """One session of one participant with the images that were chosen for it."""

    subject: str
    """Label of the participant, without ``sub-``."""
    session: str | None
    """Label of the session, without ``ses-``; None in a dataset without sessions."""
    run: str | None
    """Run of the chosen FLAIR, exactly as in its name (``01`` stays ``01``)."""
    images: Mapping[str, Path] = field(default_factory=dict)
    """Contrast to the absolute path of the chosen image."""
    choices: tuple[str, ...] = ()
    """Sentences on which images were used or not, and by which rule."""
    brain_mask: Path | None = None
    """Brain mask from derivatives of another pipeline, if there is one."""
    problem: str | None = None
    """Why the scan cannot be processed; None if it can."""
    brain_mask_space: str | None = None
    """The contrast with which the brain mask is aligned: ``FLAIR`` or ``T1w``."""
    stem: str | None = None
    """Start of its output names if it comes from individual files; None in a BIDS dataset."""

    @property
    def entities(self) -> dict[str, str]:
        """BIDS entities of every output of the scan, in the order of BIDS.

        Examples
        --------
        >>> Scan("01", None, "02").entities
        {'subject': '01', 'run': '02'}
        """
        parts = {"subject": self.subject, "session": self.session, "run": self.run}
        return {name: value for name, value in parts.items() if value is not None}

    @property
    def label(self) -> str:
        """Name of the scan, the start of its output names.

        Examples
        --------
        >>> Scan("01", "2", "1").label
        'sub-01_ses-2_run-1'
        """
        if self.stem is not None:
            return self.stem
        prefixes = {"subject": "sub", "session": "ses", "run": "run"}
        return show("_".join(f"{prefixes[name]}-{value}" for name, value in self.entities.items()))


def name_participant(source: str, subject: str) -> str:
    """Return the name of a participant among those of several datasets, which share labels.

    Examples
    --------
    >>> name_participant("openms", "07")
    'openms/sub-07'
    >>> name_participant("", "07")
    'sub-07'
    """
    return f"{source}/sub-{subject}" if source else f"sub-{subject}"


def patient_scan(flair: Path, others: Mapping[str, Path]) -> Scan:
    """Build a scan from individual images, without BIDS.

    Parameters
    ----------
    flair
        The FLAIR image. Output names start with its name, with underscores for dots, since the
        extension starts at the first dot of a name.
    others
        Other contrasts to their images.

    Returns
    -------
    Scan
        A scan with a `stem`.

    Raises
    ------
    UsageError
        When an image does not exist or is a folder.
    """
    images = {"FLAIR": flair, **others}
    for contrast, path in images.items():
        if path.is_dir():
            raise UsageError(f"the {contrast} image {path} is a folder; give an image")
        if not path.is_file():
            raise UsageError(f"the {contrast} image {path} does not exist")
    stem = re.sub(r"\.nii(\.gz)?$", "", flair.name).replace(".", "_")
    absolute = {contrast: path.absolute() for contrast, path in images.items()}
    return Scan("patient", None, None, images=absolute, stem=stem)
