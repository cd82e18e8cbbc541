"""The workflow of labelled and unlabelled scans, from images to the arrays for training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nipype import Workflow

from cascade_bids.config import CONTRASTS, PreprocessConfig, ResourceConfig
from cascade_bids.errors import ScanError, StartError
from cascade_bids.interfaces.cases import SaveCase
from cascade_bids.models.card import ModelCard
from cascade_bids.models.cases import Case
from cascade_bids.preprocess.load import check_file
from cascade_bids.workflows.execution import run_workflow, workflow_name
from cascade_bids.workflows.preprocess import (
    Gridded,
    connect_anatomy,
    connect_grid,
    connect_normalised,
    connect_preparation,
)
from cascade_bids.workflows.resources import step


@dataclass(frozen=True)
class CaseSettings:
    """Settings of the preparation of cases."""

    preprocess: PreprocessConfig
    """As in a participant run."""
    resources: ResourceConfig
    """As in a participant run, except for the work folder."""
    brain_card: ModelCard
    """Card of the brain extraction."""
    work_dir: Path
    """Folder that keeps the cases."""
    anatomy: bool = False
    """Whether the networks take anatomical coordinates after the contrasts."""
    derivatives: Path | None = None
    """Root of derivatives of cascade_bids with the images; None for raw images."""


def run_cases(cases: Sequence[Case], masks: Sequence[Path | None], settings: CaseSettings) -> None:
    """Resample scans and their lesion masks onto the network grid, and store the arrays.

    Parameters
    ----------
    cases
        The scans, with their images.
    masks
        Lesion mask of each scan; None for an unlabelled scan.
    settings
        Settings of the preparation.

    Raises
    ------
    StartError
        When a scan cannot be prepared; the message lists all of them.
    """
    _refuse([text for case, mask in zip(cases, masks, strict=True) for text in _check(case, mask)])
    workflow = Workflow("cascade_bids")
    for case, mask in zip(cases, masks, strict=True):
        workflow.add_nodes([init_case_wf(case, mask, settings)])
    scans = [case.scan for case in cases]
    failures: dict[str, tuple[str, str]] = {}
    resources = replace(settings.resources, work_dir=settings.work_dir)
    run_workflow(workflow, scans, resources, settings.work_dir / "logs", failures)
    labels = {workflow_name(scan): scan.label for scan in scans}
    _refuse([f"{labels[name]} at {step}: {why}" for name, (step, why) in failures.items()])


def _refuse(causes: Sequence[str]) -> None:
    if causes:
        lines = "".join(f"\n  {cause}" for cause in causes)
        raise StartError(f"some scans can't be learned from:{lines}")


def _check(case: Case, mask: Path | None) -> Iterator[str]:
    """Check the files of a case, before Nipype stops at one that is none."""
    images = [case.scan.images[contrast] for contrast in {"FLAIR", *case.contrasts}]
    for path in (*images, mask):
        try:
            if path is not None:
                check_file(path)
        except ScanError as error:
            yield f"{case.scan.label}: {error}"


def init_case_wf(case: Case, mask: Path | None, settings: CaseSettings) -> Workflow:
    """Build the workflow of one case.

    Parameters
    ----------
    case
        The scan, with its images.
    mask
        Its lesion mask; None for an unlabelled scan.
    settings
        Settings of the preparation.

    Returns
    -------
    nipype.Workflow
        Its last node, ``save_case``, stores the arrays.
    """
    wf = Workflow(workflow_name(case.scan))
    gridded = _connect_images(wf, case, settings)
    prepare = gridded.prepare
    sink = SaveCase(folder=str(case.folder.resolve()), contrasts=list(gridded.contrasts))
    save = step(sink, "save_case")
    save.inputs.order = list(case.contrasts)
    wf.connect(prepare, "out_files", save, "in_files")
    wf.connect(prepare, "brain", save, "brain")
    wf.connect(gridded.align, "rigid", save, "rigid")
    save.inputs.flair = str(case.scan.images["FLAIR"])
    if mask is not None:
        # The mask is assumed to be in FLAIR space, whatever its grid.
        save.inputs.lesions = str(mask.resolve())
    if settings.anatomy:
        wf.connect(*connect_anatomy(wf, gridded), save, "anatomy")
    return wf


def _connect_images(wf: Workflow, case: Case, settings: CaseSettings) -> Gridded:
    """Resample the images of a scan onto the network grid, as in a participant run."""
    contrasts = sorted(case.contrasts, key=CONTRASTS.index)
    if settings.derivatives is not None:
        return connect_normalised(wf, case.scan, contrasts, settings.derivatives)
    prepared = connect_preparation(
        wf, case.scan, settings.preprocess, settings.resources, contrasts, settings.brain_card
    )
    return Gridded(
        connect_grid(wf, case.scan, "network", prepared), prepared.align, tuple(contrasts)
    )
