"""Build the atlas of lesion locations in ``cascade_bids/data/atlas`` (``build-atlas``)."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_template
from scipy import ndimage
from scipy.optimize import minimize

from cascade_bids.config import TEMPLATE_SPACE
from cascade_bids.files import appearing, write_text

WMPARC_NAME = "tpl-MNI152NLin6Asym_res-01_atlas-wmparc_dseg.nii.gz"
"""File of the FreeSurfer labels."""

BRAIN_NAME = "tpl-MNI152NLin6Asym_res-01_desc-brain_T1w.nii.gz"
"""File of the T1w brain of the template that those labels belong to."""

REGIONS: dict[str, tuple[int, ...]] = {
    "lateral ventricle": (4, 5, 31, 43, 44, 63, 72),
    "cerebral cortex": tuple(range(1000, 3000)),
    "cerebral white matter": (2, 41, 77, *range(251, 256), *range(3000, 5003)),
    "deep grey matter": (
        *(10, 11, 12, 13, 17, 18, 26, 28, 30),
        *(49, 50, 51, 52, 53, 54, 58, 60, 62),
    ),
    "brainstem": (16,),
    "cerebellum": (7, 8, 46, 47),
    "other cerebrospinal fluid": (14, 15, 24),
}
"""Region to its labels in FreeSurferColorLUT; regions are numbered from 1 in this order.

