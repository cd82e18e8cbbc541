"""Lesion masks of raters, found by their BIDS entities."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from cascade_bids.bids.dataset import parse_entities
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.errors import UsageError


def find_lesion_mask(scan: Scan, folder: Path) -> Path | None:
    """Find the lesion mask of a scan, in a dataset or in one flat folder.

    It must lie on the FLAIR: its name has no ``space-``, or ``space-FLAIR``, or that of the FLAIR.

    Raises
    ------
    UsageError
        When there is more than one, or it is what this program found.
    """
    found = find_lesion_masks(scan, folder)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UsageError(
            f"{scan.label} has several lesion masks in {found[0].parent}: {names}; keep one"
        )
    if not found:
        return None
    if is_prediction(found[0]):
        raise UsageError(
            f"{found[0]} is a prediction, for its probability map lies beside it; copy masks that "
            "a rater corrected into a folder of their own for --masks"
        )
    return found[0]


def find_lesion_masks(scan: Scan, folder: Path) -> list[Path]:
    """Find all that `find_lesion_mask` chooses from, by raters and by programs."""
    anat = output_path(folder, scan, "lesion_mask").parent
    where = anat if anat.is_dir() else folder
    session = replace(scan, run=None)
    return [
        path
        for path in sorted(where.glob(f"{session.label}_*mask.nii*"))
        if _is_lesion_mask(parse_entities(PurePath(path.name)), scan)
    ]


def is_prediction(mask: Path) -> bool:
    """Return whether a program made a lesion mask: then its probability map lies beside it.

    In whatever space: of some there is the mask alone.
    """
    space = r"(_space-[^_]+)?_label-lesion_"
    scan = re.sub(space + r"mask\.nii.*", "", mask.name)
    maps = re.compile(re.escape(scan) + space + r"probseg\.nii.*")
    return any(maps.fullmatch(path.name) for path in mask.parent.iterdir())


def _is_lesion_mask(entities: Mapping[str, str], scan: Scan) -> bool:
    flair = scan.images.get("FLAIR")
    space = parse_entities(PurePath(flair.name)).get("space") if flair else None
    return (
        (entities.get("suffix"), entities.get("label")) == ("mask", "lesion")
        and entities.get("session") == scan.session
        and entities.get("run") in (None, scan.run)
        and entities.get("space") in (None, "FLAIR", space)
        # What is new since an earlier session is not all that there is.
        and entities.get("desc") != "change"
    )
