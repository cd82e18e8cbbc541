"""Bring labelled scans to the network grid as a participant run does, wired with Nipype."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nipype import Node, Workflow

from cascade_bids.bids.dataset import read_description
from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import is_ours
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import StartError, UsageError
from cascade_bids.execution import run_workflow, workflow_name
from cascade_bids.preparation import (
    Prepared,
    connect_anatomy,
    connect_grid,
    connect_normalised,
    connect_preparation,
    normalised_files,
)
from cascade_bids.preprocess.nodes import ResampleMask
from cascade_bids.training.cases import Case, find_lesion_mask
from cascade_bids.training.nodes import SaveCase
from cascade_bids.training.progress import say

log = logging.getLogger(__name__)


def prepare_cases(
    inputs: InputConfig,
    contrasts: Sequence[str],
    *,
    masks_dir: Path | None,
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    work_dir: Path,
    anatomy: bool,
) -> list[Case]:
    """Bring the labelled scans of a dataset to the network grid, as a participant run does.

    Of derivatives of this program the images, brain masks and alignments are taken as they are;
    their lesion masks are predictions, so the masks must be given.

    Parameters
    ----------
    inputs
        Dataset and participants. A scan without a lesion mask is passed over.
    contrasts
        What the networks take, in their order; the FLAIR among them.
    masks_dir
        Folder that holds the ``label-lesion_mask`` images; the dataset itself when None.
    preprocess, resources
        As of a participant run, but for the work folder.
    work_dir
        The work folder, which keeps the cases.
    anatomy
        Whether the networks take anatomical coordinates behind the contrasts.

    Returns
    -------
    list of Case
        In natural order.

    Raises
    ------
    UsageError
        When the contrasts are without FLAIR, or without the T1w that anatomical coordinates are
        measured on, or the dataset is derivatives and no masks are given, or no scan has all
        contrasts and a mask, or a named participant lacks one, or all masks are empty.
    StartError
        When a scan cannot be prepared; the message names each.
    """
    if "FLAIR" not in contrasts:
        raise UsageError("--contrasts must name FLAIR, which every scan is aligned to")
    if anatomy and "T1w" not in contrasts:
        raise UsageError("--contrasts must name T1w, which anatomical coordinates are measured on")
    ours = is_ours(read_description(inputs.bids_dir))
    if ours and masks_dir is None:
        raise UsageError(
            f"{inputs.bids_dir} is what cascade_bids made of another dataset, and its lesion masks "
            "are predictions; give --masks with the masks of a rater"
        )
    masks_dir = masks_dir or inputs.bids_dir
    labelled: dict[str, tuple[Scan, Path]] = {}
    for scan in find_scans(inputs):
        mask = find_lesion_mask(scan, masks_dir)
        missing = [c for c in contrasts if c not in scan.images] + ([] if mask else ["lesion mask"])
        if ours:
            needed = normalised_files(inputs.bids_dir, scan).values()
            missing += [path.name for path in needed if not path.exists()]
        if mask and not missing:
            labelled[scan.label] = (scan, mask)
        elif inputs.participant_labels:
            raise UsageError(f"{scan.label} has no {', '.join(missing)} to learn from")
        else:
            log.info("%s is passed over, it has no %s", scan.label, ", ".join(missing))
    if not labelled:
        raise UsageError(
            f"no scan in {inputs.bids_dir} has {', '.join(contrasts)} and a lesion mask "
            f"(…_label-lesion_mask.nii.gz) in {masks_dir}"
        )
    say("preparing %d %s", len(labelled), "scan" if len(labelled) == 1 else "scans")
    resources = replace(resources, work_dir=work_dir)
    derivatives = inputs.bids_dir if ours else None
    cases = _run(labelled, contrasts, preprocess, resources, work_dir, anatomy, derivatives)
    # Healthy scans teach what is no lesion, but they alone teach nothing.
    if not any(case.lesions.any() for case in cases):
        raise UsageError(f"all lesion masks in {masks_dir} are empty; add a scan with lesions")
    return cases


def _run(
    labelled: Mapping[str, tuple[Scan, Path]],
    contrasts: Sequence[str],
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    work_dir: Path,
    anatomy: bool,
    derivatives: Path | None,
) -> list[Case]:
    cases = {
        label: Case(scan, work_dir / "cases" / label, tuple(contrasts))
        for label, (scan, _) in labelled.items()
    }
    workflow = Workflow("cascade_bids")
    for label, (scan, mask) in labelled.items():
        wf = Workflow(workflow_name(scan))
        ordered = sorted(contrasts, key=CONTRASTS.index)
        prepared = (
            connect_preparation(wf, scan, preprocess, resources, ordered)
            if derivatives is None
            else connect_normalised(wf, scan, ordered, derivatives)
        )
        _connect_case(wf, mask, cases[label], prepared, anatomy=anatomy)
        workflow.add_nodes([wf])
    scans = [scan for scan, _ in labelled.values()]
    failures: dict[str, tuple[str, str]] = {}
    run_workflow(workflow, scans, resources, work_dir / "logs", failures)
    if failures:
        labels = {workflow_name(scan): scan.label for scan in scans}
        causes = [f"  {labels[name]} at {step}: {why}" for name, (step, why) in failures.items()]
        raise StartError("some scans can't be learned from:\n" + "\n".join(causes))
    return list(cases.values())


def _connect_case(
    wf: Workflow, mask: Path, case: Case, prepared: Prepared, *, anatomy: bool
) -> None:
    """Bring a prepared scan and its lesion mask to the network grid and keep them there."""
    prepare = connect_grid(wf, "network", prepared)
    # The mask is taken to lie on the FLAIR, whatever its own grid.
    lesions = Node(ResampleMask(in_file=str(mask), may_be_empty=True), "resample_lesions")
    wf.connect(prepare, "brain", lesions, "grid")
    wf.connect(prepared.align, "rigid", lesions, "transform")
    contrasts = list(prepared.corrected)
    save = Node(SaveCase(folder=str(case.folder), contrasts=contrasts), "save_case")
    save.inputs.order = list(case.contrasts)
    wf.connect(prepare, "out_files", save, "in_files")
    wf.connect(prepare, "brain", save, "brain")
    wf.connect(lesions, "out_file", save, "lesions")
    if anatomy:
        wf.connect(*connect_anatomy(wf, prepared, prepare), save, "anatomy")
