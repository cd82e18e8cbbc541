"""Real T1w of healthy heads, with the tissues of their MUSE labels, to paint lesions into."""

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from cascade_bids.errors import ScanError, StartError, UsageError
from cascade_bids.preprocess.bias import correct_bias
from cascade_bids.preprocess.conform import conform, orient
from cascade_bids.preprocess.load import load_image
from cascade_bids.preprocess.registration import align_to_template, rigid_part
from cascade_bids.preprocess.resample import resample
from cascade_bids.preprocess.template import network_grid
from cascade_bids.training.data.label_maps import (
    Anatomy,
    cut,
    keep_anatomy,
    merge_labels,
    tissue_of_brain,
)
from cascade_bids.training.data.tissues import MUSE, TISSUES

log = logging.getLogger(__name__)

BRIGHTEST = 1.2
"""In parts of white matter; what is brighter is no brain, and the scanner's faults would be as much
stronger."""


class HealthyScan(NamedTuple):
    """A T1w and the labels of its brain."""

    label: str
    """Such as ``sub-01`` or ``sub-01_ses-1``."""
    t1w: Path
    labels: Path
    """MUSE labels on the same grid: 0 for the background, 1 for the fluid around the brain."""


def find_healthy(dataset: Path) -> list[HealthyScan]:
    """Find the T1w of a dataset that have MUSE labels in its ``derivatives/dlmuse``.

    Returns
    -------
    list of HealthyScan
        By name; those without labels are passed over, with a warning.

    Raises
    ------
    UsageError
        When there is none.
    """
    if not dataset.is_dir():
        raise UsageError(f"{dataset} is not a folder")
    found, missing = [], []
    for pattern in ("sub-*/anat/sub-*_T1w.nii*", "sub-*/ses-*/anat/sub-*_T1w.nii*"):
        for t1w in dataset.glob(pattern):
            label = t1w.name.split("_T1w.nii")[0]
            folder = dataset / "derivatives" / "dlmuse" / t1w.parent.relative_to(dataset)
            labels = sorted(folder.glob(f"{label}_desc-dlmuse_dseg.nii*"))
            if labels:
                found.append(HealthyScan(label, t1w, labels[0]))
            else:
                missing.append(label)
    if not found:
        raise UsageError(
            f"no sub-*/anat/sub-*_T1w.nii.gz in {dataset} with MUSE labels "
            "derivatives/dlmuse/sub-*/anat/sub-*_desc-dlmuse_dseg.nii.gz"
        )
    if missing:
        log.warning(
            "%d T1w in %s have no MUSE labels and are passed over, such as %s",
            len(missing),
            dataset,
            min(missing),
        )
    return sorted(found)


def check_healthy(scans: Sequence[HealthyScan]) -> None:
    """Read all scans once, since to prepare them takes long.

    Raises
    ------
    StartError
        When some cannot be used; the message names each.
    """
    causes = []
    for scan in scans:
        try:
            _read(scan)
        except ScanError as error:
            causes.append(f"  {scan.label}: {error}")
    if causes:
        raise StartError("some healthy scans can't be learned from:\n" + "\n".join(causes))


def load_healthy(scans: Sequence[HealthyScan], cache: Path, *, nprocs: int = 1) -> list[Anatomy]:
    """Load T1w of healthy heads and their labels on the network grid.

    Parameters
    ----------
    scans
        From `find_healthy`.
    cache
        Keeps the heads, since each takes a minute.
    nprocs
        How many are prepared side by side.

    Returns
    -------
    list of Anatomy
        In the same order, each with its T1w.

    Raises
    ------
    ScanError
        When a scan cannot be used.
    """
    if nprocs > 1:
        # Threads of this process would be lost in forked ones.
        with ProcessPoolExecutor(nprocs, get_context("spawn")) as pool:
            for _ in pool.map(partial(_prepare, cache=cache), scans):
                pass
    return [_keep(scan, cache) for scan in scans]


def _prepare(scan: HealthyScan, cache: Path) -> None:
    """Prepare a head, and send nothing to the other process."""
    _keep(scan, cache)


def _keep(scan: HealthyScan, cache: Path) -> Anatomy:
    return keep_anatomy(scan.label, [scan.t1w, scan.labels], cache, partial(lay_scan, scan))


