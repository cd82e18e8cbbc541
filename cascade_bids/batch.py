"""The participant level: run all scans, tell failures apart, and report on each participant."""

import glob
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import find_stats, output_path, write_dataset_description
from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION, MethodConfig, ParticipantConfig
from cascade_bids.errors import StartError, UsageError
from cascade_bids.execution import run_workflow, workflow_name
from cascade_bids.network.device import prepare_device
from cascade_bids.network.weights import FIND_LESIONS, check_weights, load_card
from cascade_bids.participant import init_participant_wf
from cascade_bids.report.page import write_whole
from cascade_bids.report.subject import (
    FIGURES,
    ScanReport,
    render_boilerplate,
    write_subject_report,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one scan."""

    scan: Scan
    """The scan."""
    stats: Mapping[str, Any] | None = None
    """What its stats file says; None if it was not written."""
    problem: str | None = None
    """Why it failed; a scan whose numbers are complete may lack a picture."""
    failed_step: str | None = None
    """Where it failed, if a step of the workflow did."""


def run_participants(config: ParticipantConfig) -> list[Outcome]:
    """Process the scans of a BIDS dataset.

    Parameters
    ----------
    config
        What the run was asked.

    Returns
    -------
    list of Outcome
        One for each scan, in the order of the dataset.

    Raises
    ------
    UsageError
        When input, labels, method or device do not exist, or the method can't do what is asked.
    StartError
        When no scan can be processed, or the weights are unreadable.
    """
    card = _check_start(config)
    scans = find_scans(config.inputs)
    write_dataset_description(
        config.output_dir,
        bids_dir=config.inputs.bids_dir,
        derivatives=config.inputs.derivatives,
        version=VERSION,
    )
    write_whole(config.output_dir / "logs" / "CITATION.md", _boilerplate(config, card))
    return run_scans(scans, config)


def run_scans(scans: Sequence[Scan], config: ParticipantConfig) -> list[Outcome]:
    """Process scans, wherever they come from; parameters and errors as `run_participants`."""
    card = _check_start(config)
    scans = [_check_images(scan, card, config) for scan in scans]
    ready = [scan for scan in scans if scan.problem is None]
    for scan in scans:
        _forget(scan, config)
    failures: dict[str, tuple[str, str]] = {}
    outcomes = []
    try:
        if not ready:
            causes = "\n".join(f"  {scan.label}: {scan.problem}" for scan in scans)
            raise StartError(f"no scan can be processed:\n{causes}")
        workflow = init_participant_wf(ready, config, card)
        logs = config.output_dir / "logs"
        run_workflow(workflow, ready, config.resources, logs, failures)
    finally:
        outcomes = [_outcome(scan, config, failures) for scan in scans]
        _write_reports(outcomes, config, card)
    return outcomes


def _check_start(config: ParticipantConfig) -> Mapping[str, Any]:
    """Check device, method and weights before anything is written; give the method's card."""
    prepare_device(config.resources.device, config.resources.omp_nthreads)
    return check_method(config.method)


def check_method(method: MethodConfig) -> Mapping[str, Any]:
    """Check a method, its weights, and whether it can do what is asked; give its card.

    Raises
    ------
    UsageError
        When there is no such method, or it can't.
    StartError
        When weights are unreadable.
    """
    card = load_card(method.method, task=FIND_LESIONS)
    if method.separate_lesions and not card.get("sphere_head"):
        raise UsageError(
            f"--separate-lesions needs the sphere map of a method with a sphere head, which "
            f"{card['name']} has not; leave the option out, or choose another --method"
        )
    if method.tta and card.get("anatomy"):
        raise UsageError(
            f"--tta mirrors the head, which {card['name']} with its anatomical coordinates can't "
            "be asked about; leave the option out, or choose another --method"
        )
    for name in (method.method, "brain"):
        check_weights(name)
    return card


def _check_images(scan: Scan, card: Mapping[str, Any], config: ParticipantConfig) -> Scan:
    """Name what the method needs and the scan lacks, before Nipype stops the batch over it."""
    if scan.problem is not None:
        return scan
    if config.preprocess.skull_strip == "skip":
        choices = [c for c in scan.choices if not c.startswith("Brain mask: ")]
        if scan.brain_mask is not None:
            choices.append(
                f"Brain mask: {scan.brain_mask.name} was not used, since the images were taken as "
                "brain-extracted."
            )
        scan = replace(scan, choices=tuple(choices), brain_mask=None, brain_mask_space=None)
    optional = card.get("optional", ())
    missing = [c for c in card["contrasts"] if c not in scan.images and c not in optional]
    if missing:
        return replace(
            scan,
            problem=f"no {' or '.join(missing)} image, which the method needs; add it, or choose "
            "a --method that does without",
        )
    read = {"FLAIR", *card["contrasts"], *config.preprocess.output_spaces, scan.brain_mask_space}
    paths = [*(path for c, path in scan.images.items() if c in read), scan.brain_mask]
    absent = [path for path in paths if path is not None and not path.exists()]
    if absent:
        # What git-annex and DataLad leave for a file that was not fetched.
        return replace(
            scan, problem=f"{absent[0]} is a link to a file that does not exist; fetch it first"
        )
    return scan


def _outcome(
    scan: Scan, config: ParticipantConfig, failures: Mapping[str, tuple[str, str]]
) -> Outcome:
    """Tell success by the stats file, which is of this run; a picture may have failed beside it."""
    path = output_path(config.output_dir, scan, "stats")
    stats = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    step, problem = failures.get(workflow_name(scan), (None, scan.problem))
    if problem is None and stats is None:
        problem = (
            "did not finish; run again, and if both runs have the same --work-dir it goes on there"
        )
    if problem is not None:
        problem = _name_image(problem, step, scan)
    return Outcome(scan, stats, problem, step)


def _name_image(problem: str, step: str | None, scan: Scan) -> str:
    """Name the raw image that a step of one contrast stumbled over; the step saw a copy of it."""
    image = scan.images.get(step.split()[-1]) if step else None
    named = any(str(path) in problem for path in (image, scan.brain_mask) if path is not None)
    return problem if image is None or named else f"{image}: {problem}"


def _forget(scan: Scan, config: ParticipantConfig) -> None:
    """Remove what an earlier run said of a session, so that reports never mix two runs.

    That run may have chosen another FLAIR of the session, whose run is in its files' names.
    """
    root = config.output_dir
    stem = None if scan.stem is None else glob.escape(scan.stem)
    for run in (None, "*") if stem is None else (None,):
        any_scan = replace(scan, run=run, stem=stem)
        outputs = [output_path(Path(), any_scan, "stats")]
        outputs += [output_path(Path(), any_scan, "figure", desc=name) for name in FIGURES]
        logs = "crash-" + workflow_name(replace(scan, run=None)) + ("_run_*" if run else "")
        for pattern in (*outputs, Path("logs", f"{logs}-*.txt")):
            for path in root.glob(str(pattern)):
                path.unlink()
    # It is written anew at the end; until then it would say what is not true any more.
    (root / f"{_page(scan)}.html").unlink(missing_ok=True)
    if scan.stem is None:
        # By its folder the group level knows who was begun and has no result.
        output_path(root, scan, "stats").parents[1].mkdir(parents=True, exist_ok=True)


def _page(scan: Scan) -> str:
    """Name the report that a scan is on."""
    return scan.stem or f"sub-{scan.subject}"


def _write_reports(
    outcomes: Sequence[Outcome], config: ParticipantConfig, card: Mapping[str, Any]
) -> None:
    """Write a page for each participant of the run, with the sessions of earlier runs on it."""
    pages: dict[str, list[Outcome]] = {}
    for outcome in [*outcomes, *_earlier_outcomes(outcomes, config.output_dir)]:
        pages.setdefault(_page(outcome.scan), []).append(outcome)
    for name, group in pages.items():
        write_subject_report(
            config.output_dir,
            name,
            [
                _scan_report(outcome, config.output_dir)
                for outcome in sorted(group, key=lambda outcome: outcome.scan.label)
            ],
            version=VERSION,
            boilerplate=_boilerplate(config, card),
        )


def _earlier_outcomes(outcomes: Sequence[Outcome], root: Path) -> list[Outcome]:
    """Find what earlier runs made of other sessions of the same participants."""
    subjects = {outcome.scan.subject for outcome in outcomes if outcome.scan.stem is None}
    sessions = {(outcome.scan.subject, outcome.scan.session) for outcome in outcomes}
    earlier = []
    for entities, path in find_stats(root):
        scan = Scan(entities["subject"], entities.get("session"), entities.get("run"))
        if scan.subject not in subjects or (scan.subject, scan.session) in sessions:
            continue
        try:
            earlier.append(Outcome(scan, stats=json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            log.warning("%s is damaged (%s); run %s again", path, error, scan.label)
    return earlier


def _scan_report(outcome: Outcome, root: Path) -> ScanReport:
    scan = outcome.scan
    paths = {
        caption: output_path(root, scan, "figure", desc=name) for name, caption in FIGURES.items()
    }
    return ScanReport(
        label=scan.label,
        stats=outcome.stats,
        figures={caption: path for caption, path in paths.items() if path.exists()},
        lesions=output_path(root, scan, "lesion_table") if outcome.stats else None,
        problem=outcome.problem,
        failed_step=outcome.failed_step,
        choices=scan.choices,
    )


def _boilerplate(config: ParticipantConfig, card: Mapping[str, Any]) -> str:
    return render_boilerplate(
        card,
        version=VERSION,
        shipped=not config.method.method.endswith(".json"),
        skull_strip=config.preprocess.skull_strip,
        separate_lesions=config.method.separate_lesions,
        tta=config.method.tta,
    )
