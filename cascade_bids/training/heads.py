"""Label maps of heads and masks of lesions, from which scans are made up."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from scipy import ndimage
from torch import Tensor

from cascade_bids.errors import CascadeBidsError, ScanError, UsageError
from cascade_bids.files import appearing
from cascade_bids.preprocess.load import load_image, load_mask
from cascade_bids.preprocess.registration import align_to_template
from cascade_bids.preprocess.steps import network_grid, resample
from cascade_bids.training.cases import is_prediction
from cascade_bids.training.tissues import FREESURFER, LEVELS, OUTSIDE, TISSUES
from cascade_bids.training.work_folder import digest_files

log = logging.getLogger(__name__)

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
    t1w: Tensor | None = None
    """(X, Y, Z) float16, the scan that the tissues are of, white matter at 1; None for a label map
    alone."""

    @property
    def owner(self) -> str:
        """Whose head it is: the participant, or the name of a label map."""
        return self.name.split("_")[0]


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
    return [
        keep_head(path.name.split("_")[0], [path], cache, partial(lay_on_grid, path))
        for path in find_maps(folder)
    ]


def keep_head(
    name: str, sources: Sequence[Path], cache: Path, lay: Callable[[], Mapping[str, np.ndarray]]
) -> Head:
    """Give a head that a folder keeps, laid on the grid first if it is not there yet.

    Parameters
    ----------
    name
        Of the head.
    sources
        Files that it is made of; with others it is another head.
    cache
        The folder.
    lay
        Gives the arrays of a `Head`.

    Returns
    -------
    Head
        Its arrays are mapped, not read: those of a hundred take gigabytes.

    Raises
    ------
    ScanError
        When the head cannot be laid on the grid.
    CascadeBidsError
        When what the folder keeps is damaged, or cannot be written.
    """
    kept = cache / f"{name}_{digest_files(sources)[:12]}.safetensors"
    if not kept.exists():
        log.info("preparing %s", name)
        try:
            arrays = {key: torch.from_numpy(values.copy()) for key, values in lay().items()}
        except ScanError as error:
            raise ScanError(f"{name}: {error}") from error
        with appearing(kept) as part:
            part.write_bytes(save(arrays))
    try:
        return Head(name, **load_file(kept))
    except SafetensorError as error:
        raise CascadeBidsError(f"{kept} is damaged ({error}); remove it and run again") from error


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


def lay_on_grid(path: Path) -> dict[str, np.ndarray]:
    """Align a label map (X, Y, Z) with the template and bring it to the network grid.

    Returns
    -------
    dict
        ``tissues``, ``depth_mm`` and ``to_template`` of a `Head`.
    """
    canonical = nib.as_closest_canonical(load_image(path))
    tissues = merge_labels(np.asanyarray(canonical.dataobj), FREESURFER)
    brain = tissue_of_brain(tissues)
    # The template is a T1w.
    levels = np.array([LEVELS["T1w"].get(name, 0.0) for name in TISSUES], np.float32)
    looks = nib.Nifti1Image(np.where(brain, levels[tissues], 0), canonical.affine)
    mask = nib.Nifti1Image(brain.astype(np.uint8), canonical.affine)
    rigid, affine = align_to_template(looks, mask, seed=0)
    shape, grid = network_grid()
    labels = nib.Nifti1Image(tissues, canonical.affine)
    laid = np.asarray(resample(labels, shape, grid, rigid, order=0).dataobj)
    return cut({"tissues": laid.astype(np.uint8)}, np.linalg.inv(affine) @ rigid @ grid)


def cut(arrays: Mapping[str, np.ndarray], to_template: np.ndarray) -> dict[str, np.ndarray]:
    """Cut a head to the brain and what is near, and measure its depths.

    Parameters
    ----------
    arrays
        (X, Y, Z) each, on the network grid; ``tissues`` among them.
    to_template
        (4, 4) from there to the template.

    Returns
    -------
    dict
        The same of the part, with ``depth_mm`` and ``to_template`` of a `Head`.
    """
    inside = _close_sulci(tissue_of_brain(arrays["tissues"]))
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    box = ndimage.find_objects((depth > -FAR_MM).astype(np.uint8))[0]
    start = np.eye(4)
    start[:3, 3] = [part.start for part in box]
    return {
        **{name: values[box] for name, values in arrays.items()},
        "depth_mm": np.clip(depth[box], -FAR_MM, FAR_MM).astype(np.float16),
        "to_template": (to_template @ start).astype(np.float32),
    }


def merge_labels(labels: np.ndarray, naming: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    """Merge the labels of a head (X, Y, Z) into uint8 places in `TISSUES`.

    Parameters
    ----------
    labels
        Whole numbers.
    naming
        Tissue to labels; what is not there is vessel, or from `OUTSIDE` on soft tissue.

    Raises
    ------
    ScanError
        When a label is negative.
    """
    if labels.min() < 0:
        raise ScanError(f"there is a label {labels.min()}, but none is below 0")
    table = np.full(int(labels.max()) + 1, TISSUES.index("vessel"), np.uint8)
    table[OUTSIDE:] = TISSUES.index("soft tissue")
    table[0] = TISSUES.index("air")
    for tissue, members in naming.items():
        table[[label for label in members if label < len(table)]] = TISSUES.index(tissue)
    return table[labels.astype(np.int64)]


def tissue_of_brain(tissues: np.ndarray) -> np.ndarray:
    """Take the brain (X, Y, Z) bool: all inside the skull but the fluid around it.

    Raises
    ------
    ScanError
        When there is none.
    """
    outside = [TISSUES.index(name) for name in ("air", "fluid", "bone", "soft tissue")]
    cerebellum = [TISSUES.index(name) for name in ("cerebellar white", "cerebellar cortex")]
    inside = ~np.isin(tissues, outside)
    heights = np.nonzero(np.isin(tissues, cerebellum))[2]
    if len(heights):
        inside[:, :, : max(0, int(np.percentile(heights, 0.5)) - 4)] = False
    pieces, count = ndimage.label(ndimage.binary_opening(inside))
    if not count:
        raise ScanError("the labels show no brain on the grid")
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def _close_sulci(brain: np.ndarray) -> np.ndarray:
    """Close a mask of voxels of 1 mm with a ball of `CLOSED_MM`."""
    margin = int(CLOSED_MM) + 1
    padded = np.pad(brain, margin)
    grown = ndimage.distance_transform_edt(~padded) <= CLOSED_MM
    closed = ndimage.distance_transform_edt(grown) > CLOSED_MM
    inner = (slice(margin, -margin),) * 3
    return ndimage.binary_fill_holes(closed[inner] | brain)
