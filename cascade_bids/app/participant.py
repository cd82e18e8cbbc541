"""The participant level: process all scans, list failures, and write the reports."""

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cascade_bids.app.change import compare_sessions
from cascade_bids.app.comparison import report_change
from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import find_stats, output_path, write_dataset_description
from cascade_bids.bids.results import (
    DID_NOT_FINISH,
    changing,
    find_result,
    note_failure,
    read_failure,
    start_result,
)
from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION, MethodConfig, ParticipantConfig
from cascade_bids.errors import CascadeBidsError, ScanError, StartError, UsageError
from cascade_bids.files import clear_broken, why_unfetched, write_text
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
from cascade_bids.workflows.execution import remove_crashes, run_workflow, workflow_name
from cascade_bids.workflows.resources import share_cores
from cascade_bids.workflows.scan import init_participant_wf

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Result of one scan."""

    scan: Scan
    """The scan."""
    stats: Mapping[str, Any] | None = None
    """Content of its stats file; None if there is none."""
    problem: str | None = None
    """Why it failed; after a failed figure, `stats` may still be complete."""
    failed_step: str | None = None
    """Step of the workflow that failed, if any."""
    is_earlier: bool = False
    """Whether `stats` are those of an earlier run, which stay when this one fails."""
    uncompared: str | None = None
    """Why the sessions of the participant could not be compared."""

    @property
    def cause(self) -> str:
        """What the run did that failed: ``failed at align to template: …``."""
        return f"failed{f' at {self.failed_step}' if self.failed_step else ''}: {self.problem}"


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
        remove_crashes(scan, config.output_dir / "logs")
        start_result(config.output_dir, scan)
    clear_broken(config.output_dir / "logs")
    outcomes: list[Outcome] = []
    failures: dict[str, tuple[str, str]] = {}
    try:
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
        if config.longitudinal:
            outcomes = _compare(outcomes, config)
    finally:
        unwritten = _write_reports(outcomes, config, card)
    return [_with_page(outcome, unwritten) for outcome in outcomes]


def _compare(outcomes: Sequence[Outcome], config: ParticipantConfig) -> list[Outcome]:
    """Compare the sessions of the participants, and add why some could not be compared."""
    subjects = dict.fromkeys(one.scan.subject for one in outcomes if one.scan.session is not None)
    failed = compare_sessions(subjects, config)
    return [replace(outcome, uncompared=failed.get(outcome.scan.subject)) for outcome in outcomes]


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
    """Determine the result of a scan, and note in the derivatives if it has none of this run."""
    root = config.output_dir
    step, problem = failures.get(workflow_name(scan), (None, scan.problem))
    found = _read_result(root, scan)
    unfinished = found.problem is not None
    if problem is None and unfinished:
        problem = (
            f"{DID_NOT_FINISH}; run again, and if both runs have the same --work-dir it goes on "
            "there"
        )
    if problem is not None:
        problem = _name_image(problem, step, scan)
    outcome = replace(found, problem=problem, failed_step=step)
    if problem is not None and unfinished:
        with contextlib.suppress(CascadeBidsError):  # it still says that the run did not finish
            note_failure(root, scan, outcome.cause)
    return outcome


def _read_result(root: Path, scan: Scan) -> Outcome:
    """Read what the derivatives tell of a scan: its statistics, and why its last run failed."""
    failure = read_failure(root, scan)
    stats = _read_stats(root, scan)
    is_earlier = stats is not None and failure is not None
    return Outcome(scan, stats, failure, is_earlier=is_earlier)


def _read_stats(root: Path, scan: Scan) -> dict[str, Any] | None:
    """Read the statistics of a scan, whichever run they are of; None if there are none to read."""
    found = find_result(root, scan)
    if found is None:
        return None
    try:
        stats: dict[str, Any] = json.loads(found[1].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if unfetched := why_unfetched(found[1]):
            log.warning("%s %s", found[1], unfetched)
        else:
            log.warning("%s is damaged (%s); run %s again", found[1], error, scan.label)
        return None
    return stats


def _name_image(problem: str, step: str | None, scan: Scan) -> str:
    """Add the raw image to the error message of a step, which processed a copy of the image."""
    # Steps that take all images tell the contrast at the start of their message.
    names = (step.split()[-1] if step else "", problem.partition(":")[0].removeprefix("the "))
    image = next((scan.images[name] for name in names if name in scan.images), None)
    named = any(str(path) in problem for path in (image, scan.brain_mask) if path is not None)
    return problem if image is None or named else f"{image}: {problem}"


def _page(scan: Scan) -> str:
    """Return the name of the report that contains a scan."""
    return scan.stem or f"sub-{scan.subject}"


def _write_reports(
    outcomes: Sequence[Outcome], config: ParticipantConfig, card: MethodCard
) -> dict[str, str]:
    """Write a page for each participant of the run, including sessions of earlier runs.

    Returns the name of each page that cannot be written, and why.
    """
    root, unwritten = config.output_dir, {}
    names = {_page(outcome.scan): outcome.scan for outcome in outcomes}
    for name, scan in names.items():
        own = [outcome for outcome in outcomes if _page(outcome.scan) == name]
        try:
            with changing(root, scan):
                # Read when nobody changes it: another run may have replaced a result.
                group = [*map(partial(_reread, root), own), *_other_sessions(own, root)]
                write_subject_report(
                    root,
                    name,
                    [
                        _scan_report(outcome, root)
                        for outcome in sorted(group, key=lambda outcome: outcome.scan.label)
                    ],
                    version=VERSION,
                    boilerplate=_boilerplate(config, card),
                    change=report_change(root, scan),
                )
        except CascadeBidsError as error:
            unwritten[name] = str(error)
    return unwritten


def _reread(root: Path, outcome: Outcome) -> Outcome:
    found = _read_result(root, outcome.scan)
    return replace(outcome, stats=found.stats, is_earlier=found.is_earlier)


def _with_page(outcome: Outcome, unwritten: Mapping[str, str]) -> Outcome:
    """Let a scan fail whose page could not be written."""
    problem = unwritten.get(_page(outcome.scan))
    if problem is None or outcome.problem is not None:
        return outcome
    return replace(outcome, problem=problem)


def _other_sessions(outcomes: Sequence[Outcome], root: Path) -> list[Outcome]:
    """Find the results of earlier runs for other sessions of a participant."""
    first = outcomes[0].scan
    if first.stem is not None:
        return []
    sessions = {outcome.scan.session for outcome in outcomes}
    others = []
    for entities, _ in find_stats(root, first.subject):
        scan = Scan(entities["subject"], entities.get("session"), entities.get("run"))
        if scan.session not in sessions and (found := _read_result(root, scan)).stats is not None:
            others.append(found)
    return others


def _scan_report(outcome: Outcome, root: Path) -> ScanReport:
    found = find_result(root, outcome.scan)
    named = outcome.scan if found is None else found[0]
    paths = {
        caption: output_path(root, named, "figure", desc=name) for name, caption in FIGURES.items()
    }
    return ScanReport(
        label=outcome.scan.label,
        stats=outcome.stats,
        figures={caption: path for caption, path in paths.items() if path.exists()},
        lesions=output_path(root, named, "lesion_table") if outcome.stats else None,
        problem=outcome.problem,
        failed_step=outcome.failed_step,
        is_earlier=outcome.is_earlier,
        choices=outcome.scan.choices,
    )


def _boilerplate(config: ParticipantConfig, card: MethodCard) -> str:
    return render_boilerplate(
        card,
        version=VERSION,
        skull_strip=config.preprocess.skull_strip,
        separate_lesions=config.method.separate_lesions,
        tta=config.method.tta,
    )
