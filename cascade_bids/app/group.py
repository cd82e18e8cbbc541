"""The group level: combine the results of all participants into the tables of the cohort."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cascade_bids.app.group_change import write_changes
from cascade_bids.app.manifest import write_manifest
from cascade_bids.app.read_stats import count, number, read_all
from cascade_bids.bids.outputs import find_misplaced_stats, find_stats, write_json
from cascade_bids.bids.results import read_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.files import write_text
from cascade_bids.lesions.location import LOCATIONS
from cascade_bids.quality.verdict import FAIL, VERDICTS
from cascade_bids.report.cohort import data_dictionary, write_cohort_report

logger = logging.getLogger(__name__)

ENTITY_COLUMNS = {
    "participant_id": ("subject", "sub"),
    "session_id": ("session", "ses"),
    "run_id": ("run", "run"),
}
"""Column to its entity and to the prefix of its values, as in BIDS tables."""

OPTIONAL_COLUMNS = ("session_id", "run_id", "load_low_ml", "load_high_ml")
"""Columns that are omitted if no scan has a value."""

SETTINGS = (
    "method",
    "contrasts",
    "version",
    "weights_sha256",
    "threshold",
    "min_lesion_mm3",
    "peak",
    "temperature",
    "separate_lesions",
    "tta",
    "skull_strip",
)
"""Settings that must be equal in all scans for their lesions to be comparable."""


def run_group(output_dir: Path) -> Path:
    """Collect the lesion statistics of all scans in a derivatives tree, without reading raw data.

    Writes ``lesions.tsv`` (one row per scan, in natural order), ``lesions.json`` (its BIDS data
    dictionary) and ``group.html``, the tables of `write_changes`, and the manifest of
    `write_manifest`. The columns `OPTIONAL_COLUMNS` are present only if a scan has a value; any
    other missing value is ``n/a``. Participants without statistics and settings that differ between
    scans are listed in the report and logged as warnings; statistics that cannot be read are listed
    in the report and in the error.

    Parameters
    ----------
    output_dir
        Root of the derivatives that the participant level wrote.

    Returns
    -------
    Path
        The report, ``group.html``.

    Raises
    ------
    UsageError
        If there are no lesion statistics.
    ScanError
        If some of them cannot be read, or lie where their name does not belong; the table and the
        report hold the others, if any.
    """
    found, misplaced = find_stats(output_dir), find_misplaced_stats(output_dir)
    if not (found or misplaced):
        raise UsageError(
            f"{output_dir} holds no lesion statistics (…_desc-lesions_stats.json); run the "
            "participant level with this output folder first."
        )
    scans, damaged = read_all(found, output_dir, _scan)
    damaged += [
        f"{path.relative_to(output_dir)} is left out: {reason}."
        for path, reason in misplaced.items()
    ]
    if not scans:
        raise ScanError("\n".join(["No lesion statistics could be read.", *damaged]))
    changes, unread, differing = write_changes(output_dir, [entities for entities, _ in found])
    damaged += unread
    write_manifest(output_dir)
    problems = [
        *_without_result(output_dir, found, misplaced),
        *_earlier(output_dir, found),
        *_flagged(scans),
        *_mixed(scans),
        *differing,
    ]
    for problem in problems:
        logger.warning(problem)
    table = _table(scans)
    write_text(output_dir / "lesions.tsv", table.to_csv(sep="\t", na_rep="n/a", index=False))
    described = {name: about for name, about in data_dictionary().items() if name in table}
    write_json(output_dir / "lesions.json", described)
    report = output_dir / "group.html"
    write_cohort_report(
        report, table, problems=damaged + problems, version=VERSION, changes=changes
    )
    if damaged:
        raise ScanError("\n".join([f"{report} is written, but not of all scans.", *damaged]))
    return report


def _scan(entities: Mapping[str, str], stats: Mapping[str, Any]) -> dict[str, Any]:
    return {**_row(entities, stats), "settings": _settings(stats)}


def _row(entities: Mapping[str, str], stats: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        column: f"{prefix}-{entities[entity]}" if entity in entities else None
        for column, (entity, prefix) in ENTITY_COLUMNS.items()
    }
    row["load_ml"] = number(stats["load_ml"])
    low, high = stats.get("load_interval_ml") or (None, None)
    row |= {"load_low_ml": number(low), "load_high_ml": number(high)}
    row["lesion_count"] = count(stats["count"])
    row["icv_ml"] = number(stats["icv_ml"])
    row["load_percent_icv"] = number(stats["load_percent_icv"])
    # It is null where the header does not tell the orientation.
    parts = stats["by_location"]
    for location in LOCATIONS:
        load_ml = None if parts is None else parts[location]["load_ml"]
        row[f"{location}_load_ml"] = number(load_ml)
    row["quality"] = _verdict(stats["quality"]["verdict"]) if "quality" in stats else None
    return row | {"method": str(stats["method"]), "version": str(stats["version"])}


def _verdict(value: object) -> str:
    if value not in VERDICTS:
        raise ValueError(f"{value!r} stands where a verdict belongs ({', '.join(VERDICTS)})")
    return str(value)


def _settings(stats: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(stats[name]) for name in SETTINGS if name in stats}


def _table(scans: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(scans, columns=list(data_dictionary()))
    table["lesion_count"] = table["lesion_count"].astype("Int64")
    unused = [name for name in OPTIONAL_COLUMNS if table[name].isna().all()]
    return table.drop(columns=unused)


def _without_result(
    root: Path, found: list[tuple[dict[str, str], Path]], misplaced: Iterable[Path]
) -> list[str]:
    """List the participants and sessions that have a folder or a page but no statistics."""
    done = {f"sub-{entities['subject']}" for entities, _ in found}
    done |= {
        f"sub-{entities['subject']}/ses-{entities['session']}"
        for entities, _ in found
        if "session" in entities
    }
    # What is misplaced is told already.
    folders = (folder for path in misplaced for folder in path.parents[1:3])
    done |= {folder.relative_to(root).as_posix() for folder in folders}
    started = {path.name for path in root.glob("sub-*") if path.is_dir()}
    started |= {path.stem for path in root.glob("sub-*.html")}
    started |= {path.relative_to(root).as_posix() for path in root.glob("sub-*/ses-*")}
    return [
        f"{name} has no lesion statistics, so it is not in the table: its processing "
        f"{_cause(root, name) or 'failed or is not finished'}."
        for name in sorted(started - done)
        if Path(name).parent.as_posix() not in started - done
    ]


def _cause(root: Path, name: str) -> str | None:
    """Return what is noted of the last run of a folder, such as ``sub-1/ses-2``."""
    subject, _, session = name.removeprefix("sub-").partition("/ses-")
    cause = read_failure(root, Scan(subject, session or None, None))
    return cause and cause.rstrip(".")


def _earlier(root: Path, found: list[tuple[dict[str, str], Path]]) -> list[str]:
    """List the scans whose statistics are not of their last run."""
    problems = []
    for entities, _ in found:
        scan = Scan(entities["subject"], entities.get("session"), entities.get("run"))
        cause = read_failure(root, scan)
        if cause is not None:
            problems.append(
                f"The numbers of {scan.label} are of an earlier run, since its last one "
                f"{cause.rstrip('.')}."
            )
    return problems


def _flagged(scans: list[dict[str, Any]]) -> list[str]:
    """List the scans whose numbers are not to be trusted by their verdict, or that have none."""
    names: dict[str | None, list[str]] = {}
    for scan in scans:
        name = "_".join(scan[column] for column in ENTITY_COLUMNS if scan[column])
        names.setdefault(scan["quality"], []).append(name)
    problems = []
    if failed := names.get(FAIL):
        problems.append(
            f"The verdict on the quality of {len(failed)} of the {len(scans)} scans is {FAIL}: "
            f"{', '.join(failed)}. Their reports say why; do not use their numbers before you "
            "looked."
        )
    if unjudged := names.get(None):
        problems.append(
            f"{len(unjudged)} of the {len(scans)} scans have no verdict on their quality: "
            f"{', '.join(unjudged)}. Process them again with this version."
        )
    return problems


def _mixed(scans: list[dict[str, Any]]) -> list[str]:
    """List the settings that differ between scans."""
    problems = []
    for name in SETTINGS:
        values = sorted({scan["settings"][name] for scan in scans if name in scan["settings"]})
        if len(values) > 1:
            problems.append(
                f"The scans were not all processed with the same {name} ({', '.join(values)}); "
                "their lesions are not comparable. Process them again with one."
            )
    return problems
