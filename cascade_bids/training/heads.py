"""Label maps of heads and masks of lesions, from which scans are made up."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.preprocess.load import load_image, load_mask
from cascade_bids.preprocess.registration import align_to_template
from cascade_bids.preprocess.steps import network_grid, resample
from cascade_bids.training.cases import is_prediction
from cascade_bids.training.tissues import LABELS, LEVELS, OUTSIDE, TISSUES

FAR_MM = 12.0
"""Depths are cut off there, and heads that far from the brain."""

CLOSED_MM = 4.0
"""Sulci narrower than twice this lie within the brain."""


@dataclass(frozen=True)
class Head:
    """A head on the network grid, cut to the brain and `FAR_MM` around it."""

    name: str
    tissues: Tensor
    """(X, Y, Z) uint8, places in `TISSUES`."""
    depth_mm: Tensor
    """(X, Y, Z) float16, distance to the rim of the brain, positive within."""
    to_template: Tensor
    """(4, 4) float32, voxel to template, RAS+ mm."""


@dataclass(frozen=True)
class Donor:
    """A participant whose lesions are painted into other heads."""

    subject: str
    mask: Tensor
    """(X, Y, Z) uint8."""
    to_voxel: Tensor
    """(4, 4) float32, template mm to voxel; of a scan that lies there rigidly, within some mm."""


def find_maps(folder: Path) -> list[Path]:
    """Find the label maps ``head*_dseg.nii.gz`` of a folder, by name.

    Raises
    ------
    UsageError
        When the folder holds none.
    """
    paths = sorted(folder.glob("head*_dseg.nii.gz"))
    if not paths:
        raise UsageError(f"no head*_dseg.nii.gz in {folder}")
    return paths


def load_heads(folder: Path, cache: Path) -> list[Head]:
    """Read label maps and lay them on the network grid.

    Parameters
    ----------
    folder
        Holds whole-head label maps ``head*_dseg.nii.gz``.
    cache
        Keeps them, since every alignment takes half a minute.

    Returns
    -------
    list of Head
        By name.

    Raises
    ------
    UsageError
        When the folder holds none.
    """
    heads = []
    for path in find_maps(folder):
        name = path.name.split("_")[0]
        kept = cache / f"{name}.npz"
        if not kept.exists():
            laid = lay_on_grid(load_image(path))
            with appearing(kept) as part:
                np.savez(
                    part,
                    tissues=laid["tissues"],
                    depth_mm=laid["depth_mm"],
                    to_template=laid["to_template"],
                )
        arrays = {key: torch.from_numpy(value) for key, value in np.load(kept).items()}
        heads.append(Head(name, **arrays))
    return heads


def load_donors(folder: Path) -> list[Donor]:
    """Read the lesion masks of a dataset that lie in the space of an MNI template.

    Their scans need not be there. Masks of changes, empty masks, and predictions are left out.

    Parameters
    ----------
    folder
        Of ``sub-*_space-MNI152*_label-lesion_mask.nii.gz``, at any depth.

    Returns
    -------
    list of Donor
        By name.
    """
    found = []
    for path in sorted(folder.rglob("sub-*_space-MNI152*_label-lesion_mask.nii.gz")):
        if "_desc-change_" in path.name or is_prediction(path):
            continue
        image = nib.as_closest_canonical(load_mask(path))
        mask = np.asarray(image.dataobj)
        if mask.any():
            to_voxel = torch.from_numpy(np.linalg.inv(image.affine)).float()
            subject = path.name.split("_")[0].removeprefix("sub-")
            found.append(Donor(subject, torch.from_numpy(mask.copy()), to_voxel))
    return found


def lay_on_grid(image: nib.Nifti1Image) -> dict[str, np.ndarray]:
    """Align a label map with the template and bring it to the network grid.

    Parameters
    ----------
    image
        (X, Y, Z) labels.

    Returns
    -------
    dict
        ``tissues``, ``depth_mm`` and ``to_template`` of a `Head`.
    """
    canonical = nib.as_closest_canonical(image)
    tissues = merge_labels(np.asanyarray(canonical.dataobj))
    brain = tissue_of_brain(tissues)
    # The template is a T1w.
    levels = np.array([LEVELS["T1w"].get(name, 0.0) for name in TISSUES], np.float32)
    looks = nib.Nifti1Image(np.where(brain, levels[tissues], 0), canonical.affine)
    mask = nib.Nifti1Image(brain.astype(np.uint8), canonical.affine)
    rigid, affine = align_to_template(looks, mask, seed=0)
    shape, grid = network_grid()
    labels = nib.Nifti1Image(tissues, canonical.affine)
    laid = np.asarray(resample(labels, shape, grid, rigid, order=0).dataobj).astype(np.uint8)
    inside = _close_sulci(tissue_of_brain(laid))
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    box = ndimage.find_objects((depth > -FAR_MM).astype(np.uint8))[0]
    start = np.eye(4)
    start[:3, 3] = [part.start for part in box]
    return {
        "tissues": laid[box],
        "depth_mm": np.clip(depth[box], -FAR_MM, FAR_MM).astype(np.float16),
        "to_template": (np.linalg.inv(affine) @ rigid @ grid @ start).astype(np.float32),
    }


def merge_labels(labels: np.ndarray) -> np.ndarray:
    """Merge the labels of a head map (X, Y, Z) into uint8 places in `TISSUES`."""
    table = np.full(int(labels.max()) + 1, TISSUES.index("vessel"), np.uint8)
    table[OUTSIDE:] = TISSUES.index("soft tissue")
    table[0] = TISSUES.index("air")
    for tissue, members in LABELS.items():
        table[[label for label in members if label < len(table)]] = TISSUES.index(tissue)
    return table[labels.astype(np.int64)]


def tissue_of_brain(tissues: np.ndarray) -> np.ndarray:
    """Take the brain (X, Y, Z) bool: all inside the skull but the fluid around it."""
    outside = [TISSUES.index(name) for name in ("air", "fluid", "bone", "soft tissue")]
    cerebellum = [TISSUES.index(name) for name in ("cerebellar white", "cerebellar cortex")]
    inside = ~np.isin(tissues, outside)
    heights = np.nonzero(np.isin(tissues, cerebellum))[2]
    if len(heights):
        inside[:, :, : max(0, int(np.percentile(heights, 0.5)) - 4)] = False
    pieces, _ = ndimage.label(ndimage.binary_opening(inside))
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def _close_sulci(brain: np.ndarray) -> np.ndarray:
    """Close a mask of voxels of 1 mm with a ball of `CLOSED_MM`."""
    margin = int(CLOSED_MM) + 1
    padded = np.pad(brain, margin)
    grown = ndimage.distance_transform_edt(~padded) <= CLOSED_MM
    closed = ndimage.distance_transform_edt(grown) > CLOSED_MM
    inner = (slice(margin, -margin),) * 3
    return ndimage.binary_fill_holes(closed[inner] | brain)