def lay_scan(scan: HealthyScan) -> dict[str, np.ndarray]:
    """Align a T1w with the template and bring it and its tissues to the network grid.

    Returns
    -------
    dict
        The arrays of an `Anatomy`.

    Raises
    ------
    ScanError
        When the scan cannot be used.
    """
    image, tissues, brain = _read(scan)
    corrected = correct_bias(image)
    affine = align_to_template(corrected, brain, seed=0)
    rigid = rigid_part(affine)
    shape, grid = network_grid()
    t1w = np.asarray(resample(corrected, shape, grid, rigid, order=3).dataobj)
    t1w = t1w / _level(corrected, tissues)
    laid = {
        "tissues": _open_sulci(_resample_tissues(tissues, image.affine, rigid), t1w),
        "t1w": np.clip(t1w, 0, BRIGHTEST).astype(np.float16),
    }
    head = cut(laid, np.linalg.inv(affine) @ rigid @ grid)
    # Cisterns have no label.
    unnamed = (head["tissues"] == TISSUES.index("air")) & (head["depth_mm"] > 0)
    head["tissues"][unnamed] = TISSUES.index("fluid")
    return head


def _read(scan: HealthyScan) -> tuple[nib.Nifti1Image, np.ndarray, nib.Nifti1Image]:
    """Read a T1w, its tissues (X, Y, Z) and its brain, all RAS+; raise when they are unusable."""
    image = conform(load_image(scan.t1w), str(scan.t1w)).image
    named = orient(load_image(scan.labels), str(scan.labels))
    if named.shape != image.shape or not np.allclose(named.affine, image.affine, atol=1e-3):
        raise ScanError(f"{scan.labels} lies on another grid than {scan.t1w}; resample it")
    labels = np.rint(np.asarray(named.dataobj)).astype(np.int64)
    unknown = sorted(set(np.unique(labels)) - {0, *chain.from_iterable(MUSE.values())})
    if unknown:
        raise ScanError(
            f"{scan.labels} holds {', '.join(map(str, unknown[:5]))}, no labels of MUSE"
        )
    tissues = merge_labels(labels, MUSE)
    try:
        brain = tissue_of_brain(tissues)
    except ScanError as error:
        raise ScanError(f"{scan.labels}: {error}") from error
    if not _level(image, tissues) > 0:
        raise ScanError(f"{scan.labels} shows no white matter where {scan.t1w} shows anything")
    return image, tissues, nib.Nifti1Image(brain.astype(np.uint8), image.affine)


def _level(image: nib.Nifti1Image, tissues: np.ndarray) -> float:
    """Measure white matter, 0 if there is none."""
    white = np.asarray(image.dataobj)[tissues == TISSUES.index("white")]
    return float(np.median(white)) if white.size else 0.0


def _resample_tissues(tissues: np.ndarray, affine: np.ndarray, rigid: np.ndarray) -> np.ndarray:
    """Resample tissues to the network grid; borders between large voxels become smooth."""
    shape, grid = network_grid()
    most = np.zeros(shape, np.float32)
    laid = np.zeros(shape, np.uint8)
    for tissue in np.unique(tissues):
        part = nib.Nifti1Image((tissues == tissue).astype(np.float32), affine)
        share = np.asarray(resample(part, shape, grid, rigid, order=1).dataobj)
        laid[share > most] = tissue
        most = np.maximum(most, share)
    return laid


def _open_sulci(tissues: np.ndarray, t1w: np.ndarray) -> np.ndarray:
    """Turn cortex (X, Y, Z) that is as dark as fluid into fluid: MUSE labels bridge sulci."""

    def of(*names: str) -> np.ndarray:
        return np.isin(tissues, [TISSUES.index(name) for name in names])

    cortex, fluid = of("cortex", "cerebellar cortex"), of("ventricle", "lower ventricle", "fluid")
    if not cortex.any() or not fluid.any():
        return tissues
    # Most voxels of fluid hold some tissue.
    dark = (np.percentile(t1w[fluid], 10) + np.median(t1w[cortex])) / 2
    return np.where(cortex & (t1w < dark), TISSUES.index("fluid"), tissues).astype(np.uint8)
