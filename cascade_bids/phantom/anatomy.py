"""The head of the phantom: tissue fractions on the 1 mm grid of nilearn's template.

The brain is that of MNI152NLin2009aSym. It is surrounded by a skull and a scalp of known thickness;
below it are a face, a neck and a spinal cord of simple shapes, so that brain extraction and
registration find the same structures as in a patient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn.datasets import (
    load_mni152_gm_template,
    load_mni152_template,
    load_mni152_wm_template,
)
from numpy.typing import NDArray
from scipy import ndimage

SKULL_MM = 6.0
SCALP_MM = 6.0

INTENSITY: Mapping[str, Mapping[str, float]] = {
    "T1w": {
        "white": 0.90,
        "grey": 0.62,
        "csf": 0.20,
        "skull": 0.08,
        "scalp": 1.10,
        "muscle": 0.45,
        "lesion": 0.55,
    },
    "FLAIR": {
        "white": 0.52,
        "grey": 0.62,
        "csf": 0.12,
        "skull": 0.06,
        "scalp": 0.50,
        "muscle": 0.33,
        "lesion": 0.95,
    },
}
"""Contrast to tissue to signal (about 0 to 1; air is 0), before bias field and noise."""

# Room around the template for the face and the neck, in voxels: (before, after) of x, y, z.
_PADDING = ((0, 0), (0, 18), (44, 0))
_CLOSING_MM = 20.0
_FACE = ((0.0, 42.0, -72.0), (58.0, 60.0, 62.0))
_NECK = ((0.0, -40.0, -110.0), (56.0, 58.0, 75.0))
_EYES_MM = ((-32.0, 66.0, -42.0), (32.0, 66.0, -42.0))
_EYE_RADIUS_MM = 12.0
_CORD_RADIUS_MM = 6.0
_CORD_CANAL_RADIUS_MM = 10.0


@dataclass(frozen=True)
class Anatomy:
    """A lesion-free head in template space.

    Attributes
    ----------
    fractions
        Tissue to its fraction of each voxel, (X, Y, Z) uint8, 255 for all of it; the rest is air.
    brain
        (X, Y, Z) bool, the brain with its ventricles and sulci; its volume is the ICV.
    affine
        (4, 4), voxel to template mm (MNI152NLin2009aSym, RAS+, 1 mm).
    """

    fractions: Mapping[str, NDArray[np.uint8]]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]

    def parenchyma(self, box: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return the fraction of white and grey matter in each voxel of a box, 0 to 1."""
        tissue = self.fractions["white"][box].astype(np.float32) + self.fractions["grey"][box]
        return tissue / np.float32(255)


@lru_cache(maxsize=1)
def build_anatomy() -> Anatomy:
    """Build the head; the result is cached, since it is the same for every scan.

    Returns
    -------
    Anatomy
        The head on a 1 mm grid of 197 x 251 x 233 voxels.
    """
    template = load_mni152_template(resolution=1)
    affine = np.array(template.affine, dtype=float)
    affine[:3, 3] -= [before for before, _ in _PADDING]

    t1w, grey, white = (
        np.pad(image.get_fdata(dtype=np.float32), _PADDING)
        for image in (template, load_mni152_gm_template(), load_mni152_wm_template())
    )
    brain = t1w > 0  # the template has no holes: ventricles and sulci are in it
    tissues = _brain_tissues(brain, grey, white)
    tissues |= _outer_tissues(brain, affine)
    _add_eyes_and_cord(tissues, brain, affine)
    fractions = {name: np.rint(255 * share).astype(np.uint8) for name, share in tissues.items()}
    return Anatomy(fractions, brain, affine)


