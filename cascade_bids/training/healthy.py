"""Real T1w of healthy heads, with the tissues of their MUSE labels, to paint lesions into."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from cascade_bids.errors import ScanError, UsageError
from cascade_bids.preprocess.load import load_image
from cascade_bids.preprocess.registration import align_to_template
from cascade_bids.preprocess.steps import conform, correct_bias, network_grid, resample
from cascade_bids.training.heads import Head, cut, keep_head, merge_labels, tissue_of_brain
from cascade_bids.training.tissues import MUSE, TISSUES

log = logging.getLogger(__name__)

BRIGHTEST = 2.0
"""In parts of white matter; what is brighter is no brain."""


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
        By name.

    Raises
    ------
    UsageError
        When there is none.
    """
    found = []
    for t1w in sorted(dataset.glob("sub-*/**/anat/sub-*_T1w.nii.gz")):
        label = t1w.name.removesuffix("_T1w.nii.gz")
        folder = dataset / "derivatives" / "dlmuse" / t1w.parent.relative_to(dataset)
        labels = folder / f"{label}_desc-dlmuse_dseg.nii.gz"
        if labels.exists():
            found.append(HealthyScan(label, t1w, labels))
        else:
            log.info("%s is passed over: there is no %s", label, labels)
    if not found:
        raise UsageError(
            f"no sub-*/anat/sub-*_T1w.nii.gz in {dataset} with MUSE labels "
            "derivatives/dlmuse/sub-*/anat/sub-*_desc-dlmuse_dseg.nii.gz"
        )
    return found


def load_healthy(scans: Sequence[HealthyScan], cache: Path) -> list[Head]:
    """Read T1w of healthy heads and their labels, and lay them on the network grid.

    Parameters
    ----------
    scans
        From `find_healthy`.
    cache
        Keeps the heads, since each takes a minute.

    Returns
    -------
    list of Head
        In the same order, each with its T1w.

    Raises
    ------
    ScanError
        When an image cannot be used, or labels lie on another grid than their T1w.
    """
    return [keep_head(scan.label, cache, partial(lay_scan, scan)) for scan in scans]


def lay_scan(scan: HealthyScan) -> dict[str, np.ndarray]:
    """Align a T1w with the template and bring it and its tissues to the network grid.

    Returns
    -------
    dict
        The arrays of a `Head`.

    Raises
    ------
    ScanError
        When an image cannot be used, or the labels lie on another grid, or hold no white matter.
    """
    image = conform(load_image(scan.t1w), str(scan.t1w))
    labels = conform(load_image(scan.labels), str(scan.labels))
    if labels.shape != image.shape or not np.allclose(labels.affine, image.affine, atol=1e-3):
        raise ScanError(f"{scan.labels} lies on another grid than {scan.t1w}; resample it")
    tissues = merge_labels(np.rint(np.asarray(labels.dataobj)).astype(np.int64), MUSE)
    white = tissues == TISSUES.index("white")
    if not white.any():
        raise ScanError(f"{scan.labels} holds no white matter of MUSE (81 to 95)")
    corrected = correct_bias(image)
    brain = nib.Nifti1Image(tissue_of_brain(tissues).astype(np.uint8), image.affine)
    rigid, affine = align_to_template(corrected, brain, seed=0)
    shape, grid = network_grid()
    t1w = np.asarray(resample(corrected, shape, grid, rigid, order=3).dataobj)
    t1w = t1w / float(np.median(np.asarray(corrected.dataobj)[white]))
    laid = {
        "tissues": _open_sulci(_resample_tissues(tissues, image.affine, rigid), t1w),
        "t1w": np.clip(t1w, 0, BRIGHTEST).astype(np.float16),
    }
    head = cut(laid, np.linalg.inv(affine) @ rigid @ grid)
    # Cisterns have no label.
    unnamed = (head["tissues"] == TISSUES.index("air")) & (head["depth_mm"] > 0)
    head["tissues"][unnamed] = TISSUES.index("fluid")
    return head


def _resample_tissues(tissues: np.ndarray, affine: np.ndarray, rigid: np.ndarray) -> np.ndarray:
    """Bring tissues to the network grid; borders between large voxels become smooth."""
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
