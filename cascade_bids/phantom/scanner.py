"""The simulated scanner: pose, field of view, partial volume, bias field and noise."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

BRAIN_CENTRE_MM = (0.0, -18.0, 5.0)
"""Centre of the template's brain, in template mm; the head is rotated about it."""

FLAIR_FOV_MM = (192.0, 240.0, 186.0)
"""Field of view of a FLAIR along right, anterior and superior: the brain and part of the neck."""

T1W_FOV_MM = (192.0, 240.0, 208.0)
"""Field of view of a T1w: the whole head."""

NOISE = 0.025
"""Standard deviation of the noise in each of the two channels; white matter has 0.5 to 0.9."""

_COUNTS = 600  # scanners store integers


@dataclass(frozen=True)
class Grid:
    """Voxel grid of an acquisition: `shape` (3,) and `affine` (4, 4) to scanner mm, RAS+."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def centred_grid(
    fov_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    tilt_degrees: float = 0.0,
) -> Grid:
    """Build a grid around the centre of the scanner.

    Parameters
    ----------
    fov_mm
        Field of view along right, anterior and superior, mm.
    spacing_mm
        Voxel size along the same axes, mm.
    tilt_degrees
        Tilt of the axial slices, chin up, degrees.

    Returns
    -------
    Grid
        The grid, RAS+ apart from the tilt.
    """
    first, second, third = (round(f / s) for f, s in zip(fov_mm, spacing_mm, strict=True))
    shape = (first, second, third)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", tilt_degrees, degrees=True).as_matrix() * spacing_mm
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def random_scale(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the size of a head relative to the template along x, y and z: (3,), 0.93 to 1."""
    return rng.uniform(0.94, 0.99) + rng.uniform(-0.01, 0.01, 3)


def random_rigid(
    rng: np.random.Generator, max_degrees: float, max_mm: float
) -> NDArray[np.float64]:
    """Draw a rigid motion (4, 4) about the origin, in mm."""
    motion = np.eye(4)
    angles = rng.uniform(-max_degrees, max_degrees, 3)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = rng.uniform(-max_mm, max_mm, 3)
    return motion


def head_in_scanner(scale: NDArray[np.float64], motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine (4, 4) from template mm to scanner mm of a scaled and moved head."""
    scaled = np.diag([*scale, 1.0])
    scaled[:3, 3] = -scale * BRAIN_CENTRE_MM
    return motion @ scaled


def acquire(
    head: NDArray[np.float32],
    head_affine: NDArray[np.float64],
    scanner_from_template: NDArray[np.float64],
    grid: Grid,
) -> NDArray[np.float32]:
    """Sample a head on the grid of a scan; a thick slice is the mean of thin ones.

    Parameters
    ----------
    head
        (X, Y, Z) float32 on the template grid: a signal, or a fraction from 0 to 1.
    head_affine
        (4, 4), its voxels to template mm.
    scanner_from_template
        (4, 4), template mm to scanner mm.
    grid
        Grid of the scan.

    Returns
    -------
    NDArray
        float32, with the shape of the grid; air (0) outside the grid of the head.
    """
    spacing_mm = np.linalg.norm(grid.affine[:3, :3], axis=0)
    parts = np.maximum(np.rint(spacing_mm), 1).astype(int)
    thin = grid.affine @ np.diag([*(1 / parts), 1.0])
    thin[:3, 3] -= thin[:3, :3] @ ((parts - 1) / 2)
    voxel = np.linalg.inv(scanner_from_template @ head_affine) @ thin
    shape = tuple(int(n) for n in parts * grid.shape)
    samples = ndimage.affine_transform(
        head, voxel[:3, :3], voxel[:3, 3], output_shape=shape, order=1, output=np.float32
    )
    blocks = samples.reshape([n for pair in zip(grid.shape, parts, strict=True) for n in pair])
    return blocks.mean(axis=(1, 3, 5))


def degrade(signal: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int16]:
    """Add a smooth bias field and Rician noise, and round to integers.

    Parameters
    ----------
    signal
        (X, Y, Z) float32, about 0 to 1.
    rng
        Random number generator.

    Returns
    -------
    NDArray
        (X, Y, Z) int16, about 0 to 600. The noise is the magnitude of a complex signal with normal
        noise in both channels (Gudbjartsson and Patz, 1995, doi 10.1002/mrm.1910340618).
    """
    biased = signal.copy()
    for axis, length in enumerate(signal.shape):
        t = np.linspace(-1, 1, length, dtype=np.float32)
        tilt, bend = rng.uniform((-0.06, -0.12), (0.06, 0.06)).astype(np.float32)
        biased *= np.exp(tilt * t + bend * t**2).reshape([-1 if a == axis else 1 for a in range(3)])
    real, imaginary = (
        NOISE * rng.standard_normal(signal.shape, dtype=np.float32) for _ in range(2)
    )
    return np.rint(_COUNTS * np.hypot(biased + real, imaginary)).astype(np.int16)


def as_image(data: NDArray[np.generic], grid: Grid, axes: str = "RAS") -> nib.Nifti1Image:
    """Build an image as a scanner would store it.

    Parameters
    ----------
    data
        (X, Y, Z), with the shape of the grid.
    grid
        Grid of the voxels.
    axes
        Directions of the stored axes, such as ``LAS``; they do not change the scan itself.

    Returns
    -------
    Nifti1Image
        Image in scanner mm, with sform and qform (code 1, scanner) that agree.
    """
    ras, stored = map(nib.orientations.axcodes2ornt, ("RAS", axes))
    image = nib.Nifti1Image(data, grid.affine).as_reoriented(
        nib.orientations.ornt_transform(ras, stored)
    )
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    return image
