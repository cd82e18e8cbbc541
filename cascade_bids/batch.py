"""The participant level: run all scans, tell failures apart, and report on each participant."""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from nipype import Node
from nipype import config as nipype_config

from cascade_bids.bids.inputs import Scan, find_scans
from cascade_bids.bids.outputs import output_path, write_dataset_description
from cascade_bids.config import VERSION, ParticipantConfig
from cascade_bids.errors import StartError, UsageError
from cascade_bids.network.device import prepare_device
from cascade_bids.network.weights import check_weights, load_card
from cascade_bids.participant import init_participant_wf, workflow_name
from cascade_bids.report.page import write_whole
from cascade_bids.report.subject import ScanReport, render_boilerplate, write_subject_report

log = logging.getLogger(__name__)

FIGURES = {
    "brain": "The FLAIR after bias correction, with the outline of the brain.",
    "lesions": "Lesions on the FLAIR. Of each slab of the brain the slice with the largest lesion "
    "area is shown.",
}
"""Figures of a scan by name, with their captions, in the order of the report."""


@dataclass(frozen=True)
class Outcome:
    """What became of one scan."""

    scan: Scan
    """The scan."""
    stats: Mapping[str, Any] | None = None
    """What its stats file says; None after a failure."""
    problem: str | None = None
    """Why it failed."""
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
        When input, labels, method or device do not exist.
    StartError
        When no scan can be processed, or the weights are unreadable.
    """
    prepare_device(config.method.device, config.resources.omp_nthreads)
    card = load_card(config.method.method)
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
    card = load_card(config.method.method)
    for name in (config.method.method, "brain"):
        check_weights(name)
    scans = [_check_contrasts(scan, card["contrasts"]) for scan in scans]
    ready = [scan for scan in scans if scan.problem is None]
    if not ready:
        causes = "\n".join(f"  {scan.label}: {scan.problem}" for scan in scans)
        raise StartError(f"no scan can be processed:\n{causes}")
    for scan in scans:
        _forget_figures(config, scan)
    failures: dict[str, tuple[str, str]] = {}
    outcomes = []
    try:
        failures = _run_workflow(ready, config, card)
    finally:
        outcomes = [_outcome(scan, config, failures) for scan in scans]
        _write_reports(outcomes, config, card)
    return outcomes


def _check_contrasts(scan: Scan, contrasts: Sequence[str]) -> Scan:
    missing = [c for c in contrasts if c not in scan.images]
    if scan.problem is not None or not missing:
        return scan
    return replace(
        scan,
        problem=f"no {' or '.join(missing)} image, which the method needs; add it, or choose a "
        "--method that does without",
    )


def _run_workflow(
    scans: Sequence[Scan], config: ParticipantConfig, card: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """Run the journeys; give for each failed one, by workflow name, the step and the cause."""
    with _work_dir(config) as resources:
        config = replace(config, resources=resources)
        crash_dir = Path(tempfile.mkdtemp(prefix="crash-", dir=resources.work_dir))
        nipype_config.update_config(
            {
                "execution": {
                    "crashdump_dir": str(crash_dir),
                    "crashfile_format": "txt",
                    "stop_on_first_crash": resources.stop_on_first_crash,
                }
            }
        )
        workflow = init_participant_wf(scans, config, card)
        parallel = resources.nprocs > 1
        try:
            workflow.run(
                plugin="MultiProc" if parallel else "Linear",
                plugin_args={
                    "n_procs": resources.nprocs,
                    "mp_context": "spawn",
                    "raise_insufficient": False,
                    "status_callback": _tell,
                },
            )
        except RuntimeError as error:
            # Nipype raises once all that can run has run; the crash files say what did not.
            log.debug("workflow ended with %s", error)
        return _read_crashes(crash_dir, config.output_dir / "logs")


@contextmanager
def _work_dir(config: ParticipantConfig) -> Iterator[Any]:
    """Lend the work folder, a temporary one when none was asked for."""
    resources = config.resources
    if resources.work_dir is None:
        with tempfile.TemporaryDirectory(prefix="cascade_bids-") as folder:
            yield replace(resources, work_dir=Path(folder))
        return
    resources.work_dir.mkdir(parents=True, exist_ok=True)
    yield resources
    if resources.clean_work_dir:
        shutil.rmtree(resources.work_dir / "cascade_bids", ignore_errors=True)


def _tell(node: Node, status: str) -> None:
    """Log the progress of a step (Nipype's status callback)."""
    scan, step = node.fullname.split(".")[1:3]
    words = {"start": "started", "end": "done", "exception": "FAILED"}
    log.log(
        logging.WARNING if status == "exception" else logging.INFO,
        "%s: %s %s",
        scan,
        step.replace("_", " "),
        words.get(status, status),
    )


def _read_crashes(crash_dir: Path, log_dir: Path) -> dict[str, tuple[str, str]]:
    """Read Nipype's crash files, and keep them in the log folder."""
    failures: dict[str, tuple[str, str]] = {}
    for path in sorted(crash_dir.glob("crash-*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        node = re.search(r"^Node: cascade_bids\.(\w+)\.(\w+)", text, re.MULTILINE)
        if node is None:
            continue
        name, step = node.groups()
        log_dir.mkdir(parents=True, exist_ok=True)
        kept = log_dir / f"crash-{name}-{step}.txt"
        write_whole(kept, text)
        failures.setdefault(name, (step.replace("_", " "), _cause(text, kept)))
    shutil.rmtree(crash_dir)
    return failures


def _cause(text: str, kept: Path) -> str:
    """Find the error in a traceback: our own message as it is, any other with its crash file."""
    ours = re.findall(r"^\s*cascade_bids\.errors\.\w+: (.+)$", text, re.MULTILINE)
    if ours:
        return str(ours[-1])
    others = re.findall(r"^\s*([\w.]*(?:Error|Exception|Killed)\w*(?:: .+)?)$", text, re.MULTILINE)
    last = others[-1] if others else "unknown error"
    return f"{last} (this is unexpected; please report it with {kept})"


def _outcome(
    scan: Scan, config: ParticipantConfig, failures: Mapping[str, tuple[str, str]]
) -> Outcome:
    """Tell success by the stats file; a scan that failed has none, not even an earlier run's."""
    stats = output_path(config.output_dir, scan, "stats")
    step, problem = failures.get(workflow_name(scan), (None, scan.problem))
    if problem is None and not stats.exists():
        problem = "did not finish; run the same command again to go on"
    if problem is not None:
        stats.unlink(missing_ok=True)
        return Outcome(scan, problem=problem, failed_step=step)
    return Outcome(scan, stats=json.loads(stats.read_text(encoding="utf-8")))


def _forget_figures(config: ParticipantConfig, scan: Scan) -> None:
    """Remove an earlier run's figures, so that a report never mixes two runs."""
    for name in FIGURES:
        output_path(config.output_dir, scan, "figure", desc=name).unlink(missing_ok=True)


def _write_reports(
    outcomes: Sequence[Outcome], config: ParticipantConfig, card: Mapping[str, Any]
) -> None:
    def page(outcome: Outcome) -> str:
        return outcome.scan.stem or f"sub-{outcome.scan.subject}"

    for name, group in groupby(outcomes, key=page):
        write_subject_report(
            config.output_dir,
            name,
            [_scan_report(outcome, config.output_dir) for outcome in group],
            version=VERSION,
            boilerplate=_boilerplate(config, card),
        )


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
    )


def _boilerplate(config: ParticipantConfig, card: Mapping[str, Any]) -> str:
    return render_boilerplate(
        version=VERSION,
        method=config.method.method,
        contrasts=card["contrasts"],
        skull_strip=config.preprocess.skull_strip,
    )


def patient_scan(flair: Path, others: Mapping[str, Path]) -> Scan:
    """Make a scan of loose images, without BIDS.

    Parameters
    ----------
    flair
        The FLAIR image; the outputs' names begin as its own does.
    others
        Contrast to image.

    Returns
    -------
    Scan
        Its stem is set.

    Raises
    ------
    UsageError
        When an image does not exist.
    """
    images = {"FLAIR": flair, **others}
    for contrast, path in images.items():
        if not path.is_file():
            raise UsageError(f"the {contrast} image {path} does not exist")
    stem = re.sub(r"\.nii(\.gz)?$", "", flair.name)
    absolute = {contrast: path.absolute() for contrast, path in images.items()}
    return Scan("patient", None, None, images=absolute, stem=stem)
