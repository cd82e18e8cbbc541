"""Lesions of known location and size: ellipsoids with soft edges, in template space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cascade_bids.phantom.anatomy import Anatomy

RIM_MM = 1.5
"""Width of the edge in which a lesion fades into its surroundings."""

_STEPS_PER_VOXEL = 4  # volumes are measured at 0.25 mm


@dataclass(frozen=True)
class LesionPlan:
    """Location and size of a lesion.

    Attributes
    ----------
    location
        One of periventricular, juxtacortical, infratentorial and deep_white_matter.
    centre_mm
        Centre in template mm (MNI152NLin2009aSym).
    volume_ml
        Volume of the whole ellipsoid in template space, ml. The true volume differs, since the
        lesion ends where the CSF begins, and the head is scaled.
    stretch
        Ratio of the semi-axes along x, y and z.
    """

    location: str
    centre_mm: tuple[float, float, float]
    volume_ml: float
    stretch: tuple[float, float, float] = (1, 1, 1)

    @property
    def radii_mm(self) -> NDArray[np.float64]:
        """Semi-axes (3,) in mm: the volume of an ellipsoid is 4/3 π abc."""
        ratios = np.array(self.stretch, dtype=float)
        unit = 1000 * self.volume_ml / (4 / 3 * np.pi * ratios.prod())
        return ratios * np.cbrt(unit)

    def grown(self, factor: float) -> "LesionPlan":
        """Return the same lesion with `factor` times its volume."""
        return replace(self, volume_ml=factor * self.volume_ml)


_SUB_01 = (
    LesionPlan("periventricular", (-24, -32, 26), 4.6, (1, 1.7, 1)),
    LesionPlan("periventricular", (22, 26, 10), 1.7, (1, 1.3, 1)),
    LesionPlan("periventricular", (26, -40, 24), 1.1),
    LesionPlan("deep_white_matter", (26, 8, 36), 0.65, (1, 1.3, 1)),
    LesionPlan("juxtacortical", (46, -50, 26), 0.45),
    LesionPlan("infratentorial", (18, -56, -38), 0.35),
    LesionPlan("deep_white_matter", (-26, 16, 34), 0.18),
    LesionPlan("juxtacortical", (-22, 50, 8), 0.12),
)
_SUB_02 = (
    LesionPlan("periventricular", (22, -20, 28), 2.5, (1, 1.6, 1)),
    LesionPlan("periventricular", (-20, 24, 14), 1.25),
    LesionPlan("deep_white_matter", (-26, 4, 36), 0.6, (1, 1.2, 1)),
    LesionPlan("juxtacortical", (34, 42, 4), 0.4),
    LesionPlan("infratentorial", (-16, -48, -36), 0.25),
)
_SUB_02_LATER = (
    _SUB_02[0].grown(1.4),
    _SUB_02[1],
    _SUB_02[2].grown(1.5),
    *_SUB_02[3:],
    LesionPlan("deep_white_matter", (28, 24, 24), 0.5),
    LesionPlan("juxtacortical", (40, -10, 46), 0.2),
)
PLANS: Mapping[tuple[str, str | None], Sequence[LesionPlan]] = {
    ("01", None): _SUB_01,
    ("02", "1"): _SUB_02,
    ("02", "2"): _SUB_02_LATER,
}
"""Participant and session to lesions. A follow-up starts with the earlier lesions in the same
order, some of them grown; the new ones come last."""


@dataclass(frozen=True)
class LesionShare:
    """One lesion in a box of the template grid.

    Attributes
    ----------
    box
        Position of the box in the grid.
    share
        float32 fraction of lesion in each voxel of the box, 0 to 1.
    """

    box: tuple[slice, ...]
    share: NDArray[np.float32]


def draw_lesion(plan: LesionPlan, anatomy: Anatomy) -> LesionShare:
    """Draw a lesion: an ellipsoid, restricted to brain tissue.

    Parameters
    ----------
    plan
        Location and size.
    anatomy
        The head.

    Returns
    -------
    LesionShare
        Fraction of lesion in each voxel; 0.5 on the surface of the ellipsoid.
    """
    centre = np.array(plan.centre_mm) - anatomy.affine[:3, 3]
    radii = plan.radii_mm
    start = np.floor(centre - radii - RIM_MM).astype(int)
    stop = np.ceil(centre + radii + RIM_MM).astype(int) + 1
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))

    x, y, z = ((axis - c) / r for axis, c, r in zip(np.ogrid[box], centre, radii, strict=True))
    inside_mm = (1 - np.sqrt(x**2 + y**2 + z**2)) * radii.min()
    share = np.clip(0.5 + inside_mm / RIM_MM, 0, 1).astype(np.float32)
    return LesionShare(box, np.minimum(share, anatomy.parenchyma(box)))


def merge(lesions: Sequence[LesionShare], anatomy: Anatomy) -> NDArray[np.float32]:
    """Merge lesions on the grid of the head.

    Parameters
    ----------
    lesions
        The lesions.
    anatomy
        The head.

    Returns
    -------
    NDArray
        (X, Y, Z) float32 fraction of lesion, 0 to 1.
    """
    field = np.zeros(anatomy.brain.shape, dtype=np.float32)
    for lesion in lesions:
        field[lesion.box] = np.maximum(field[lesion.box], lesion.share)
    return field


def measure(lesion: LesionShare, anatomy: Anatomy) -> tuple[float, NDArray[np.float64]]:
    """Measure a lesion where its fraction is at least one half, sampled finely.

    Parameters
    ----------
    lesion
        The lesion.
    anatomy
        The head.

    Returns
    -------
    tuple
        Volume in mm³ and centroid (3,) in mm, both of template space.
    """
    steps = _STEPS_PER_VOXEL
    fine = ndimage.affine_transform(
        lesion.share,
        np.eye(3) / steps,
        output_shape=tuple(steps * (n - 1) + 1 for n in lesion.share.shape),
        order=1,
    )
    points = np.argwhere(fine >= 0.5)
    centroid = points.mean(axis=0) / steps + [axis.start for axis in lesion.box]
    return len(points) / steps**3, anatomy.affine[:3, :3] @ centroid + anatomy.affine[:3, 3]
