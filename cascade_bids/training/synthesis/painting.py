"""Lesions and what looks like them, painted into the anatomy of a head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cascade_bids.lesions.label import CONNECTED
from cascade_bids.training.data.donors import Donor
from cascade_bids.training.data.tissues import TISSUES, share_of
from cascade_bids.training.synthesis.augment import smooth_noise, uniform

RIM = 0.1
"""Share of a lesion at which its rim ends; lesions whose rims touch have one strength."""

SMALLEST = 3
"""Voxels of a lesion; what is less is left out."""

HEALTHY = 0.12
"""Part of the scans that have no lesion."""

MOST_ML, STEEP = 65.0, 2.0
"""The load of the others is the one times a random number in [0, 1] to the power of the other: a
fifth of them have less than 3 ml, and a third more than 30, about as in open_ms_data."""

MOST_DONORS = 8
"""Whose lesions may come together in a scan, so that there are high loads too."""

TOO_LARGE = 1.5
"""Lesions of more than so many times the load are left out."""

FADING = 0.25
"""Part of the ventricles around a voxel, blurred as often as a `Place` reaches, below which what
lies there fades."""

HALF_HEAD_MM = ((0.0, 80.0), (-120.0, 80.0), (-80.0, 90.0))
"""Half of a head in the template: distance to the midline, y and z."""

RIM_MM = 2.0
"""From the brain's rim, within which dura and scalp may be left."""


@dataclass(frozen=True)
class Place:
    """Where in a head something is; patches of it are drawn anew for every scan."""

    tissues: tuple[str, ...]
    """In which tissues; nothing for the rim of the brain."""
    cells: int
    """Knots along each axis of the field that makes the patches: more are smaller."""
    part: tuple[float, float]
    """Part of the place that they cover, at the least and the most."""
    reach: int = 0
    """How far from the ventricles it may be, mm; 0 for anywhere."""
    box: tuple[tuple[float, float], ...] = ()
    """Where in the template, mm: distance to the midline, y and z; nothing for anywhere."""


@dataclass(frozen=True)
class LookAlike:
    """Something that is bright on FLAIR and no lesion."""

    chance: float
    """How often a scan has it."""
    strength: tuple[float, float]
    """How bright, at the least and the most, in parts of how bright a lesion is."""
    place: Place
    """Where it is."""
    on_all: bool = False
    """Whether the other contrasts show it too, as they show lesions."""


_CORTEX = ("cortex", "cerebellar cortex")

_FLUID = ("ventricle", "lower ventricle", "fluid")

_CAPS = ((5, 32), (10, 44), (-12, 32))

_HIND_CAPS = ((14, 42), (-90, -36), (-2, 36))

_CAPSULE = ((14, 28), (-25, -5), (-8, 25))

PLEXUS = Place(("ventricle",), 24, (0.3, 0.9), box=((10, 45), (-52, 0), (-32, 24)))
"""Where choroid plexus grows: in the atria and the temporal horns, which it can fill."""

PLEXUS_CHANCE = 0.8
"""How often a head has it."""

MOST_PLEXUS_ML = 4.0
"""Volume of it, about, at the most: it does not grow with wide ventricles."""

SYMMETRIC = 0.7
"""How often what is no lesion is alike on both sides."""

