"""The report of one participant: numbers, pictures, choices and failures of every scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cascade_bids.report.page import render, write_whole

TEXT_COLUMNS = ("name", "location")
"""Columns of the lesion table that hold words; the others are numbers."""

DIGITS = {"_mm": 1, "_mm3": 1, "_probability": 2, "confidence": 2}
"""Decimals that the page shows of a column, by the end of its name; the file has them all."""

ALL_NET = "10.1016/j.nicl.2021.102854"
"""DOI of the publication that sphere maps come from."""

FIGURES = {
    "brain": "The FLAIR after bias correction, with the outline of the brain.",
    "lesions": "Lesions on the FLAIR. Of each slab of the brain the slice with the largest lesion "
    "area is shown. Slices bear the coordinates of the scanner; the table of lesions gives those "
    "of MNI.",
}
"""Figures of a scan by name, with their captions, in the order of the report."""


@dataclass(frozen=True)
class ScanReport:
    """What there is to tell about one scan, whether it succeeded or not."""

    label: str
    """The scan's name, as ``sub-01_ses-2``."""
    stats: Mapping[str, Any] | None
    """Content of its ``…_desc-lesions_stats.json``; None if it was not written."""
    figures: Mapping[str, Path]
    """Caption to picture, a file below the folder of the derivatives."""
    lesions: Path | None
    """Its ``…_desc-lesions_dseg.tsv``; None if it was not written."""
    problem: str | None
    """Why it failed, in the words of the error; None after success."""
    failed_step: str | None
    """The step that failed, if known."""
    choices: Sequence[str] = ()
    """Which images were chosen and why, for a scan without stats, which tell it otherwise."""


def write_subject_report(
    out_dir: Path, name: str, scans: Sequence[ScanReport], *, version: str, boilerplate: str
) -> Path:
    """Write ``<name>.html``, which needs nothing but the pictures beside it.

    A picture or a lesion table that is missing or damaged is named in the page and does not
    keep it from being written.

    Parameters
    ----------
    out_dir
        Root of the derivatives; every picture lies below it.
    name
        The participant, as ``sub-01``, or the stem of a patient's FLAIR without BIDS.
    scans
        The participant's scans, in the order in which they are shown.
    version
        Version of cascade_bids.
    boilerplate
        Methods text, as from `render_boilerplate`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    CascadeBidsError
        If the page can't be written.
    ValueError
        If a picture lies outside `out_dir`.
    """
    page = render(
        "subject.html.j2",
        name=name,
        scans=[_section(out_dir, scan) for scan in scans],
        text_columns=TEXT_COLUMNS,
        version=version,
        blocks=[block.strip() for block in boilerplate.split("\n\n") if block.strip()],
    )
    return write_whole(out_dir / f"{name}.html", page)


def render_boilerplate(
    card: Mapping[str, Any],
    *,
    version: str,
    skull_strip: str,
    shipped: bool,
    separate_lesions: bool = False,
    tta: bool = False,
) -> str:
    """Write the methods text of a run, with its references, as Markdown.

    Parameters
    ----------
    card
        Of the method: its name, source, contrasts and stages.
    version
        Version of cascade_bids.
    skull_strip
        ``auto`` or ``skip``, as in `cascade_bids.config.PreprocessConfig`.
    shipped
        Whether the weights came with cascade_bids.
    separate_lesions
        Whether confluent lesions were split.
    tta
        Whether the networks were asked about the mirrored head too.

    Returns
    -------
    str
        Markdown.
    """
    optional = card.get("optional", [])
    *first, last = [c for c in card["contrasts"] if c not in optional]
    used = f"the {', '.join(first)} and {last} images" if first else f"the {last} image"
    if optional:
        used += f" (and {' and '.join(optional)} where there was one)"
    text = render(
        "CITATION.md.j2",
        card=card,
        architecture=card["stages"][0]["architecture"],
        networks=len(card["stages"]),
        context=any(stage["architecture"] == "ContextNetwork" for stage in card["stages"]),
        version=version,
        contrasts=used,
        skull_strip=skull_strip,
        shipped=shipped,
        separate_lesions=separate_lesions,
        tta=tta,
        zhang=ALL_NET,
    )
    return text.replace("\n\n\n", "\n\n")


def _section(out_dir: Path, scan: ScanReport) -> dict[str, Any]:
    lesions, lesions_problem = _lesions(scan.lesions)
    figures = [
        {
            "caption": caption,
            "source": quote(path.relative_to(out_dir).as_posix()) if path.exists() else None,
        }
        for caption, path in scan.figures.items()
    ]
    return {
        "label": scan.label,
        "stats": scan.stats or {},
        "problem": scan.problem,
        "failed_step": scan.failed_step,
        "choices": (scan.stats or {}).get("choices", scan.choices),
        "figures": figures,
        "lesions": lesions,
        "lesions_problem": lesions_problem,
    }


def _lesions(path: Path | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Read the lesion table, largest first; or say why it can't be read."""
    if path is None:
        return None, None
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        volumes = pd.to_numeric(table["volume_mm3"], errors="coerce")
    except (OSError, ValueError, KeyError) as error:
        return None, f"The table of the lesions, {path.name}, can't be read ({error!r})."
    table = table.loc[volumes.sort_values(ascending=False, kind="stable").index]
    shown = {str(name): _shown(str(name), column) for name, column in table.items()}
    return [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)], None


def _shown(name: str, column: pd.Series) -> list[str]:
    digits = [places for end, places in DIGITS.items() if name.endswith(end)]
    if not digits:
        return [text.replace("_", " ") for text in column]
    numbers = pd.to_numeric(column, errors="coerce")
    return ["n/a" if pd.isna(number) else f"{number:.{digits[0]}f}" for number in numbers]
