"""Real lesions, and where in a head they can be painted."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nilearn.datasets import load_mni152_wm_template
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.change.heads import Head, Painted
from cascade_bids.lesions.label import CONNECTED
from cascade_bids.preprocess.images import make_image
from cascade_bids.preprocess.resample import resample

VOLUMES_MM3 = (5.0, 500.0)
GROUPS = 6
BLUR_VOXELS = 0.5
STRENGTH = (0.6, 1.1)
APART_MM = 4.0
"""Painted lesions are so far from each other and from what is likely lesion."""
LIKELY = 0.1
"""Probability of what is likely lesion."""
WHITE = 0.8
"""Probability of white matter in the template at the centre of a painted lesion."""


def read_shapes(masks: Path) -> list[np.ndarray]:
    """Read the lesions of all masks at 1 mm that have one of `VOLUMES_MM3`, as (X, Y, Z) bool."""
    shapes = []
    for path in sorted(masks.rglob("*lesion*mask*.nii.gz")):
        labels, _ = ndimage.label(np.asarray(nib.load(path).dataobj) > 0, structure=CONNECTED)
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            shape = labels[box] == number
            if VOLUMES_MM3[0] <= shape.sum() <= VOLUMES_MM3[1]:
                shapes.append(shape)
    return shapes


def measure_contrast(head: Head) -> dict[str, float]:
    """Measure by how much lesions of a head differ from white matter, in each image."""
    flair = head.images["FLAIR"]
    probability = np.asarray(head.probability.dataobj)
    contrasts = {}
    for contrast, image in head.images.items():
        on_flair = np.asarray(
            resample(image, flair.shape, flair.affine, head.to_image[contrast], order=1).dataobj
        )
        lesion = on_flair[probability >= 0.5]
        white = on_flair[(_white(head) >= WHITE) & (probability < LIKELY)]
        contrasts[contrast] = float(np.median(lesion) - np.median(white))
    return contrasts


def draw_lesions(
    head: Head,
    shapes: Sequence[np.ndarray],
    count: int,
    smallest_mm3: float,
    rng: np.random.Generator,
) -> list[Painted]:
    """Draw lesions for places in white matter without lesion, apart from each other."""
    places = _places(head, rng)
    taken: list[np.ndarray] = []
    drawn: list[Painted] = []
    # As many of each size, on a logarithmic scale.
    limits = np.geomspace(smallest_mm3, VOLUMES_MM3[1], GROUPS + 1)
    groups = [
        [shape for shape in shapes if low <= shape.sum() <= high] for low, high in pairwise(limits)
    ]
    for place in places:
        if len(drawn) == count:
            break
        group = groups[len(drawn) % GROUPS]
        shape = group[rng.integers(len(group))]
        reach = max(shape.shape) / 2 + APART_MM
        if any(np.linalg.norm(place[:3] - one[:3]) < reach + one[3] for one in taken):
            continue
        if place[3] < reach:
            continue
        turn = Rotation.random(rng=rng).as_matrix()
        drawn.append(_place(shape, place[:3], turn, rng.uniform(*STRENGTH)))
        taken.append(np.array([*place[:3], max(shape.shape) / 2]))
    return drawn


def enlarge(lesion: Painted, factor: float) -> Painted:
    """Enlarge a lesion about its centre, to so many times its volume."""
    share = lesion.share
    centre = apply_affine(share.affine, (np.array(share.shape) - 1) / 2)
    scale = factor ** (1 / 3)
    grown = from_matvec(np.eye(3) * scale, centre * (1 - scale)) @ share.affine
    return Painted(
        nib.Nifti1Image(np.asarray(share.dataobj), grown),
        lesion.strength,
        lesion.volume_mm3 * factor,
    )


def _place(shape: np.ndarray, centre: np.ndarray, turn: np.ndarray, strength: float) -> Painted:
    share = ndimage.gaussian_filter(np.pad(shape, 3).astype(np.float32), BLUR_VOXELS)
    middle = (np.array(share.shape) - 1) / 2
    affine = from_matvec(turn, centre - turn @ middle)
    return Painted(make_image(share, affine), strength, float(shape.sum()))


def _white(head: Head) -> np.ndarray:
    flair = head.images["FLAIR"]
    template = load_mni152_wm_template(resolution=1)
    return np.asarray(
        resample(template, flair.shape, flair.affine, head.to_template, order=1).dataobj
    )


def _places(head: Head, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield places (4,), x y z in mm and the distance to what is no place, in random order."""
    flair = head.images["FLAIR"]
    free = np.asarray(head.brain.dataobj) > 0
    free &= np.asarray(head.probability.dataobj) < LIKELY
    distance = ndimage.distance_transform_edt(free, sampling=nib.affines.voxel_sizes(flair.affine))
    voxels = np.argwhere(free & (_white(head) >= WHITE))
    for voxel in rng.permutation(voxels):
        jittered = voxel + rng.uniform(-0.5, 0.5, 3)
        yield np.array([*apply_affine(flair.affine, jittered), distance[tuple(voxel)]])