LOOK_ALIKES = (
    # Lining of the ventricles, and the caps of their frontal horns.
    LookAlike(0.8, (0.1, 0.8), Place(("white",), 10, (0.2, 0.7), reach=2), on_all=True),
    LookAlike(
        0.7,
        (0.2, 1.0),
        Place(("white", "deep grey"), 16, (0.3, 0.9), reach=8, box=_CAPS),
        on_all=True,
    ),
    # White matter behind the ventricles, and the tracts in the internal capsule.
    LookAlike(
        0.5, (0.1, 0.5), Place(("white",), 14, (0.2, 0.9), reach=10, box=_HIND_CAPS), on_all=True
    ),
    LookAlike(0.4, (0.1, 0.5), Place(("white",), 30, (0.2, 0.8), box=_CAPSULE), on_all=True),
    # Flow in the fluid.
    LookAlike(0.5, (0.3, 2.0), Place(_FLUID, 14, (0.02, 0.15))),
    # Choroid plexus is as bright as grey matter, or brighter.
    LookAlike(0.8, (0.0, 1.5), Place(("choroid plexus",), 60, (0.3, 0.9)), on_all=True),
    # Hippocampus and amygdala are the brightest of grey matter.
    LookAlike(0.6, (0.1, 0.8), Place(("limbic",), 30, (0.2, 0.8)), on_all=True),
    # Bright lobes, and bright folds, of cortex.
    LookAlike(0.7, (0.1, 0.6), Place(_CORTEX, 12, (0.1, 0.5))),
    LookAlike(0.6, (0.2, 0.8), Place(_CORTEX, 30, (0.05, 0.3))),
    # Nuclei are seldom bright: a large plaque beside the ventricle must not pass for one.
    LookAlike(0.5, (0.05, 0.2), Place(("deep grey", "thalamus"), 10, (0.1, 0.5))),
    # What is around the fourth ventricle, where FLAIR is noisy and fluid flows.
    LookAlike(
        0.5,
        (0.1, 0.8),
        Place(("brainstem", "cerebellar white", "cerebellar cortex"), 24, (0.05, 0.3)),
    ),
    # What is left of dura and scalp.
    LookAlike(0.5, (0.3, 1.5), Place((), 16, (0.05, 0.3))),
    # Bright tracts, wide and narrow.
    LookAlike(
        0.7,
        (0.05, 0.4),
        Place(("white", "brainstem", "cerebellar white"), 8, (0.1, 0.5)),
        on_all=True,
    ),
    LookAlike(0.5, (0.05, 0.3), Place(("white", "brainstem"), 24, (0.05, 0.3)), on_all=True),
)


@dataclass(frozen=True)
class Bright:
    """What look-alikes change, in parts of what a lesion does; (X, Y, Z) float32, 0 for nothing."""

    flair: Tensor
    others: Tensor
    """On the other contrasts."""

    def outside(self, share: Tensor) -> "Bright":
        """Return it without what lesions cover."""
        return Bright(self.flair * (1 - share), self.others * (1 - share))


@dataclass(frozen=True)
class Painted:
    """What is painted into a head; all (X, Y, Z)."""

    share: Tensor
    """float32, part of the voxel that is lesion, 0 to 1."""
    strength: Tensor
    """float32, how much each lesion differs from white matter, about 0.5 to 1.5."""
    lesions: Tensor
    """bool, what counts as lesion."""

    def within(self, free: Tensor) -> "Painted":
        """Return it without what is painted outside a mask (X, Y, Z) bool."""
        return Painted(self.share * free, self.strength * free, self.lesions & free)


def place_lesions(
    host: Tensor,
    to_template: Tensor,
    donors: Sequence[Donor],
    rng: torch.Generator,
) -> Painted:
    """Paint the lesions of one or several donors where their brains had them.

    Each donor's mask is mirrored at random, moved, scaled and deformed, kept where there is
    white matter (or next to it, for lesions that reach into cortex or nuclei), and loses lesions
    at random until there is the load that was drawn.

    Parameters
    ----------
    host
        (X, Y, Z) float32, 1 where lesions may lie and 0 elsewhere.
    to_template
        (X, Y, Z, 3) float32, template coordinates of each voxel, mm.
    donors
        Whose lesions there are to choose from; none for a healthy head.
    rng
        Source of randomness.

    Returns
    -------
    Painted
        Empty for a healthy head.
    """
    shape = tuple(host.shape)
    nothing = Painted(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool))
    if not donors or uniform(0, 1, rng) < HEALTHY:
        return nothing
    load = 1000 * MOST_ML * uniform(0, 1, rng) ** STEEP
    share = _sample_mask(_gather(donors, load, rng), to_template, rng)
    share = share * (2 * _blur(host)).clamp(max=1)
    # A lesion's rim belongs to it.
    numbers, count = ndimage.label((share > RIM).numpy(), structure=CONNECTED)
    if not count:
        return nothing
    owner = torch.from_numpy(numbers).long()
    sizes = torch.bincount(owner[share >= 0.5], minlength=count + 1)
    fitting = (sizes >= SMALLEST) & (sizes <= TOO_LARGE * load)
    fitting[0] = False
    order = torch.randperm(count + 1, generator=rng)
    order = order[fitting[order]]
    before = sizes[order].cumsum(0) - sizes[order]
    kept = torch.zeros(count + 1, dtype=torch.bool)
    kept[order[before < load]] = True
    strength = (0.5 + torch.rand(count + 1, generator=rng))[owner]
    share = torch.where(kept[owner], share, torch.zeros(()))
    return Painted(share, strength * (share > 0), share >= 0.5)


