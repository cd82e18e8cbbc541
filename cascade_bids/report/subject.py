"""The report of one participant: numbers, figures, choices and failures of every scan."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cascade_bids.files import write_text
from cascade_bids.models.card import MethodCard
from cascade_bids.report.change import ChangeReport, participant_section
from cascade_bids.report.page import render
from cascade_bids.report.tables import shown_column

TEXT_COLUMNS = ("name", "location", "session_id", "class")
"""Columns of the tables of lesions that hold text; the others are numbers."""

ALL_NET = "10.1016/j.nicl.2021.102854"
"""DOI of the publication that introduced sphere maps."""

FIGURES = {
    "brain": "The FLAIR after bias correction, with the outline of the brain.",
    "lesions": "Lesions on the FLAIR. From each slab of the brain, the slice with the largest "
    "lesion area is shown. Slices are labelled in scanner coordinates; the lesion table is in MNI "
    "coordinates.",
}
"""Figures of a scan by name, with their captions, in the order of the report."""


@dataclass(frozen=True)
class ScanReport:
    """What the report shows of one scan, whether it succeeded or not."""

    label: str
    """Name of the scan, such as ``sub-01_ses-2``."""
    stats: Mapping[str, Any] | None
    """Content of its ``…_desc-lesions_stats.json``; None if there is none."""
    figures: Mapping[str, Path]
    """Caption to figure, a file inside the derivatives."""
    lesions: Path | None
    """Its ``…_desc-lesions_dseg.tsv``; None if there is none."""
    problem: str | None
    """Error message of a failed scan; None after success."""
    failed_step: str | None
    """Step that failed, if known."""
    is_earlier: bool = False
    """Whether all that is shown besides the failure is of an earlier run."""
    choices: Sequence[str] = ()
    """Which images were chosen and why; used only without `stats`, which contain it."""


def write_subject_report(
    out_dir: Path,
    name: str,
    scans: Sequence[ScanReport],
    *,
    version: str,
    boilerplate: str,
    change: ChangeReport | None = None,
) -> Path:
    """Write ``<name>.html``, which needs no other files than the figures.

    A figure or table of lesions that is missing or damaged is reported on the page.

    Parameters
    ----------
    out_dir
        Root of the derivatives, which holds all figures.
    name
        The participant, such as ``sub-01``, or the stem of a scan without BIDS.
    scans
        The participant's scans, in the order in which they are shown.
    version
        Version of cascade_bids.
    boilerplate
        Methods text, from `render_boilerplate`.
    change
        Comparison of the sessions; None if there is none, and none failed.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    CascadeBidsError
        If the page cannot be written.
    ValueError
        If a figure is outside `out_dir`.
    """
    page = render(
        "subject.html.j2",
        name=name,
        scans=[_section(out_dir, scan) for scan in scans],
        change=change and participant_section(change),
        text_columns=TEXT_COLUMNS,
        version=version,
        blocks=[block.strip() for block in boilerplate.split("\n\n") if block.strip()],
    )
    return write_text(out_dir / f"{name}.html", page)


def render_boilerplate(
    card: MethodCard,
    *,
    version: str,
    skull_strip: str,
    separate_lesions: bool = False,
    tta: bool = False,
) -> str:
    """Write the methods text of a run, with its references, as Markdown.

    Parameters
    ----------
    card
        Card of the method.
    version
        Version of cascade_bids.
    skull_strip
        ``auto`` or ``skip``, as in `cascade_bids.config.PreprocessConfig`.
    separate_lesions
        Whether confluent lesions were split.
    tta
        Whether the networks saw the mirrored head too.

    Returns
    -------
    str
        Markdown.
    """
    *first, last = [c for c in card.contrasts if c not in card.optional]
    used = f"the {', '.join(first)} and {last} images" if first else f"the {last} image"
    if card.optional:
        used += f" (and {' and '.join(card.optional)} where there was one)"
    text = render(
        "CITATION.md.j2",
        card=card,
        networks=_describe_networks(card),
        published=all(kind.published for kind in card.networks),
        version=version,
        contrasts=used,
        skull_strip=skull_strip,
        separate_lesions=separate_lesions,
        tta=tta,
        zhang=ALL_NET,
    )
    return text.replace("\n\n\n", "\n\n")


def _describe_networks(card: MethodCard) -> str:
    """Return the end of a sentence on what a method is, and further sentences."""
    weighted = "weighted " * (len({member.weight for member in card.members}) > 1)
    members = Counter(
        # Stages of one architecture are described together.
        tuple(kind.describe(own) for kind in dict.fromkeys(own.networks))
        for own in card.split()
    )
    total, text = members.total(), ""
    if total > 1:
        text = f"which takes the {weighted}mean of the probabilities of {total} methods. "
    for (first, *rest), count in members.items():
        if total > 1:
            some = "One is" if count == 1 else f"{count} of them are each"
            text += f"{'Each is' if count == total else some} "
        refined = [f"Its probabilities were refined by {further}. " for further in rest]
        text += f"{first}. {''.join(refined)}"
    return text.rstrip()


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
        "is_earlier": scan.is_earlier,
        "choices": (scan.stats or {}).get("choices", scan.choices),
        "figures": figures,
        "lesions": lesions,
        "lesions_problem": lesions_problem,
    }


def _lesions(path: Path | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Read the lesion table, largest lesion first; on failure return the reason instead."""
    if path is None:
        return None, None
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        volumes = pd.to_numeric(table["volume_mm3"], errors="coerce")
    except (OSError, ValueError, KeyError) as error:
        return None, f"The table of the lesions, {path.name}, can't be read ({error!r})."
    table = table.loc[volumes.sort_values(ascending=False, kind="stable").index]
    shown = {str(name): shown_column(str(name), column) for name, column in table.items()}
    return [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)], None
