"""The table of the cohort on change between sessions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cascade_bids.app.comparison import SETTINGS, Comparison, parse_comparison
from cascade_bids.app.read_stats import read_all
from cascade_bids.bids.change_outputs import find_comparisons
from cascade_bids.bids.outputs import write_json
from cascade_bids.bids.results import read_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.files import write_text
from cascade_bids.report.change import changes_dictionary


def write_changes(
    root: Path, scans: Iterable[Mapping[str, str]]
) -> tuple[pd.DataFrame | None, list[str], list[str]]:
    """Collect the comparisons of all participants in a derivatives tree.

    Writes ``changes.tsv`` (one row per participant and interval, in natural order and that of time)
    and ``changes.json`` (its BIDS data dictionary), or removes those of before if no sessions were
    compared.

    Parameters
    ----------
    root
        Root of the derivatives.
    scans
        Entities of each scan with lesion statistics, from `cascade_bids.bids.outputs.find_stats`.

    Returns
    -------
    DataFrame or None
        The table; None if there is nothing in it.
    list of str
        A sentence on each comparison that cannot be read.
    list of str
        Sentences on participants without a comparison, comparisons that do not fit the sessions
        with a result, and settings that differ.
    """
    found, misplaced = find_comparisons(root)
    parsed, damaged = read_all(found, root, _parse)
    damaged += [f"{path.relative_to(root)} is left out: {why}." for path, why in misplaced.items()]
    compared = dict(parsed)
    sessions: dict[str, list[str]] = {}
    for entities in scans:
        if "session" in entities:
            sessions.setdefault(entities["subject"], []).append(entities["session"])
    # What is damaged or misplaced is told already.
    told = {subject for subject, _ in found}
    told |= {path.relative_to(root).parts[0].removeprefix("sub-") for path in misplaced}
    problems = [
        *_without_comparison(root, {k: v for k, v in sessions.items() if k not in told}),
        *_outdated(root, sessions, compared),
        *_mixed(compared.values()),
    ]
    return _write_table(root, compared), damaged, problems


def _parse(subject: str, stats: Any) -> tuple[str, Comparison]:
    return subject, parse_comparison(stats)


def _write_table(root: Path, compared: Mapping[str, Comparison]) -> pd.DataFrame | None:
    rows = [
        {"participant_id": f"sub-{subject}", **interval}
        for subject, comparison in compared.items()
        for interval in comparison.intervals
    ]
    paths = root / "changes.tsv", root / "changes.json"
    if not rows:
        for path in paths:
            path.unlink(missing_ok=True)
        return None
    table = pd.DataFrame(rows, columns=list(changes_dictionary()))
    write_text(paths[0], table.to_csv(sep="\t", na_rep="n/a", index=False))
    write_json(paths[1], changes_dictionary())
    return table


def _without_comparison(root: Path, sessions: Mapping[str, Sequence[str]]) -> list[str]:
    """Tell why participants with several sessions have no comparison."""
    problems, untried = [], []
    for subject, labels in sessions.items():
        if len(labels) < 2:
            continue
        left_out = [label for label in labels if read_failure(root, Scan(subject, label, None))]
        cause = read_failure(root, Scan(subject, None, None))
        if len(labels) - len(left_out) < 2:
            problems.append(
                f"The sessions of sub-{subject} are not compared, since fewer than two have a "
                "result of their last run."
            )
        elif cause is not None:
            problems.append(
                f"The sessions of sub-{subject} are not compared, since the last comparison "
                f"{cause.rstrip('.')}."
            )
        else:
            untried.append(f"sub-{subject}")
    if untried:
        problems.append(
            f"The sessions of {', '.join(untried)} are not compared, since their last run was "
            "told not to (--longitudinal off) or ended before. To compare them, run the "
            "participant level again with --longitudinal on."
        )
    return problems


def _outdated(
    root: Path, sessions: Mapping[str, Sequence[str]], compared: Mapping[str, Comparison]
) -> list[str]:
    """List the comparisons that are not of the results that there are now."""
    problems = []
    for subject, comparison in compared.items():
        labels = sessions.get(subject, [])
        lost = [name for name in comparison.sessions if name.removeprefix("ses-") not in labels]
        # A session whose last run failed is told, and is not compared.
        added = [
            f"ses-{label}"
            for label in labels
            if f"ses-{label}" not in comparison.sessions
            and read_failure(root, Scan(subject, label, None)) is None
        ]
        causes = [f"there is no result of {' and '.join(lost)} any more"] * bool(lost)
        causes += [f"it lacks {' and '.join(added)}"] * bool(added)
        if causes:
            problems.append(
                f"The comparison of the sessions of sub-{subject} is outdated: "
                f"{', and '.join(causes)}. Run the participant level again for this participant."
            )
        failure = read_failure(root, Scan(subject, None, None))
        if failure is not None:
            problems.append(
                f"The comparison of the sessions of sub-{subject} is of an earlier run, since the "
                f"last one {failure.rstrip('.')}."
            )
    return problems


def _mixed(comparisons: Collection[Comparison]) -> list[str]:
    """List the settings that differ between comparisons."""
    problems = []
    for name in SETTINGS:
        values = sorted({comparison.settings[name] for comparison in comparisons})
        if len(values) > 1:
            problems.append(
                f"The sessions were not all compared with the same {name} ({', '.join(values)}); "
                "their changes are not comparable. Compare them again with one."
            )
    return problems