def render(
    anatomy: Anatomy, contrast: str, lesions: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Render the signal of a head in one contrast.

    Parameters
    ----------
    anatomy
        The head.
    contrast
        ``T1w`` or ``FLAIR``.
    lesions
        (X, Y, Z) fraction of lesion in each voxel of the head, 0 to 1; no lesions when None.

    Returns
    -------
    NDArray
        (X, Y, Z) float32 signal without noise in template space, about 0 to 1. It is linear in the
        fractions, so resampling it is the same as resampling them, with partial volume.
    """
    intensity = INTENSITY[contrast]
    signal = np.zeros(anatomy.brain.shape, dtype=np.float32)
    for name, share in anatomy.fractions.items():
        signal += share * np.float32(intensity[name] / 255)
    if lesions is not None:
        signal += lesions * (np.float32(intensity["lesion"]) - signal)
    return signal


def _brain_tissues(
    brain: NDArray[np.bool_], grey: NDArray[np.float32], white: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Divide the brain into white matter, grey matter and CSF (what is neither)."""
    csf = np.clip(1 - grey - white, 0, 1)
    # The maps are averages over people; squaring restores the edges of a single person.
    squares = {"white": white**2, "grey": grey**2, "csf": csf**2}
    total = np.maximum(sum(squares.values()), np.float32(1e-6))
    return {name: np.where(brain, square / total, 0) for name, square in squares.items()}


def _outer_tissues(
    brain: NDArray[np.bool_], affine: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """Build skull, scalp and, below, muscle around the brain."""
    to_hull, to_skin = _distances(brain, affine)
    inside_skull = _inside(to_hull - SKULL_MM)
    below_fat = np.maximum(_inside(to_skin + SCALP_MM), inside_skull)
    return {
        "skull": np.where(brain, 0, inside_skull),
        "scalp": np.maximum(_inside(to_skin), below_fat) - below_fat,
        "muscle": below_fat - inside_skull,
    }


def _distances(
    brain: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute signed distances, mm, to the closed brain surface and to the skin, negative inside.

    They are smooth, so they are computed at every second voxel and interpolated.
    """
    margin = int(_CLOSING_MM // 2) + 1
    coarse = np.pad(brain[::2, ::2, ::2], margin)
    dilated = 2 * ndimage.distance_transform_edt(~coarse) <= _CLOSING_MM
    hull = (2 * ndimage.distance_transform_edt(dilated) > _CLOSING_MM) | coarse
    to_hull = 2 * (ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull))

    to_skin = to_hull - (SKULL_MM + SCALP_MM)
    voxels = tuple(slice(-2 * margin, 2 * (n - margin), 2) for n in coarse.shape)
    for centre, radii in (_FACE, _NECK):
        # The radial distance to an ellipsoid, scaled to mm by its smallest radius.
        below = (_radius(voxels, affine, centre, radii) - 1) * min(radii)
        to_skin = np.minimum(to_skin, below)

    def to_full(distance: NDArray[np.float64], smoothing: float) -> NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(distance.astype(np.float32), smoothing)
        return ndimage.affine_transform(
            smooth, np.eye(3) / 2, margin, output_shape=brain.shape, order=1, mode="nearest"
        )

    return to_full(to_hull, 1.5), to_full(to_skin, 2.5)


def _add_eyes_and_cord(
    tissues: dict[str, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    affine: NDArray[np.float64],
) -> None:
    """Replace tissue by eyes and a spinal cord, both outside the brain mask."""

    def replace(name: str, box: tuple[slice, ...], share: NDArray[np.float32]) -> None:
        share = np.where(brain[box], 0, share)
        for other in tissues.values():
            other[box] *= 1 - share
        tissues[name][box] += share

    for centre in _EYES_MM:
        corner = np.rint(centre - affine[:3, 3] - _EYE_RADIUS_MM - 2).astype(int)
        box = tuple(slice(start, start + int(2 * _EYE_RADIUS_MM) + 5) for start in corner)
        radius = _radius(box, affine, centre, (_EYE_RADIUS_MM,) * 3)
        replace("csf", box, _inside((radius - 1) * _EYE_RADIUS_MM))

    lowest = int(brain.any(axis=(0, 1)).argmax())
    x, y = np.ogrid[: brain.shape[0], : brain.shape[1]]
    centre_x, centre_y = np.argwhere(brain[:, :, lowest]).mean(axis=0)
    from_axis = np.hypot(x - centre_x, y - centre_y)[:, :, np.newaxis]
    for name, radius_mm in (("csf", _CORD_CANAL_RADIUS_MM), ("white", _CORD_RADIUS_MM)):
        replace(name, np.s_[:, :, :lowest], _inside(from_axis - radius_mm))


def _inside(distance_mm: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute the fraction of a 1 mm voxel inside a surface from its signed distance to it."""
    return np.clip(0.5 - distance_mm, 0, 1).astype(np.float32)


def _radius(
    voxels: tuple[slice, ...],
    affine: NDArray[np.float64],
    centre_mm: tuple[float, ...],
    radii_mm: tuple[float, ...],
) -> NDArray[np.float64]:
    """Return the radial coordinate of voxels in an upright ellipsoid: 1 on its surface."""
    squares = [
        ((axis + origin - centre) / radius) ** 2
        for axis, origin, centre, radius in zip(
            np.ogrid[voxels], affine[:3, 3], centre_mm, radii_mm, strict=True
        )
    ]
    return np.sqrt(squares[0] + squares[1] + squares[2])
