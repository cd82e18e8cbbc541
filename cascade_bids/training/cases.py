"""Labelled scans to learn from: images, brain and lesions on one grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from torch import Tensor

from cascade_bids.bids.dataset import Image, index_images
from cascade_bids.errors import UsageError
from cascade_bids.network.cascade import stack_contrasts
from cascade_bids.preprocess.intensity import normalise_intensity, tissue_mask
from cascade_bids.preprocess.steps import nonzero_mask


@dataclass(frozen=True)
class Case:
    """One scan on a 1 mm RAS+ grid, brain-extracted, with its lesions outlined by raters."""

    label: str
    """Name of the scan."""
    volume: Tensor
    """(C, X, Y, Z) float32, normalised contrasts."""
    flair: np.ndarray
    """(X, Y, Z) float32, the normalised FLAIR."""
    brain: np.ndarray
    """(X, Y, Z) bool."""
    lesions: np.ndarray
    """(X, Y, Z) bool."""


def load_cases(
    dataset: Path, contrasts: Sequence[str], participants: Sequence[str] = ()
) -> list[Case]:
    """Load the labelled scans of a dataset of brain-extracted images in one space.

    Parameters
    ----------
    dataset
        BIDS dataset, raw or derivative; each scan's images and its ``label-lesion_mask`` lie on
        one 1 mm grid. Images made with a contrast agent are passed over.
    contrasts
        What the network takes.
    participants
        Which participants, without ``sub-``; all that have every contrast and a mask when empty.

    Returns
    -------
    list of Case
        In natural order.

    Raises
    ------
    UsageError
        When a named participant lacks an image or a mask, or when there is no case at all.
    """
    images = index_images(
        dataset.absolute(),
        subjects=None,
        validate=False,
        database_dir=None,
        suffixes=(*contrasts, "mask"),
    )
    scans: dict[str, dict[str, Path]] = {}
    for image in images:
        role = _role(image, contrasts)
        if role is not None:
            scans.setdefault(_scan_label(image), {})[role] = image.path
    cases = []
    for label, files in scans.items():
        participant = label.split("_")[0].removeprefix("sub-")
        if participants and participant not in participants:
            continue
        missing = [role for role in (*contrasts, "lesions") if role not in files]
        if missing and participants:
            raise UsageError(f"{label} in {dataset} has no {', '.join(missing)} to learn from")
        if not missing:
            cases.append(_load_case(label, files, contrasts))
    if not cases:
        raise UsageError(f"no scan in {dataset} has {', '.join(contrasts)} and a label-lesion_mask")
    return cases


def _role(image: Image, contrasts: Sequence[str]) -> str | None:
    entities = image.entities
    if "ceagent" in entities or not image.path.name.endswith((".nii", ".nii.gz")):
        return None
    if entities.get("suffix") == "mask" and entities.get("label") == "lesion":
        return "lesions"
    suffix = entities.get("suffix")
    return suffix if suffix in contrasts else None


def _scan_label(image: Image) -> str:
    entities = image.entities
    session = f"_ses-{entities['session']}" if "session" in entities else ""
    return f"sub-{entities['subject']}{session}"


def _load_case(label: str, files: dict[str, Path], contrasts: Sequence[str]) -> Case:
    loaded = {role: nib.as_closest_canonical(nib.load(path)) for role, path in files.items()}
    grids = {image.shape for image in loaded.values()}
    if len(grids) != 1:
        raise UsageError(f"the images of {label} lie on different grids: {sorted(grids)}")
    spacing = nib.affines.voxel_sizes(loaded["FLAIR"].affine)
    if not np.allclose(spacing, 1, atol=0.05):
        raise UsageError(f"the images of {label} have voxels of {spacing} mm; 1 mm is needed")
    brain = np.asarray(nonzero_mask(loaded["FLAIR"]).dataobj) > 0
    values = {c: np.asarray(loaded[c].dataobj) for c in contrasts}
    tissue = tissue_mask(values["FLAIR"], brain)
    scores = {c: normalise_intensity(values[c], tissue, brain) for c in contrasts}
    return Case(
        label,
        stack_contrasts(scores, contrasts),
        scores["FLAIR"],
        brain,
        np.asarray(loaded["lesions"].dataobj) > 0,
    )