def place_look_alikes(
    tissues: Tensor, depth_mm: Tensor, to_template: Tensor, rng: torch.Generator
) -> Bright:
    """Paint `LOOK_ALIKES`: what is bright on FLAIR and no lesion.

    Parameters
    ----------
    tissues
        (X, Y, Z) uint8, indices in `TISSUES`.
    depth_mm
        (X, Y, Z), distance to the rim of the brain, positive within.
    to_template
        (X, Y, Z, 3) float32, template coordinates of each voxel, mm.
    rng
        Source of randomness.

    Returns
    -------
    Bright
        0 where nothing is.
    """
    flair, others = torch.zeros(tissues.shape), torch.zeros(tissues.shape)
    for kind in LOOK_ALIKES:
        if uniform(0, 1, rng) < kind.chance:
            where = (depth_mm.float().abs() < RIM_MM).float()
            if kind.place.tissues:
                where = share_of(tissues, *kind.place.tissues)
            strength = uniform(*kind.strength, rng)
            found = strength * _cover(kind.place, where, tissues, to_template, rng)
            flair += found
            if kind.on_all:
                others += found
    return Bright(flair, others)


def grow_plexus(tissues: Tensor, to_template: Tensor, rng: torch.Generator) -> Tensor:
    """Add choroid plexus to the ventricles of a head, whose map has none.

    Parameters
    ----------
    tissues
        (X, Y, Z) uint8, indices in `TISSUES`.
    to_template
        (X, Y, Z, 3) float32, template coordinates of each voxel, mm.
    rng
        Source of randomness.

    Returns
    -------
    Tensor
        (X, Y, Z) uint8.
    """
    if uniform(0, 1, rng) >= PLEXUS_CHANCE:
        return tissues
    where = share_of(tissues, *PLEXUS.tissues) * _inside(PLEXUS.box, to_template)
    most = 1000 * MOST_PLEXUS_ML / max(float(where.sum()), 1.0)
    part = (min(PLEXUS.part[0], most), min(PLEXUS.part[1], most))
    place = replace(PLEXUS, part=part, box=())  # `where` lies in the box already
    plexus = _cover(place, where, tissues, to_template, rng) > 0.5
    name = torch.tensor(TISSUES.index("choroid plexus"), dtype=tissues.dtype)
    return torch.where(plexus, name, tissues)