Temporal horns and choroid plexus belong to the lateral ventricles, hippocampus and amygdala to the
deep grey matter, the corpus callosum to the white matter. Labels that are not listed become 0.
"""


def regions_from_wmparc(wmparc: np.ndarray) -> np.ndarray:
    """Merge FreeSurfer labels into the regions of the atlas.

    Parameters
    ----------
    wmparc : (X, Y, Z) or (X, Y, Z, 1) array of int
        FreeSurfer wmparc labels.

    Returns
    -------
    (X, Y, Z) uint8 array
        0 outside the regions, else 1 to 7 in the order of `REGIONS`.
    """
    labels = np.asarray(wmparc).astype(np.int32)
    if labels.ndim == 4:
        labels = labels.squeeze(axis=3)
    table = np.zeros(max(labels.max(), *(max(known) for known in REGIONS.values())) + 1, np.uint8)
    for region, known in enumerate(REGIONS.values(), start=1):
        table[list(known)] = region
    return table[labels]


def fit_affine(fixed: nib.Nifti1Image, moving: nib.Nifti1Image) -> np.ndarray:
    """Fit the affine transform between two brains of the same contrast.

    Twelve parameters maximise the correlation of the smoothed intensities (Gaussian, standard
    deviation of one voxel) inside the fixed brain. The search starts at the identity and is
    deterministic (Powell), so it suits templates that lie within a few millimetres of each other.

    Parameters
    ----------
    fixed, moving : Nifti1Image, (X, Y, Z)
        Brains on a background of 0.

    Returns
    -------
    (4, 4) float64 array
        From world coordinates (RAS+, mm) of `fixed` to those of `moving`, rounded to four decimals.
    """
    target, source = (image.get_fdata(dtype=np.float32) for image in (fixed, moving))
    inside = np.argwhere(ndimage.binary_erosion(target > 0))[::16]
    points = apply_affine(fixed.affine, inside)
    values = ndimage.gaussian_filter(target, 1)[tuple(inside.T)]
    smooth = ndimage.gaussian_filter(source, 1)
    to_voxels = np.linalg.inv(moving.affine)

    def matrix(parameters: np.ndarray) -> np.ndarray:
        # One unit is 0.02 in the linear part, about 1 mm at the edge of a brain, and 1 mm in the
        # shift.
        change = np.zeros((4, 4))
        change[:3, :3] = 0.02 * parameters[:9].reshape(3, 3)
        change[:3, 3] = parameters[9:]
        return np.eye(4) + change

    def cost(parameters: np.ndarray) -> float:
        voxels = apply_affine(to_voxels @ matrix(parameters), points).T
        sampled = ndimage.map_coordinates(smooth, voxels, order=1, mode="nearest")
        return -float(np.corrcoef(sampled, values)[0, 1])

    found = minimize(cost, np.zeros(12), method="Powell", options={"xtol": 1e-3, "ftol": 1e-6})
    return matrix(found.x).round(4)


def resample_regions(
    regions: nib.Nifti1Image, grid: nib.Nifti1Image, to_regions: np.ndarray
) -> nib.Nifti1Image:
    """Resample a label map onto another grid; each voxel gets the label with the largest share.

    Parameters
    ----------
    regions : Nifti1Image, (X, Y, Z) uint8
        Label map.
    grid : Nifti1Image
        Image on the target grid.
    to_regions : (4, 4) array
        From world coordinates (mm) of `grid` to those of `regions`.

    Returns
    -------
    Nifti1Image
        uint8 labels on `grid`.
    """
    labels = np.asarray(regions.dataobj)
    to_voxels = np.linalg.inv(regions.affine) @ to_regions @ grid.affine
    best = np.zeros(grid.shape, np.uint8)
    largest = np.full(grid.shape, -1, np.float32)
    for label in np.unique(labels):
        share = ndimage.affine_transform(
            (labels == label).astype(np.float32),
            to_voxels,
            output_shape=grid.shape,
            order=1,
            cval=float(label == 0),
        )
        best[share > largest] = label
        largest = np.maximum(largest, share)
    return nib.Nifti1Image(best, grid.affine)


def build_atlas(wmparc: Path, brain: Path) -> tuple[nib.Nifti1Image, np.ndarray]:
    """Build the atlas on the grid of MNI152NLin2009aSym.

    Parameters
    ----------
    wmparc : Path
        File of the FreeSurfer wmparc labels, in the space of another template.
    brain : Path
        File of the T1w brain of that template.

    Returns
    -------
    atlas : Nifti1Image, (197, 233, 189) uint8
        Regions numbered as in `REGIONS`, 1 mm, RAS+.
    transform : (4, 4) float64 array
        From world coordinates of MNI152NLin2009aSym to those of the source template, mm.
    """
    template = load_mni152_template(resolution=1)
    transform = fit_affine(template, nib.Nifti1Image.from_filename(brain))
    source = nib.Nifti1Image.from_filename(wmparc)
    regions = nib.Nifti1Image(regions_from_wmparc(np.asarray(source.dataobj)), source.affine)
    atlas = resample_regions(regions, template, transform)
    atlas.set_sform(template.affine, code="mni")
    atlas.set_qform(template.affine, code="mni")
    atlas.header.set_xyzt_units("mm")
    return atlas, transform


def write_atlas(sources: Path, out: Path) -> Path:
    """Write ``atlas.nii.gz`` and its card ``atlas.json``; the same sources give the same bytes.

    Parameters
    ----------
    sources : Path
        Folder of the labels and the brain.
    out : Path
        Folder to write to; created when missing.

    Returns
    -------
    Path
        The card.
    """
    wmparc, brain = (sources / name for name in (WMPARC_NAME, BRAIN_NAME))
    atlas, transform = build_atlas(wmparc, brain)
    packed = gzip.compress(atlas.to_bytes(), 9, mtime=0)
    card = _card([wmparc, brain], packed, transform)
    with appearing(out / "atlas.nii.gz") as part:
        part.write_bytes(packed)
    return write_text(out / "atlas.json", json.dumps(card, indent=2) + "\n")


def _card(sources: list[Path], packed: bytes, transform: np.ndarray) -> dict[str, Any]:
    return {
        "name": "Regions in which a lesion may lie",
        "space": TEMPLATE_SPACE,
        "labels": {"0": "outside"} | {str(n): name for n, name in enumerate(REGIONS, start=1)},
        "sha256": hashlib.sha256(packed).hexdigest(),
        "sources": [
            {"file": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
            for source in sources
        ],
        "transform": {
            "from": TEMPLATE_SPACE,
            "to": "MNI152NLin6Asym",
            "world_mm": transform.tolist(),
        },
        "made_by": "cascade-bids build-atlas",
        "license": "HCP Pipelines licence, BSD-style (LICENSE in this folder)",
        "license_url": "https://github.com/Washington-University/HCPpipelines/blob/master/LICENSE.md",
    }
