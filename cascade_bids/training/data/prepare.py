"""Find labelled and unlabelled scans, and bring them to the network grid."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cascade_bids.bids.dataset import read_description
from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import is_ours
from cascade_bids.bids.scan import Scan
from cascade_bids.config import InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.models.card import ModelCard
from cascade_bids.models.cases import Case
from cascade_bids.preprocess.load import load_mask
from cascade_bids.training.data.masks import find_lesion_mask, find_lesion_masks
from cascade_bids.training.progress import announce
from cascade_bids.workflows.cases import CaseSettings, run_cases
from cascade_bids.workflows.preprocess import normalised_files

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
    brain_card: ModelCard,
    needed: bool = True,
) -> list[Case]:
    """Prepare the labelled scans of a dataset on the network grid, as a participant run does.

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
    brain_card
        Of the brain extraction.
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

    cases = [Case(scan, work_dir / "cases" / scan.label, tuple(contrasts)) for scan, _ in labelled]
    masks = [mask for _, mask in labelled]
    settings = CaseSettings(preprocess, resources, brain_card, work_dir, anatomy, derivatives)
    run_cases(cases, masks, settings)
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
    cases: Sequence[Case],
    *,
    resources: ResourceConfig,
    brain_card: ModelCard,
    seed: int,
    work_dir: Path,
) -> None:
    """Prepare scans without a lesion mask on the network grid, as having no lesions.

    Parameters
    ----------
    cases
        From `find_unlabelled`, with the same work folder.
    resources
        As of a participant run, but for the work folder.
    brain_card
        Of the brain extraction.
    seed
        Of the registrations.
    work_dir
        Keeps the cases.

    Raises
    ------
    StartError
        When a scan cannot be prepared; the message names each.
    """
    announce("preparing %d unlabelled %s", len(cases), "scan" if len(cases) == 1 else "scans")
    preprocess = PreprocessConfig(random_seed=seed)
    run_cases(cases, [None] * len(cases), CaseSettings(preprocess, resources, brain_card, work_dir))


def _find_labelled(
    inputs: InputConfig,
    contrasts: Sequence[str],
    masks_dir: Path,
    derivatives: Path | None,
    needed: bool,
) -> list[tuple[Scan, Path]]:
    """Return the scans that can be learned from, with their masks; if needed, one has a lesion."""
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
        announce("preparing %d %s", len(labelled), "scan" if len(labelled) == 1 else "scans")
    if healthy:
        announce("without a lesion, by their empty masks: %s", ", ".join(healthy))
    return labelled


def _is_empty(mask: Path) -> bool:
    try:
        return not np.asarray(load_mask(mask).dataobj).any()
    except ScanError:
        return False  # The step that prepares it says what is wrong.
