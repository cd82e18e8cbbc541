"""The participant level: process all scans, list failures, and write the reports."""

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
from cascade_bids.errors import ScanError, StartError, UsageError
from cascade_bids.files import write_text
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.brain_extraction import CARD as BRAIN_CARD
from cascade_bids.models.card import Cards, MethodCard, load_card, load_model_card
from cascade_bids.models.device import prepare_device
from cascade_bids.models.weights import check_weights
from cascade_bids.preprocess.load import check_file
from cascade_bids.report.subject import (
    FIGURES,
    ScanReport,
    render_boilerplate,
    write_subject_report,
)
from cascade_bids.workflows.execution import run_workflow, workflow_name
from cascade_bids.workflows.resources import share_cores
from cascade_bids.workflows.scan import init_participant_wf

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Result of one scan."""

    scan: Scan
    """The scan."""
    stats: Mapping[str, Any] | None = None
    """Content of its stats file; None if it was not written."""
    problem: str | None = None
    """Why it failed; after a failed figure, `stats` may still be complete."""
    failed_step: str | None = None
    """Step of the workflow that failed, if any."""


def run_participants(config: ParticipantConfig) -> list[Outcome]:
    """Process the scans of a BIDS dataset.

    Parameters
    ----------
    config
        Settings of the run.

    Returns
    -------
    list of Outcome
        One for each scan, in the order of the dataset.

    Raises
    ------
    UsageError
        When input, labels, method or device do not exist, or the method does not support the
        settings.
    StartError
        When no scan can be processed, or weights are unreadable.
    """
    cards = _start(config)
    scans = find_scans(config.inputs)
    write_dataset_description(
        config.output_dir,
        bids_dir=config.inputs.bids_dir,
        derivatives=config.inputs.derivatives,
        version=VERSION,
    )
    write_text(config.output_dir / "logs" / "CITATION.md", _boilerplate(config, cards.method))
    return _run(scans, config, cards)


def run_scans(scans: Sequence[Scan], config: ParticipantConfig) -> list[Outcome]:
    """Process scans from any source; `config`, result and errors as of `run_participants`."""
    return _run(scans, config, _start(config))


def _run(scans: Sequence[Scan], config: ParticipantConfig, cards: Cards) -> list[Outcome]:
    card = cards.method
    scans = [_check_images(scan, card, config) for scan in scans]
    ready = [scan for scan in scans if scan.problem is None]
    for scan in scans:
        _remove_earlier(scan, config)
    failures: dict[str, tuple[str, str]] = {}
    outcomes = []
    try:
        if not ready:
            causes = "\n".join(f"  {scan.label}: {scan.problem}" for scan in scans)
            raise StartError(f"no scan can be processed:\n{causes}")
        threads = share_cores(config.resources, len(ready))
        config = replace(config, resources=replace(config.resources, omp_nthreads=threads))
        workflow = init_participant_wf(ready, config, cards)
        logs = config.output_dir / "logs"
        run_workflow(workflow, ready, config.resources, logs, failures)
    finally:
        outcomes = [_outcome(scan, config, failures) for scan in scans]
        _write_reports(outcomes, config, card)
    return outcomes


def _start(config: ParticipantConfig) -> Cards:
    """Check device, method and weights before anything is written, and return the cards."""
    prepare_device(config.resources.device, threads=1)  # checks it; steps run elsewhere
    return load_cards(config.method)


def load_cards(method: MethodConfig) -> Cards:
    """Load the cards of a run; check the weights, and whether the method supports the settings.

    Parameters
    ----------
    method
        Settings of the method.

    Returns
    -------
    Cards
        Cards of the method and of the brain extraction.

    Raises
    ------
    UsageError
        When there is no such method, or it does not support the settings.
    StartError
        When weights are unreadable.
    """
    card = load_card(method.method)
    if method.separate_lesions and not card.has_spheres:
        raise UsageError(
            f"--separate-lesions needs the sphere map of a method with a sphere head, which "
            f"{card.name} has not; leave the option out, or choose another --method"
        )
    if method.tta and card.takes_anatomy:
        raise UsageError(
            f"--tta mirrors the head, which {card.name} with its anatomical coordinates can't "
            "do; leave the option out, or choose another --method"
        )
    cards = Cards(_at_point(card, method), load_model_card(BRAIN_CARD))
    for one in (cards.method, cards.brain):
        check_weights(one)
    return cards


def _at_point(card: MethodCard, method: MethodConfig) -> MethodCard:
    """Return a card with the threshold and the smallest lesion that were asked for."""
    if method.threshold is None and method.min_lesion_mm3 is None:
        return card
    own = card.operating_point
    threshold = own.threshold if method.threshold is None else method.threshold
    smallest = own.min_lesion_mm3 if method.min_lesion_mm3 is None else method.min_lesion_mm3
    point = OperatingPoint(threshold, smallest, max(threshold, own.min_peak))
    # Interval and confidence were calibrated at the method's own.
    return replace(card, operating_point=point, load_factor=None, confidence=None)


def _check_images(scan: Scan, card: MethodCard, config: ParticipantConfig) -> Scan:
    """Check that a scan has what the method needs, before Nipype stops all scans over it."""
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
    missing = [c for c in card.contrasts if c not in scan.images and c not in card.optional]
    if missing:
        return replace(
            scan,
            problem=f"no {' or '.join(missing)} image, which the method needs; add it, or choose "
            "a --method that does without",
        )
    read = {"FLAIR", *card.contrasts, *config.preprocess.output_spaces, scan.brain_mask_space}
    paths = [*(path for c, path in scan.images.items() if c in read), scan.brain_mask]
    try:
        for path in paths:
            if path is not None:
                check_file(path)
    except ScanError as error:
        return replace(scan, problem=str(error))
    return scan


def _outcome(
    scan: Scan, config: ParticipantConfig, failures: Mapping[str, tuple[str, str]]
) -> Outcome:
    """Determine the result of a scan from its stats file and from failed steps."""
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
    """Add the raw image to the error message of a step, which processed a copy of the image."""
    image = scan.images.get(step.split()[-1]) if step else None
    named = any(str(path) in problem for path in (image, scan.brain_mask) if path is not None)
    return problem if image is None or named else f"{image}: {problem}"


def _remove_earlier(scan: Scan, config: ParticipantConfig) -> None:
    """Remove what an earlier run reported on a session, so that reports never mix two runs.

    The earlier run may have chosen a FLAIR with another ``run`` entity.
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
    # The page is written again at the end; until then it would be outdated.
    (root / f"{_page(scan)}.html").unlink(missing_ok=True)
    if scan.stem is None:
        # The folder shows the group level that the scan was started but has no result.
        output_path(root, scan, "stats").parents[1].mkdir(parents=True, exist_ok=True)


def _page(scan: Scan) -> str:
    """Return the name of the report that contains a scan."""
    return scan.stem or f"sub-{scan.subject}"


def _write_reports(
    outcomes: Sequence[Outcome], config: ParticipantConfig, card: MethodCard
) -> None:
    """Write a page for each participant of the run, including sessions of earlier runs."""
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
    """Find the results of earlier runs for other sessions of the same participants."""
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


def _boilerplate(config: ParticipantConfig, card: MethodCard) -> str:
    return render_boilerplate(
        card,
        version=VERSION,
        skull_strip=config.preprocess.skull_strip,
        separate_lesions=config.method.separate_lesions,
        tta=config.method.tta,
    )
