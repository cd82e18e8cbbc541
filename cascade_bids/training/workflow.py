"""Bring labelled scans to the network grid as a participant run does, wired with Nipype."""

import logging
from collections.abc import Callable, Sequence
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
from cascade_bids.training.cases import Case, find_lesion_mask, find_lesion_masks
from cascade_bids.training.nodes import SaveCase
from cascade_bids.training.progress import say

log = logging.getLogger(__name__)

NEEDED = {"FLAIR", "T1w"}
"""Contrasts that an unlabelled scan must have: the T1w shows where lesions may be painted."""


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

    def place(wf: Workflow, case: Case) -> Gridded:
        if derivatives:
            ordered = sorted(case.contrasts, key=CONTRASTS.index)
            return connect_normalised(wf, case.scan, ordered, derivatives)
        return _connect_raw(wf, case, preprocess, resources)

    cases = [Case(scan, work_dir / "cases" / scan.label, tuple(contrasts)) for scan, _ in labelled]
    masks = [mask for _, mask in labelled]
    _prepare(cases, masks, place, replace(resources, work_dir=work_dir), work_dir, anatomy=anatomy)
    return cases


def find_unlabelled(
    dataset: Path, contrasts: Sequence[str], *, masks_dirs: Sequence[Path], work_dir: Path
) -> list[Case]:
    """Find the scans of a dataset that have no lesion mask, of a rater or a program.

    Parameters
    ----------
    dataset
        Of raw scans.
    contrasts
        What the networks take; FLAIR and T1w must be there, of the others what there is.
    masks_dirs
        Where lesion masks of these scans may be.
    work_dir
        Is to keep the cases.

    Returns
    -------
    list of Case
        In natural order; `prepare_unlabelled` makes their arrays.

    Raises
    ------
    UsageError
        When there is no such dataset, or it is derivatives of this program, or no scan has FLAIR
        and T1w and no lesion mask.
    """
    if is_ours(read_description(dataset)):
        raise UsageError(f"{dataset} is what cascade_bids made of another dataset; give that one")
    cases = []
    for scan in find_scans(InputConfig(dataset, validate=False)):
        masks = [mask.name for folder in masks_dirs for mask in find_lesion_masks(scan, folder)]
        missing = sorted(NEEDED - set(scan.images))
        if masks or missing:
            why = f"there is {masks[0]}" if masks else f"it has no {', '.join(missing)}"
            log.info("%s is not taken for unlabelled: %s", scan.label, why)
            continue
        known = tuple(name for name in contrasts if name in scan.images)
        cases.append(Case(scan, work_dir / "cases" / scan.label, known))
    if not cases:
        needed = " and ".join(sorted(NEEDED))
        raise UsageError(f"no scan in {dataset} has {needed} and no lesion mask")
    return cases


def prepare_unlabelled(
    cases: Sequence[Case], *, resources: ResourceConfig, seed: int, work_dir: Path
) -> None:
    """Bring scans without a lesion mask to the network grid, as having no lesions.

    Parameters
    ----------
    cases
        From `find_unlabelled`, with the same work folder.
    resources
        As of a participant run, but for the work folder.
    seed
        Of the registrations.
    work_dir
        Keeps the cases.

    Raises
    ------
    StartError
        When a scan cannot be prepared; the message names each.
    """
    say("preparing %d unlabelled %s", len(cases), "scan" if len(cases) == 1 else "scans")
    steps, resources = PreprocessConfig(random_seed=seed), replace(resources, work_dir=work_dir)

    def place(wf: Workflow, case: Case) -> Gridded:
        return _connect_raw(wf, case, steps, resources)

    _prepare(cases, [None] * len(cases), place, resources, work_dir, anatomy=False)


def _connect_raw(
    wf: Workflow, case: Case, preprocess: PreprocessConfig, resources: ResourceConfig
) -> Gridded:
    """Bring raw images to the network grid."""
    ordered = sorted(case.contrasts, key=CONTRASTS.index)
    prepared = connect_preparation(wf, case.scan, preprocess, resources, ordered)
    return Gridded(connect_grid(wf, "network", prepared), prepared.align, tuple(ordered))


def _prepare(
    cases: Sequence[Case],
    masks: Sequence[Path | None],
    place: Callable[[Workflow, Case], Gridded],
    resources: ResourceConfig,
    work_dir: Path,
    *,
    anatomy: bool,
) -> None:
    """Wire and run the steps of all cases."""
    workflow = Workflow("cascade_bids")
    for case, mask in zip(cases, masks, strict=True):
        wf = Workflow(workflow_name(case.scan))
        _connect_case(wf, mask, case, place(wf, case), anatomy=anatomy)
        workflow.add_nodes([wf])
    _run(workflow, [case.scan for case in cases], resources, work_dir)


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


def _connect_case(
    wf: Workflow, mask: Path | None, case: Case, gridded: Gridded, *, anatomy: bool
) -> None:
    """Bring the lesion mask of a scan, if any, to the network grid; keep all that lies there."""
    prepare = gridded.prepare
    sink = SaveCase(folder=str(case.folder.resolve()), contrasts=list(gridded.contrasts))
    save = Node(sink, "save_case")
    save.inputs.order = list(case.contrasts)
    wf.connect(prepare, "out_files", save, "in_files")
    wf.connect(prepare, "brain", save, "brain")
    if mask is not None:
        # It is taken to lie on the FLAIR, whatever its own grid.
        lesions = Node(
            ResampleMask(in_file=str(mask.resolve()), may_be_empty=True), "resample_lesions"
        )
        wf.connect(prepare, "brain", lesions, "grid")
        wf.connect(gridded.align, "rigid", lesions, "transform")
        wf.connect(lesions, "out_file", save, "lesions")
    if anatomy:
        wf.connect(*connect_anatomy(wf, gridded), save, "anatomy")
