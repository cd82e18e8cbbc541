"""Bring labelled scans to the network grid as a participant run does, wired with Nipype."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from nipype import Node, Workflow

from cascade_bids.bids.dataset import read_description
from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import is_ours
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import ScanError, StartError, UsageError
from cascade_bids.execution import run_workflow, workflow_name
from cascade_bids.preparation import (
    Gridded,
    connect_anatomy,
    connect_grid,
    connect_normalised,
    connect_preparation,
    normalised_files,
)
from cascade_bids.preprocess.load import load_mask
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
    needed: bool = True,
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
    needed
        Whether there must be a scan; else there may be something other to learn from.

    Returns
    -------
    list of Case
        In natural order.

    Raises
    ------
    UsageError
        When the contrasts are without FLAIR, or without the T1w that anatomical coordinates are
        measured on, or the dataset is derivatives and no masks are given, or no scan has all
        contrasts and a mask, or a named participant lacks one, or no mask has a lesion.
    StartError
        When a scan cannot be prepared; the message names each.
    """
    if "FLAIR" not in contrasts:
        raise UsageError("--contrasts must name FLAIR, which every scan is aligned to")
    if anatomy and "T1w" not in contrasts:
        raise UsageError("--contrasts must name T1w, which anatomical coordinates are measured on")
    derivatives = inputs.bids_dir if is_ours(read_description(inputs.bids_dir)) else None
    if derivatives and masks_dir is None:
        raise UsageError(
            f"{derivatives} is what cascade_bids made of another dataset, and its lesion masks are "
            "predictions; give --masks with the masks of a rater"
        )
    labelled = _find_labelled(inputs, contrasts, masks_dir or inputs.bids_dir, derivatives, needed)
    if not labelled:
        return []
    ordered = sorted(contrasts, key=CONTRASTS.index)

    def place(wf: Workflow, scan: Scan) -> Gridded:
        if derivatives:
            return connect_normalised(wf, scan, ordered, derivatives)
        prepared = connect_preparation(wf, scan, preprocess, resources, ordered)
        return Gridded(connect_grid(wf, "network", prepared), prepared.align, tuple(ordered))

    cases = [Case(scan, work_dir / "cases" / scan.label, tuple(contrasts)) for scan, _ in labelled]
    workflow = Workflow("cascade_bids")
    for case, (scan, mask) in zip(cases, labelled, strict=True):
        wf = Workflow(workflow_name(scan))
        _connect_case(wf, mask, case, place(wf, scan), anatomy=anatomy)
        workflow.add_nodes([wf])
    _run(workflow, [scan for scan, _ in labelled], replace(resources, work_dir=work_dir), work_dir)
    return cases


def _find_labelled(
    inputs: InputConfig,
    contrasts: Sequence[str],
    masks_dir: Path,
    derivatives: Path | None,
    needed: bool,
) -> list[tuple[Scan, Path]]:
    """Give the scans that can be learned from, with their masks; if needed, one has a lesion."""
    labelled: list[tuple[Scan, Path]] = []
    passed_over: list[str] = []
    for scan in find_scans(inputs):
        mask = find_lesion_mask(scan, masks_dir)
        missing = [c for c in contrasts if c not in scan.images] + ([] if mask else ["lesion mask"])
        if derivatives:
            files = normalised_files(derivatives, scan).values()
            missing += [path.name for path in files if not path.exists()]
        if mask and not missing:
            labelled.append((scan, mask))
            continue
        passed_over.append(f"{scan.label} has no {', '.join(missing)} to learn from")
        if inputs.participant_labels and needed:
            raise UsageError(passed_over[-1])
    if not labelled and needed:
        reasons = "".join(f"\n  {reason}" for reason in passed_over[:10])
        raise UsageError(
            f"no scan in {inputs.bids_dir} has {', '.join(contrasts)} and a lesion mask "
            f"(…_label-lesion_mask.nii.gz) in {masks_dir}:{reasons}"
        )
    for reason in passed_over:
        # What has no scan may still have a mask in the space of a template.
        log.info("%s%s", reason, ", so it is passed over" if needed else " as a scan")
    healthy = [scan.label for scan, mask in labelled if _is_empty(mask)]
    # Healthy scans teach what is no lesion, but they alone teach nothing.
    if needed and len(healthy) == len(labelled):
        raise UsageError(f"no scan to learn from has a lesion ({', '.join(healthy)}); add one")
    if labelled:
        say("preparing %d %s", len(labelled), "scan" if len(labelled) == 1 else "scans")
    if healthy:
        say("without a lesion, by their empty masks: %s", ", ".join(healthy))
    return labelled


def _is_empty(mask: Path) -> bool:
    try:
        return not np.asarray(load_mask(mask).dataobj).any()
    except ScanError:
        return False  # The step that prepares it says what is wrong.


def _run(
    workflow: Workflow, scans: Sequence[Scan], resources: ResourceConfig, work_dir: Path
) -> None:
    failures: dict[str, tuple[str, str]] = {}
    run_workflow(workflow, scans, resources, work_dir / "logs", failures)
    if failures:
        labels = {workflow_name(scan): scan.label for scan in scans}
        causes = [f"  {labels[name]} at {step}: {why}" for name, (step, why) in failures.items()]
        raise StartError("some scans can't be learned from:\n" + "\n".join(causes))


def _connect_case(wf: Workflow, mask: Path, case: Case, gridded: Gridded, *, anatomy: bool) -> None:
    """Bring the lesion mask of a scan to the network grid, and keep all that lies there."""
    prepare = gridded.prepare
    # The mask is taken to lie on the FLAIR, whatever its own grid.
    lesions = Node(ResampleMask(in_file=str(mask), may_be_empty=True), "resample_lesions")
    wf.connect(prepare, "brain", lesions, "grid")
    wf.connect(gridded.align, "rigid", lesions, "transform")
    sink = SaveCase(folder=str(case.folder), contrasts=list(gridded.contrasts))
    save = Node(sink, "save_case")
    save.inputs.order = list(case.contrasts)
    wf.connect(prepare, "out_files", save, "in_files")
    wf.connect(prepare, "brain", save, "brain")
    wf.connect(lesions, "out_file", save, "lesions")
    if anatomy:
        wf.connect(*connect_anatomy(wf, gridded), save, "anatomy")
