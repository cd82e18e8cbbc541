"""Raw heads, and how they are moved, painted and written as sessions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cascade_bids.bids.inputs import find_scans
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import InputConfig
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.resample import resample
from cascade_bids.transforms import read_transform

TURN_DEGREES = (3.0, 10.0)
MOST_SHIFT_MM = 10.0
NOISE = (0.03, 0.05)
"""Standard deviation of the noise, as a part of the signal of the brain."""
SHADING = 0.2
SHADING_KNOTS = 4
PROFILE = 5
"""Points along each edge of a voxel at which a painted lesion is sampled."""


@dataclass(frozen=True)
class Head:
    """A raw session and what the program found in it."""

    name: str
    """Label of a participant."""
    images: Mapping[str, nib.Nifti1Image]
    """Contrast to float32 image; FLAIR first."""
    to_image: Mapping[str, np.ndarray]
    """Contrast to (4, 4), world of the FLAIR to world of the image."""
    brain: nib.Nifti1Image
    probability: nib.Nifti1Image
    to_template: np.ndarray
    """(4, 4) world of the FLAIR to that of the template."""


@dataclass(frozen=True)
class Painted:
    """A lesion that is painted in."""

    share: nib.Nifti1Image
    """From 0 to 1 at 1 mm, in the world of the FLAIR."""
    strength: float
    """Part of the contrast of the patient's own lesions."""
    volume_mm3: float


def read_heads(bids_dir: Path, derivatives: Path, prefix: str) -> list[Head]:
    """Read all sessions of a raw dataset that have results."""
    heads = []
    for scan in find_scans(InputConfig(bids_dir)):
        if scan.problem is None and output_path(derivatives, scan, "stats").exists():
            heads.append(_read_head(scan, derivatives, prefix))
    return heads


def _read_head(scan: Scan, root: Path, prefix: str) -> Head:
    images, to_image = {}, {}
    for contrast, path in scan.images.items():
        raw = nib.load(path)
        images[contrast] = make_image(raw.get_fdata(dtype=np.float32), raw.affine)
        xfm = output_path(root, scan, "xfm", from_=contrast, to="FLAIR")
        to_image[contrast] = np.eye(4) if contrast == "FLAIR" else read_transform(xfm)
    template = output_path(root, scan, "xfm", from_="FLAIR", to="MNI152NLin2009aSym")
    return Head(
        f"{prefix}{scan.subject}{'x' + scan.session if scan.session else ''}",
        images,
        to_image,
        nib.load(output_path(root, scan, "brain_mask")),
        nib.load(output_path(root, scan, "lesion_probseg")),
        np.linalg.inv(read_transform(template)),
    )


def rescan(head: Head, rng: np.random.Generator) -> tuple[Head, np.ndarray]:
    """Scan a head again: in another place, with noise and shading.

    Returns
    -------
    Head
        With images on the grids as they were.
    numpy.ndarray
        (4, 4) world of the new session to world of the old one.
    """
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(
        np.deg2rad(rng.uniform(*TURN_DEGREES)) * axis / np.linalg.norm(axis)
    ).as_matrix()
    shift = rng.uniform(-MOST_SHIFT_MM, MOST_SHIFT_MM, 3) / np.sqrt(3)
    flair = head.images["FLAIR"]
    # Half a slice off the grid.
    thick = int(np.argmax(voxel_sizes(flair.affine)))
    shift += flair.affine[:3, thick] / 2
    centre = apply_affine(flair.affine, np.array(flair.shape) / 2)
    motion = from_matvec(turn, centre + shift - turn @ centre)
    images = {}
    for contrast, image in head.images.items():
        moved = resample(image, image.shape, image.affine, motion, order=3)
        images[contrast] = _disturb(moved, rng)
    return replace(head, images=images), motion


def _disturb(image: nib.Nifti1Image, rng: np.random.Generator) -> nib.Nifti1Image:
    data = np.maximum(np.asarray(image.dataobj), 0)
    signal = float(np.median(data[data > np.percentile(data, 75)]))
    knots = rng.uniform(-1, 1, (SHADING_KNOTS,) * 3)
    field = ndimage.zoom(knots, np.array(data.shape) / SHADING_KNOTS, order=3)
    shaded = data * (1 + SHADING * np.clip(field, -1, 1))
    sigma = rng.uniform(*NOISE) * signal
    # Of a magnitude image.
    noise = rng.normal(0, sigma, (2, *data.shape))
    noisy = np.hypot(shaded + noise[0], noise[1])
    return make_image(np.where(data > 0, noisy, 0).astype(np.float32), image.affine)


def paint(head: Head, lesions: Sequence[Painted], contrasts: Mapping[str, float]) -> Head:
    """Paint lesions into all images of a head; `contrasts` is what a lesion adds to each."""
    images = {}
    for contrast, image in head.images.items():
        data = np.asarray(image.dataobj).copy()
        for lesion in lesions:
            data += (
                lesion.strength
                * contrasts[contrast]
                * sample(lesion.share, image, np.linalg.inv(head.to_image[contrast]))
            )
        images[contrast] = make_image(data.astype(np.float32), image.affine)
    return replace(head, images=images)


def sample(share: nib.Nifti1Image, grid: nib.Nifti1Image, to_share: np.ndarray) -> np.ndarray:
    """Return how much of each voxel of a grid a lesion fills."""
    voxel = np.linalg.inv(share.affine) @ to_share @ grid.affine
    box = np.stack(np.meshgrid(*[(0, n - 1) for n in share.shape], indexing="ij"), -1)
    corners = apply_affine(np.linalg.inv(voxel), box.reshape(-1, 3))
    low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 2, grid.shape)
    found = np.zeros(grid.shape, np.float32)
    if (high <= low).any():
        return found
    index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1)
    steps = (np.arange(PROFILE) + 0.5) / PROFILE - 0.5
    total = np.zeros(index.shape[:3])
    data = np.asarray(share.dataobj)
    for offset in np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3):
        at = apply_affine(voxel, index + offset)
        total += ndimage.map_coordinates(data, np.moveaxis(at, -1, 0), order=1, cval=0)
    found[tuple(map(slice, low, high))] = total / PROFILE**3
    return found