def _cover(
    place: Place,
    where: Tensor,
    tissues: Tensor,
    to_template: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """Draw how much of each voxel (X, Y, Z) patches cover, 0 to 1, within where they may be."""
    if place.reach:
        near = share_of(tissues, "ventricle", "choroid plexus")
        for _ in range(place.reach):
            near = _blur(near)
        where = where * (near / FADING).clamp(max=1)
    if place.box:
        where = where * _inside(place.box, to_template)
    if uniform(0, 1, rng) < SYMMETRIC:
        field = _symmetric_noise(to_template, place.cells, rng)
    else:
        field = smooth_noise(tuple(tissues.shape), (place.cells,) * 3, rng)[0]
    return where * _patches(field, uniform(*place.part, rng))


def _inside(box: Sequence[tuple[float, float]], to_template: Tensor) -> Tensor:
    """Return which voxels (X, Y, Z) lie in a box of a `Place`."""
    low, high = torch.tensor(box, dtype=torch.float32).T
    folded = _fold(to_template)
    return ((folded >= low) & (folded <= high)).all(-1)


def _fold(to_template: Tensor) -> Tensor:
    """Fold both sides of the head onto each other: distance to the midline, y and z."""
    return torch.cat([to_template[..., :1].abs(), to_template[..., 1:]], dim=-1)


def find_host(tissues: Tensor) -> Tensor:
    """Return where lesions may lie (X, Y, Z) float32: white matter, brainstem and thalamus."""
    return share_of(tissues, "white", "cerebellar white", "brainstem", "thalamus")


def _symmetric_noise(to_template: Tensor, cells: int, rng: torch.Generator) -> Tensor:
    """Draw a random field (X, Y, Z) that is the same on both sides of the head."""
    knots = torch.randn((1, 1, cells, cells, (cells + 1) // 2), generator=rng)
    low, high = torch.tensor(HALF_HEAD_MM).T
    grid = 2 * (_fold(to_template) - low) / (high - low) - 1
    return F.grid_sample(knots, grid[None], padding_mode="border", align_corners=True)[0, 0]


def _patches(field: Tensor, part: float) -> Tensor:
    """Make smooth patches of a random field (X, Y, Z), 0 to 1, over about a part of it."""
    edge = float(torch.quantile(field.flatten()[:: max(1, field.numel() // 20_000)], 1 - part))
    return torch.sigmoid(6 * (field - edge))


def _blur(values: Tensor) -> Tensor:
    """Average over 3³ voxels."""
    return torch.from_numpy(ndimage.uniform_filter(values.numpy(), 3, mode="constant"))


def _gather(donors: Sequence[Donor], load: float, rng: torch.Generator) -> Donor:
    """Combine lesions of donors until there are so many mm³, on the grid of the first."""
    first = donors[int(torch.randint(len(donors), (), generator=rng))]
    mask, voxel_mm3 = first.mask, 1 / float(torch.linalg.det(first.to_voxel[:3, :3]).abs())
    for _ in range(MOST_DONORS - 1):
        if voxel_mm3 * mask.sum() >= load:
            break
        other = donors[int(torch.randint(len(donors), (), generator=rng))]
        mask = torch.maximum(mask, _lay_onto(first, other))
    return replace(first, mask=mask)


def _lay_onto(first: Donor, other: Donor) -> Tensor:
    """Resample the mask of one donor to the grid of another's: uint8 (X, Y, Z)."""
    if first.mask.shape == other.mask.shape and torch.equal(first.to_voxel, other.to_voxel):
        return other.mask
    between = (other.to_voxel @ torch.linalg.inv(first.to_voxel)).numpy()
    shape = tuple(first.mask.shape)
    laid = ndimage.affine_transform(
        other.mask.numpy(), between[:3, :3], between[:3, 3], output_shape=shape, order=0
    )
    return torch.from_numpy(laid)


def _sample_mask(donor: Donor, to_template: Tensor, rng: torch.Generator) -> Tensor:
    """Sample a donor's mask, moved at random, at template coordinates; float32 (X, Y, Z)."""
    shape = tuple(to_template.shape[:3])
    matrix = torch.eye(3) + 0.12 * (torch.rand(3, 3, generator=rng) - 0.5)
    matrix = matrix * (1 + uniform(-0.1, 0.1, rng))
    if uniform(0, 1, rng) < 0.5:
        matrix[:, 0] *= -1
    shift = torch.tensor([uniform(-4, 4, rng) for _ in range(3)])
    moved = to_template @ matrix.T + shift
    moved = moved + 2.0 * smooth_noise(shape, (12, 12, 12), rng, channels=3).permute(1, 2, 3, 0)
    points = moved @ donor.to_voxel[:3, :3].T + donor.to_voxel[:3, 3]
    sizes = torch.tensor(donor.mask.shape, dtype=torch.float32)
    grid = (2 * points / (sizes - 1) - 1).flip(-1)[None]
    mask = donor.mask[None, None].float()
    return F.grid_sample(mask, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[
        0, 0
    ]
