"""Datasets of small lesion masks, and the table that comes of them."""

import csv

import nibabel as nib
import numpy as np

AFFINE = np.array([[1.0, 0, 0, -5], [0, 1, 0, -6], [0, 0, 3, -7], [0, 0, 0, 1]])


def make_mask(seed, shift=0):
    """A mask (12, 14, 8) with three boxes, in the world at voxels of 1 × 1 × 3 mm."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((12, 14, 8), np.uint8)
    for x, y in ((1, 1), (1, 9), (7, 5)):
        z, size = rng.integers(0, 5), 2 + rng.integers(0, 3)
        mask[x + shift : x + shift + size, y : y + 3, z : z + 2] = 1
    return nib.Nifti1Image(mask, AFFINE)


def put(root, name, image):
    """Save an image under its BIDS name, in the folder that the name tells."""
    parts = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    path = root.joinpath(*parts, "anat", name + ".nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def make_probability(image):
    values = np.asarray(image.dataobj) * np.float32(0.9)
    return nib.Nifti1Image(values.astype(np.float32), image.affine)


def read_rows(out):
    with (out / "evaluation.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
