"""Label maps of heads, from which synthetic scans are made."""

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
from cascade_bids.preprocess.load import load_image
from cascade_bids.preprocess.masks import close_sulci, largest_component
from cascade_bids.preprocess.registration import align_to_template, rigid_part
from cascade_bids.preprocess.resample import resample
from cascade_bids.preprocess.template import network_grid
from cascade_bids.training.data.tissues import FREESURFER, LEVELS, OUTSIDE, TISSUES
from cascade_bids.training.work_folder import digest_files

log = logging.getLogger(__name__)

FAR_MM = 12.0
"""Depths are cut off there, and heads that far from the brain."""

CLOSED_MM = 4.0
"""Sulci narrower than twice this lie within the brain."""


@dataclass(frozen=True)
class Anatomy:
    """The tissues of a head on the network grid, cut to the brain and `FAR_MM` around it."""

    name: str
    tissues: Tensor
    """(X, Y, Z) uint8, indices in `TISSUES`."""
    depth_mm: Tensor
    """(X, Y, Z) float16, distance to the rim of the brain, positive within."""
    to_template: Tensor
    """(4, 4) float32, voxel to template, RAS+ mm."""
    t1w: Tensor | None = None
    """(X, Y, Z) float16, the scan that the tissues are of, white matter at 1; None for a label map
    alone."""

    @property
    def owner(self) -> str:
        """Who it is of: the participant, or the name of a label map."""
        return self.name.split("_")[0]


def find_label_maps(folder: Path) -> list[Path]:
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


def load_label_maps(folder: Path, cache: Path) -> list[Anatomy]:
    """Read label maps and lay them on the network grid.

    Parameters
    ----------
    folder
        Holds whole-head label maps ``head*_dseg.nii.gz``.
    cache
        Keeps them, since every alignment takes half a minute.

    Returns
    -------
    list of Anatomy
        By name.

    Raises
    ------
    UsageError
        When the folder holds none.
    """
    return [
        keep_anatomy(path.name.split("_")[0], [path], cache, partial(lay_on_grid, path))
        for path in find_label_maps(folder)
    ]


def keep_anatomy(
    name: str, sources: Sequence[Path], cache: Path, lay: Callable[[], Mapping[str, np.ndarray]]
) -> Anatomy:
    """Load an anatomy that a folder keeps, laid on the grid first if it is not there yet.

    Parameters
    ----------
    name
        Of the head.
    sources
        Files that it is made of; with others it is another head.
    cache
        The folder.
    lay
        Returns the arrays of an `Anatomy`.

    Returns
    -------
    Anatomy
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
        return Anatomy(name, **load_file(kept))
    except SafetensorError as error:
        raise CascadeBidsError(f"{kept} is damaged ({error}); remove it and run again") from error


def lay_on_grid(path: Path) -> dict[str, np.ndarray]:
    """Align a label map (X, Y, Z) with the template and bring it to the network grid.

    Returns
    -------
    dict
        ``tissues``, ``depth_mm`` and ``to_template`` of an `Anatomy`.
    """
    canonical = nib.as_closest_canonical(load_image(path))
    tissues = merge_labels(np.asanyarray(canonical.dataobj), FREESURFER)
    brain = tissue_of_brain(tissues)
    # The template is a T1w.
    levels = np.array([LEVELS["T1w"].get(name, 0.0) for name in TISSUES], np.float32)
    looks = nib.Nifti1Image(np.where(brain, levels[tissues], 0), canonical.affine)
    mask = nib.Nifti1Image(brain.astype(np.uint8), canonical.affine)
    affine = align_to_template(looks, mask, seed=0)
    rigid = rigid_part(affine)
    shape, grid = network_grid()
    labels = nib.Nifti1Image(tissues, canonical.affine)
    laid = np.asarray(resample(labels, shape, grid, rigid, order=0).dataobj)
    return cut({"tissues": laid.astype(np.uint8)}, np.linalg.inv(affine) @ rigid @ grid)


def cut(arrays: Mapping[str, np.ndarray], to_template: np.ndarray) -> dict[str, np.ndarray]:
    """Crop a head to the brain and what is near, and measure its depths.

    Parameters
    ----------
    arrays
        (X, Y, Z) each, on the network grid; ``tissues`` among them.
    to_template
        (4, 4) from there to the template.

    Returns
    -------
    dict
        The same of the part, with ``depth_mm`` and ``to_template`` of an `Anatomy`.
    """
    brain = tissue_of_brain(arrays["tissues"])
    inside = close_sulci(brain, closed_mm=CLOSED_MM, spacing_mm=1)
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
    """Merge the labels of a head (X, Y, Z) into uint8 indices in `TISSUES`.

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
    """Extract the brain (X, Y, Z) bool: all inside the skull but the fluid around it.

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
    brain = largest_component(ndimage.binary_opening(inside))
    if not brain.any():
        raise ScanError("the labels show no brain on the grid")
    return brain
