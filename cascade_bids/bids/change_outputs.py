"""Outputs of the comparison of a participant's sessions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids.utils import natural_sort

from cascade_bids.bids.index import why_misplaced
from cascade_bids.bids.outputs import fixed_sidecar, output_path
from cascade_bids.bids.scan import Scan

SPACES = ("FLAIR", "common")
"""Spaces in which the lesions and what changed are drawn."""


@dataclass(frozen=True)
class SessionResult:
    """The result of a session that is compared with others."""

    scan: Scan
    """The session, with the run that its files have in their names."""
    text: str
    """Text of its statistics, by which a later result is told from this one."""

    @property
    def stats(self) -> dict[str, Any]:
        """Its statistics."""
        stats: dict[str, Any] = json.loads(self.text)
        return stats

    @property
    def images(self) -> dict[str, str]:
        """Contrast to the BIDS URI of the raw image."""
        images: dict[str, str] = self.stats["images"]
        return images

    def find_raw(self, contrast: str, bids_dir: Path) -> Path | None:
        """Return the path of a raw image; None if there was none, or it is not there any more."""
        path = bids_dir / self.images.get(contrast, "").removeprefix("bids:raw:")
        return path if path.is_file() else None


def change_paths(root: Path, scan: Scan) -> dict[str, Path]:
    """Return the paths of the outputs of a comparison that belong to one session.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        The session.

    Returns
    -------
    dict
        ``common_flair``, ``common_t1w``, ``common_mask``, ``common_brain``, ``tracked_FLAIR``,
        ``tracked_common``, ``change_FLAIR``, ``change_common``, ``to_common`` and ``from_common``.
    """
    paths = {
        name: output_path(root, scan, name)
        for name in ("common_flair", "common_t1w", "common_mask", "common_brain")
    }
    for space in SPACES:
        paths[f"tracked_{space}"] = output_path(root, scan, "tracked", space=space)
        paths[f"change_{space}"] = output_path(root, scan, "change_map", space=space)
    # A transform is named by the images that it resamples, so it maps points the other way.
    paths["from_common"] = output_path(root, scan, "xfm", from_="FLAIR", to="common")
    paths["to_common"] = output_path(root, scan, "xfm", from_="common", to="FLAIR")
    return paths


def find_comparisons(root: Path) -> tuple[list[tuple[str, Path]], dict[Path, str]]:
    """Find the statistics of all comparisons in a derivatives tree.

    Parameters
    ----------
    root
        Root of the derivatives.

    Returns
    -------
    list of (str, Path)
        Label of each participant, and its ``_desc-change_stats.json``; in natural order.
    dict
        Statistics whose name or folder does not fit, to the reason.
    """
    found, misplaced = [], {}
    pattern = output_path(Path(), Scan("*", None, None), "change_stats").as_posix()
    for path in natural_sort(root.glob(pattern)):
        subject = path.relative_to(root).parts[0].removeprefix("sub-")
        reason = why_misplaced(subject, None, path.name)
        if reason is None and not path.name.startswith(f"sub-{subject}_desc-"):
            reason = "its name says more than whose it is"
        if reason is None:
            found.append((subject, path))
        else:
            misplaced[path] = reason
    return found, misplaced


def change_sidecar(
    name: str, root: Path, results: Sequence[SessionResult], result: SessionResult
) -> dict[str, Any]:
    """Build the sidecar of an image of `change_paths`.

    Parameters
    ----------
    name
        Name in `change_paths`.
    root
        Root of the derivatives.
    results
        All sessions, in the order of time.
    result
        The session of the image.

    Returns
    -------
    dict
        Description, SpatialReference, Sources and further entries.
    """
    first = output_path(root, results[0].scan, "common_flair").relative_to(root)
    is_raw = name.endswith("_FLAIR")
    contrast = {"common_flair": "FLAIR", "common_t1w": "T1w"}.get(name)
    output = {"tracked": "tracked", "change": "change_map"}.get(name.split("_")[0], name)
    return {
        "SpatialReference": result.images["FLAIR"] if is_raw else f"bids::{first.as_posix()}",
        "Sources": [result.images[contrast]]
        if contrast
        else [one.images["FLAIR"] for one in results],
        **fixed_sidecar(output),
    }
