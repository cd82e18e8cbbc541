"""Find labelled and unlabelled scans, and bring them to the network grid."""

import logging
from collections.abc import Collection, Sequence
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
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.data.masks import find_lesion_mask, find_lesion_masks
from cascade_bids.training.progress import announce
from cascade_bids.workflows.cases import CaseSettings, run_cases
from cascade_bids.workflows.preprocess import normalised_files

log = logging.getLogger(__name__)

NEEDED = {"FLAIR", "T1w"}
"""Contrasts that an unlabelled scan must have: the T1w shows where lesions may be painted."""


def prepare_cases(
    datasets: Sequence[LabelledDataset],
    contrasts: Sequence[str],
    *,
    optional: Collection[str],
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    work_dir: Path,
    anatomy: bool,
    brain_card: ModelCard,
    needed: bool = True,
) -> list[Case]:
    """Prepare the labelled scans of datasets on the network grid, as a participant run does.

    Of derivatives of this program the images, brain masks and alignments are taken as they are;
    their lesion masks are predictions, so the masks must be given.

    Parameters
    ----------
    datasets
        The datasets. A scan without a lesion mask is passed over.
    contrasts
        What the networks take, in their order; the FLAIR among them.
    optional
        Contrasts that a scan may lack.
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
        Dataset by dataset, each in natural order.

    Raises
    ------
    UsageError
        When the contrasts are without FLAIR, or without the T1w that anatomical coordinates are
        measured on, or a dataset is derivatives and no masks are given, or it has no scan with all
        contrasts and a mask, or a named participant lacks one, or no mask has a lesion.
    StartError
        When a scan cannot be prepared; the message names each.
    """
    if "FLAIR" not in contrasts:
        raise UsageError("--contrasts must name FLAIR, which every scan is aligned to")
    if anatomy and "T1w" not in contrasts:
        raise UsageError("--contrasts must name T1w, which anatomical coordinates are measured on")
    required = [contrast for contrast in contrasts if contrast not in optional]
    found = {
        dataset.source: (dataset, _find_labelled(dataset, required, needed)) for dataset in datasets
    }
    _require_lesions([mask for _, labelled in found.values() for _, mask in labelled], needed)
    cases: list[Case] = []
    for source, (dataset, labelled) in found.items():
        if not labelled:
            continue
        prepared = work_dir / "cases" / source
        own = [
            Case(
                scan,
                prepared / scan.label,
                tuple(name for name in contrasts if name in scan.images),
                source,
            )
            for scan, _ in labelled
        ]
        announce("preparing %d %s", len(own), "scan" if len(own) == 1 else "scans")
        settings = CaseSettings(
            preprocess, resources, brain_card, prepared, anatomy, _derivatives(dataset)
        )
        run_cases(own, [mask for _, mask in labelled], settings)
        cases += own
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


def _derivatives(dataset: LabelledDataset) -> Path | None:
    """Return the folder of a dataset that is derivatives of this program; None of another."""
    folder = dataset.inputs.bids_dir
    return folder if is_ours(read_description(folder)) else None


def _find_labelled(
    dataset: LabelledDataset, required: Sequence[str], needed: bool
) -> list[tuple[Scan, Path]]:
    """Return the scans of a dataset that can be learned from, with their masks."""
    inputs, derivatives = dataset.inputs, _derivatives(dataset)
    if derivatives and derivatives.resolve() == dataset.masks_dir.resolve():
        raise UsageError(
            f"{derivatives} is what cascade_bids made of another dataset, and its lesion masks are "
            "predictions; give --masks with the masks of a rater"
        )
    labelled: list[tuple[Scan, Path]] = []
    passed_over: list[str] = []
    for scan in find_scans(inputs):
        mask = find_lesion_mask(scan, dataset.masks_dir)
        missing = [c for c in required if c not in scan.images] + ([] if mask else ["lesion mask"])
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
            f"no scan in {inputs.bids_dir} has {', '.join(required)} and a lesion mask "
            f"(…_label-lesion_mask.nii.gz) in {dataset.masks_dir}:{reasons}"
        )
    for reason in passed_over:
        # What has no scan may still have a mask in the space of a template.
        log.info("%s%s", reason, ", so it is passed over" if needed else " as a scan")
    return labelled


def _require_lesions(masks: Sequence[Path], needed: bool) -> None:
    """Name the masks that are empty, and require that not all are."""
    healthy = [mask.name for mask in masks if _is_empty(mask)]
    # Healthy scans teach what is no lesion, but they alone teach nothing.
    if needed and len(healthy) == len(masks):
        raise UsageError(f"no scan to learn from has a lesion ({', '.join(healthy)}); add one")
    if healthy:
        announce("without a lesion, by their empty masks: %s", ", ".join(healthy))


def _is_empty(mask: Path) -> bool:
    try:
        return not np.asarray(load_mask(mask).dataobj).any()
    except ScanError:
        return False  # The step that prepares it says what is wrong.
