"""A scan: the unit of work, whether it comes from a BIDS dataset or from loose files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cascade_bids.errors import UsageError


@dataclass(frozen=True)
class Scan:
    """One session of one participant with the images that were chosen for it."""

    subject: str
    """Label of the participant, without ``sub-``."""
    session: str | None
    """Label of the session, without ``ses-``; None in a dataset without sessions."""
    run: str | None
    """Run of the chosen FLAIR, exactly as its name writes it (``01`` stays ``01``)."""
    images: Mapping[str, Path] = field(default_factory=dict)
    """Contrast to its chosen image, as an absolute path."""
    choices: tuple[str, ...] = ()
    """Sentences: which images were taken or passed over, and by which rule."""
    brain_mask: Path | None = None
    """Brain mask from another pipeline's derivatives, if it has one."""
    problem: str | None = None
    """Why the scan cannot be processed, if so."""
    brain_mask_space: str | None = None
    """The contrast with which the brain mask is aligned: ``FLAIR`` or ``T1w``."""
    stem: str | None = None
    """How its files begin when it comes from no BIDS dataset; None otherwise."""

    @property
    def entities(self) -> dict[str, str]:
        """BIDS entities that every output of the scan keeps, in the order of BIDS.

        Examples
        --------
        >>> Scan("01", None, "02").entities
        {'subject': '01', 'run': '02'}
        """
        parts = {"subject": self.subject, "session": self.session, "run": self.run}
        return {name: value for name, value in parts.items() if value is not None}

    @property
    def label(self) -> str:
        """Name of the scan, as its files begin.

        Examples
        --------
        >>> Scan("01", "2", "1").label
        'sub-01_ses-2_run-1'
        """
        if self.stem is not None:
            return self.stem
        prefixes = {"subject": "sub", "session": "ses", "run": "run"}
        return "_".join(f"{prefixes[name]}-{value}" for name, value in self.entities.items())


def patient_scan(flair: Path, others: Mapping[str, Path]) -> Scan:
    """Make a scan of loose images, without BIDS.

    Parameters
    ----------
    flair
        The FLAIR image; the outputs' names begin as its own does, with dots as underscores since
        a name's first dot begins its extension.
    others
        Contrast to image.

    Returns
    -------
    Scan
        Its stem is set.

    Raises
    ------
    UsageError
        When an image does not exist.
    """
    images = {"FLAIR": flair, **others}
    for contrast, path in images.items():
        if not path.is_file():
            raise UsageError(f"the {contrast} image {path} does not exist")
    stem = re.sub(r"\.nii(\.gz)?$", "", flair.name).replace(".", "_")
    absolute = {contrast: path.absolute() for contrast, path in images.items()}
    return Scan("patient", None, None, images=absolute, stem=stem)
