"""What a contrast shows of each tissue, drawn around what scanners show."""

from collections.abc import Mapping

import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.training.data.tissues import LEVELS, TISSUES
from cascade_bids.training.synthesis import augment
from cascade_bids.training.synthesis.augment import smooth_noise, uniform
from cascade_bids.training.synthesis.painting import Bright, Painted

LESION: Mapping[str, tuple[float, float]] = {
    "FLAIR": (0.25, 0.75),
    "T1w": (-0.75, -0.05),
    "T2w": (0.40, 1.30),
    "PDw": (0.12, 0.45),
}
"""Lowest and highest difference of a lesion from white matter, in parts of white matter."""

GREY = ("cortex", "deep grey", "thalamus", "pallidum", "cerebellar cortex", "brainstem", "limbic")
"""Tissues that differ from white matter by more or less, all together."""

SPREAD: Mapping[str, tuple[float, float]] = {
    "FLAIR": (0.3, 1.8),
    "T1w": (0.5, 1.4),
    "T2w": (0.5, 1.4),
    "PDw": (0.5, 1.4),
}
"""Lowest and highest factor by which scanners stretch the difference of `GREY` from white matter;
FLAIR sequences differ most in it."""

UNEVEN: Mapping[str, float] = {"FLAIR": 0.4, "T1w": 0.7, "T2w": 0.5, "PDw": 0.5}
"""Highest logarithmic standard deviation of what a contrast shows within and between lesions: how
dark one is on T1w follows from axons lost, and hardly from how bright it is on FLAIR."""

JITTER = 0.06
"""Highest relative change of a tissue's mean."""

DEEP_NOISE = 1.5
"""By how much more, at the most, noise there is in the middle of the head than at its rim."""

TEXTURE = 0.03
"""Highest relative standard deviation of a tissue, for each of the scales at which it varies."""


def render(
    contrast: str,
    tissues: Tensor,
    painted: Painted,
    look_alikes: Bright,
    rng: torch.Generator,
    *,
    scanned: Tensor | None = None,
) -> Tensor:
    """Render a head in a contrast, before the scanner adds its faults.

    Parameters
    ----------
    contrast
        A key of `LEVELS`.
    tissues
        (X, Y, Z) uint8, indices in `TISSUES`.
    painted
        Lesions.
    look_alikes
        See `painting.place_look_alikes`.
    rng
        Source of randomness.
    scanned
        (X, Y, Z) float32, what a scanner showed of the head, white matter at 1; None where the
        looks of its tissues are drawn.

    Returns
    -------
    Tensor
        (X, Y, Z) float32, about 0 to 1.5.
    """
    shape = tuple(tissues.shape)
    white, image = _draw_looks(contrast, tissues, rng) if scanned is None else (1.0, scanned)
    low, high = LESION[contrast]
    difference = white * uniform(low, high, rng)
    flair = contrast == "FLAIR"
    image = image + difference * (look_alikes.flair if flair else look_alikes.others)
    there = torch.tensor(white)
    if flair:
        # A lesion is brighter than what it lies in, be it white matter or grey.
        there = torch.maximum(image, there)
    uneven = smooth_noise(shape, (8, 8, 8), rng)[0] + smooth_noise(shape, (24, 24, 24), rng)[0]
    strength = painted.strength * torch.exp(uniform(0, UNEVEN[contrast], rng) * uneven)
    target = (there + difference * strength).clamp(min=0)
    image = image + painted.share * (target - image)
    image = image + uniform(0, 0.3, rng) * difference * _halo(painted.share)
    if scanned is not None:
        return image.clamp(min=0)
    # Voxels hold a mixture of what lies at their borders.
    sigma = uniform(0.4, 0.8, rng)
    mixed = ndimage.gaussian_filter(image.numpy(), sigma, mode="nearest", radius=2)
    return torch.from_numpy(mixed).clamp(min=0)


def scan(contrast: str, image: Tensor, rng: torch.Generator) -> Tensor:
    """Add the faults of a scanner to a head (X, Y, Z) of about 0 to 1.5, air at 0.

    The FLAIR stays in its place: the lesions are those that it shows.
    """
    chance = torch.rand(5, generator=rng)
    # Noise of a scan is blurred with it when it is brought to another grid.
    early = chance[4] < 0.5
    if early:
        image = augment.rician_noise(image, rng, max_sigma=0.05, deep=DEEP_NOISE)
    if chance[0] < 0.5:
        image = augment.thick_slices(image, rng, max_voxels=5.0)
    if chance[1] < 0.15:
        image = augment.ghost(image, rng)
    image = augment.bias_field(image, rng, strength=0.06)
    if chance[2] < 0.3:
        image = augment.gamma(image, rng)
    if contrast != "FLAIR" and chance[3] < 0.4:
        image = augment.move(image, rng, max_mm=1.0)
    return image if early else augment.rician_noise(image, rng, max_sigma=0.04, deep=DEEP_NOISE)


def _draw_looks(contrast: str, tissues: Tensor, rng: torch.Generator) -> tuple[float, Tensor]:
    """Draw the level of white matter, and what tissues (X, Y, Z) look like."""
    shape = tuple(tissues.shape)
    levels = _draw_levels(contrast, rng)
    image = levels[tissues.long()]
    # Tissue is not even: it changes slowly over the brain, and from place to place.
    for cells in (10, 30, 70):
        image = image * (1 + uniform(0, TEXTURE, rng) * smooth_noise(shape, (cells,) * 3, rng)[0])
    return float(levels[TISSUES.index("white")]), image


def _draw_levels(contrast: str, rng: torch.Generator) -> Tensor:
    known = LEVELS[contrast]
    levels = torch.tensor([known.get(tissue, 0.0) for tissue in TISSUES])
    jitter = 1 + JITTER * (2 * torch.rand(len(TISSUES), generator=rng) - 1)
    white = levels[TISSUES.index("white")].clone()
    grey = torch.tensor([tissue in GREY for tissue in TISSUES])
    stretch = uniform(*SPREAD[contrast], rng)
    spread = torch.where(grey, white + stretch * (levels - white), levels)
    return spread * jitter


def _halo(share: Tensor) -> Tensor:
    """Compute the dirty white matter around lesions, which does not count as lesion."""
    around = torch.from_numpy(ndimage.uniform_filter(share.numpy(), 7, mode="constant"))
    return around * (1 - share)
