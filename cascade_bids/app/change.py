"""Compare the sessions of each participant of a run."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_bids.bids.change_outputs import SessionResult
from cascade_bids.bids.outputs import find_stats
from cascade_bids.bids.results import DID_NOT_FINISH, clear_failure, note_failure, read_failure
from cascade_bids.bids.scan import Scan
from cascade_bids.bids.session_times import SessionOrder, order_sessions
from cascade_bids.change.table import MIN_CHANGE_PERCENT
from cascade_bids.config import VERSION, ParticipantConfig
from cascade_bids.quality.verdict import FAIL
from cascade_bids.workflows.change import init_change_wf, join
from cascade_bids.workflows.execution import remove_crashes, run_workflow, workflow_name

logger = logging.getLogger(__name__)

NEEDED = {"method", "contrasts", "threshold", "min_lesion_mm3", "peak", "by_location", "images"}
"""Entries of the statistics of a session that a comparison needs."""

SAME = ("method", "weights_sha256", "threshold", "min_lesion_mm3", "peak", "skull_strip")
"""Settings that all sessions must share to be compared."""


def compare_sessions(subjects: Iterable[str], config: ParticipantConfig) -> dict[str, str]:
    """Compare all sessions with a result of each participant, those of earlier runs too.

    Parameters
    ----------
    subjects
        Labels of the participants, without ``sub-``.
    config
        Settings of the run.

    Returns
    -------
    dict
        Label of each participant whose sessions could not be compared, to the cause.
    """
    logs = config.output_dir / "logs"
    scans, workflows, failures = [], [], {}
    for subject in subjects:
        scan = Scan(subject, None, None)
        results, left_out = _find_results(config.output_dir, subject)
        if len(results) < 2:
            clear_failure(config.output_dir, scan)
            continue
        differing = _find_differing(results)
        if differing:
            failures[subject] = (
                f"they were not processed with the same {' and '.join(differing)}; process them "
                "again with one"
            )
            continue
        remove_crashes(scan, logs)
        note_failure(config.output_dir, scan, DID_NOT_FINISH)
        workflows.append(_init_workflow(subject, results, left_out, config))
        scans.append(scan)
    if scans:
        steps: dict[str, tuple[str, str]] = {}
        try:
            run_workflow(join(workflows), scans, config.resources, logs, steps)
        finally:
            for scan in scans:
                if workflow_name(scan) in steps:
                    step, cause = steps[workflow_name(scan)]
                    failures[scan.subject] = f"{step}: {cause}"
    for subject, cause in failures.items():
        logger.error("sub-%s: the sessions were not compared: %s", subject, cause)
        note_failure(config.output_dir, Scan(subject, None, None), f"failed: {cause}")
    return failures


def _find_results(root: Path, subject: str) -> tuple[list[SessionResult], dict[str, str]]:
    """Find the sessions of a participant, and why some of them are left out."""
    results, left_out = [], {}
    for entities, path in find_stats(root, subject):
        if "session" not in entities:
            continue
        scan = Scan(subject, entities["session"], entities.get("run"))
        cause = read_failure(root, scan)
        try:
            result = SessionResult(scan, path.read_text(encoding="utf-8"))
            if cause is None and not result.stats.keys() >= NEEDED:
                cause = "is of an earlier version; process it again"
            if cause is None:
                results.append(result)
        except (OSError, ValueError) as error:
            cause = f"has statistics that can't be read ({error})"
        if cause is not None:
            left_out[f"ses-{scan.session}"] = cause
    # Sessions that were started and have no result.
    for folder in sorted((root / f"sub-{subject}").glob("ses-*")):
        known = {f"ses-{result.scan.session}" for result in results} | left_out.keys()
        if folder.name not in known:
            cause = read_failure(root, Scan(subject, folder.name.removeprefix("ses-"), None))
            left_out[folder.name] = cause or "has no result"
    return results, left_out


def _find_differing(results: Sequence[SessionResult]) -> list[str]:
    """Return the names of settings that are not the same in all sessions."""
    return [name for name in SAME if len({str(one.stats.get(name)) for one in results}) > 1]


def _init_workflow(
    subject: str,
    results: Sequence[SessionResult],
    left_out: Mapping[str, str],
    config: ParticipantConfig,
) -> Any:
    sessions = {str(one.scan.session): one for one in results}
    order = order_sessions(config.inputs.bids_dir, subject, list(sessions))
    ordered = [sessions[session] for session in order.sessions]
    return init_change_wf(
        ordered,
        config.output_dir,
        min_change_mm3=config.min_change_mm3,
        years=order.years,
        facts=_facts(ordered, order, left_out, config),
        bids_dir=config.inputs.bids_dir,
        seed=config.preprocess.random_seed,
    )


def _facts(
    results: Sequence[SessionResult],
    order: SessionOrder,
    left_out: Mapping[str, str],
    config: ParticipantConfig,
) -> dict[str, Any]:
    """Return the entries of the statistics besides the intervals."""
    warnings = [
        f"{name} is not compared, since it {cause.rstrip('.')}." for name, cause in left_out.items()
    ]
    if order.source == "labels":
        warnings.append(
            "The order of the sessions is that of their labels, and nothing is known of the time "
            "between them: acq_time is missing in sessions.tsv and scans.tsv."
        )
    contrasts = {one.stats["contrasts"] for one in results}
    if len(contrasts) > 1:
        warnings.append(
            "The sessions do not have the same contrasts, which can make a change where there is "
            f"none: {', '.join(sorted(contrasts))}."
        )
    warnings += [
        f"The verdict on the quality of ses-{one.scan.session} is {FAIL}."
        for one in results
        if one.stats.get("quality", {}).get("verdict") == FAIL
    ]
    return {
        "sessions": [f"ses-{session}" for session in order.sessions],
        "runs": [one.scan.run for one in results],
        "order": order.source,
        "method": results[0].stats["method"],
        "version": VERSION,
        "min_change_mm3": config.min_change_mm3,
        "min_change_percent": MIN_CHANGE_PERCENT,
        "warnings": warnings,
    }
