"""Random changes to one volume, as scanners and patients make them.

Every function takes a float32 tensor (X, Y, Z) with background near 0 and a
`torch.Generator`, and returns a tensor of the same shape.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(low: float, high: float, rng: torch.Generator) -> float:
    """Draw one number between `low` and `high`."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def smooth_noise(
    shape: tuple[int, ...], cells: Sequence[int], rng: torch.Generator, channels: int = 1
) -> Tensor:
    """Draw a random field (channels, X, Y, Z), normal at `cells` knots a side, linear between."""
    knots = torch.randn((1, channels, *cells), generator=rng)
    return F.interpolate(knots, size=shape, mode="trilinear", align_corners=True)[0]


def random_grid(
    shape: tuple[int, int, int],
    source_shape: tuple[int, ...],
    centre: Tensor,
    rng: torch.Generator,
    *,
    max_degrees: float = 20.0,
    max_scale: float = 0.15,
    max_shift: float = 8.0,
    elastic: float = 2.0,
) -> Tensor:
    """Draw a random affine and elastic sampling grid for `torch.nn.functional.grid_sample`.

    Parameters
    ----------
    shape
        Voxels of the sampled volume.
    source_shape
        Voxels (X, Y, Z) of the volume that is sampled.
    centre
        Voxel of the source that comes to lie in the middle.
    rng
        Source of randomness.
    max_degrees, max_scale, max_shift, elastic
        Rotation about each axis, relative scaling, shift in voxels, and standard deviation of the
        elastic displacement in voxels.

    Returns
    -------
    Tensor
        (1, X, Y, Z, 3), the last axis in the order z, y, x that `grid_sample` expects.
    """
    matrix = torch.eye(3)
    for axis in range(3):
        angle = math.radians(uniform(-max_degrees, max_degrees, rng))
        a, b = [i for i in range(3) if i != axis]
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    matrix = matrix @ torch.diag(
        torch.tensor([1 + uniform(-max_scale, max_scale, rng) for _ in range(3)])
    )
    if uniform(0, 1, rng) < 0.5:
        matrix[:, 0] *= -1
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    points = points + elastic * smooth_noise(shape, (6, 6, 6), rng, channels=3).permute(1, 2, 3, 0)
    shift = torch.tensor([uniform(-max_shift, max_shift, rng) for _ in range(3)])
    points = points @ matrix.T + centre + shift
    scale = torch.tensor([2.0 / (n - 1) for n in source_shape])
    return (points * scale - 1).flip(-1)[None]


def sample(volume: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Sample (X, Y, Z) at a grid of `random_grid`; 0 outside the volume."""
    return F.grid_sample(
        volume[None, None].float(), grid, mode=mode, padding_mode="zeros", align_corners=True
    )[0, 0]


def bias_field(image: Tensor, rng: torch.Generator, strength: float = 0.3) -> Tensor:
    """Multiply by a smooth field, the receive coil's."""
    field = smooth_noise(tuple(image.shape), (4, 4, 4), rng)[0]
    return image * torch.exp(uniform(0, strength, rng) * field)


def remap_intensity(image: Tensor, rng: torch.Generator, knots: int = 6) -> Tensor:
    """Map intensities in [0, 1] through a random piecewise linear curve; 0 stays 0."""
    curve = torch.rand(knots, generator=rng)
    curve[0] = 0
    position = image.clamp(0, 1) * (knots - 1)
    lower = position.long().clamp(max=knots - 2)
    part = position - lower
    return curve[lower] * (1 - part) + curve[lower + 1] * part


def gamma(image: Tensor, rng: torch.Generator) -> Tensor:
    """Change contrast by a power between 0.6 and 1.6."""
    top = image.max().clamp(min=1e-6)
    return (image / top).clamp(min=0) ** math.exp(uniform(-0.5, 0.5, rng)) * top


def thick_slices(image: Tensor, rng: torch.Generator, max_voxels: float = 3.0) -> Tensor:
    """Lose resolution along one axis, as a scan of thick slices does; mostly they are axial."""
    axis = min(2, int(torch.randint(6, (), generator=rng)))
    size = list(image.shape)
    size[axis] = max(2, round(size[axis] / uniform(1, max_voxels, rng)))
    coarse = F.interpolate(image[None, None], size=size, mode="area")
    return F.interpolate(coarse, size=tuple(image.shape), mode="trilinear")[0, 0]


def rician_noise(
    image: Tensor, rng: torch.Generator, max_sigma: float = 0.06, deep: float = 0.0
) -> Tensor:
    """Add noise as a magnitude image has it (Gudbjartsson & Patz, MRM 1995).

    In the middle of the image there may be more of it, up to 1 + `deep` times, as parallel imaging
    has it far from all coils (Pruessmann et al., MRM 1999).
    """
    sigma: float | Tensor = uniform(0, max_sigma, rng) * float(image.max())
    if deep:
        axes = [torch.linspace(-1, 1, n) ** 2 for n in image.shape]
        x, y, z = torch.meshgrid(*axes, indexing="ij")
        sigma = sigma * (1 + uniform(0, deep, rng) * torch.exp(-2 * (x + y + z)))
    real = image + sigma * torch.randn(image.shape, generator=rng)
    imaginary = sigma * torch.randn(image.shape, generator=rng)
    return torch.sqrt(real**2 + imaginary**2)


def ghost(image: Tensor, rng: torch.Generator) -> Tensor:
    """Add a weak copy, shifted in the axial plane, as motion between lines of k-space does."""
    axis = int(torch.randint(2, (), generator=rng))
    shift = int(uniform(0.15, 0.5, rng) * image.shape[axis])
    return image + uniform(0.01, 0.08, rng) * torch.roll(image, shift, dims=axis)


def move(image: Tensor, rng: torch.Generator, max_mm: float) -> Tensor:
    """Shift by at most `max_mm` along each axis (1 mm voxels), as a bad registration does."""
    theta = torch.eye(3, 4)[None]
    sizes = torch.tensor(image.shape[::-1], dtype=torch.float32)
    shift = torch.tensor([uniform(-max_mm, max_mm, rng) for _ in range(3)])
    theta[0, :, 3] = 2 * shift / (sizes - 1)
    grid = F.affine_grid(theta, [1, 1, *image.shape], align_corners=True)
    return F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
