"""Figures of a scan: slices of the FLAIR with the lesions outlined."""

import base64
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image
from skimage.filters import threshold_otsu
from skimage.measure import approximate_polygon, find_contours

from cascade_bids.errors import ScanError
from cascade_bids.files import write_text
from cascade_bids.report.page import render

STYLES = {"lesions": ("#ff7f0e", 0.9), "brain mask": ("#56b4e9", 0.5)}
"""Colour and line width (mm) of the outlines: orange and sky blue are distinguishable for
colour-blind readers and clearly visible on grey."""

COLUMNS, AXIAL_TILES = 6, 24
STRIP_POSITIONS = (0.3, 0.5, 0.7)
"""Positions of the sagittal and coronal slices, as fractions of the brain's extent."""

MARGIN_MM, GAP_MM, LEGEND_MM = 10.0, 3.0, 16.0
FINEST_MM = 0.7
"""Finer pixels are averaged to this size, to limit the size of the file."""

UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""Errors that nibabel may raise on a damaged image."""


@dataclass(frozen=True)
class _Stack:
    """A scan cropped to its brain: arrays (X, Y, Z), RAS+, on one grid."""

    grey: np.ndarray
    """The FLAIR, uint8, windowed."""
    masks: dict[str, np.ndarray]
    """Label in the legend to boolean mask; only masks that are available."""
    spacing_mm: np.ndarray
    affine: np.ndarray
    extent: tuple[slice, ...]
    """Extent of the brain (or of the head, without a mask) in the crop."""


def lesion_mosaic(
    flair: Path,
    out: Path,
    *,
    lesions: Path | None,
    brain_mask: Path | None,
    orientation_known: bool = True,
) -> None:
    """Draw axial slices of the FLAIR with the lesions and the brain outlined, as SVG.

    The brain is divided into up to 24 axial slabs of equal height. From each slab, the slice with
    the largest lesion area is shown (the middle one without lesions), so that few lesions are
    missed. Three sagittal and three coronal slices below show the brain extraction and the slice
    thickness. The left of the figure is the participant's left. One unit of the SVG is 1 mm, and
    the same input gives the same bytes.

    Parameters
    ----------
    flair
        Image (X, Y, Z) in any orientation, with or without the skull.
    out
        The ``.svg`` file to write.
    lesions, brain_mask
        Masks on the grid of the FLAIR, above 0 inside; None if there is none.
    orientation_known
        Whether the raw header told the orientation; without it, no side is named.

    Raises
    ------
    ScanError
        If an image cannot be read or is not 3D, or if a mask is on another grid.
    """
    stack = _stack(flair, lesions, brain_mask)
    rows = _rows(stack)
    width = max(_width_mm(stack, row) for row in rows)
    tiles, top = [], 0.0
    for row in rows:
        gap = GAP_MM + (width - _width_mm(stack, row)) / (COLUMNS - 1)
        left = 0.0
        for axis, index in row:
            tile = _tile(stack, axis, index)
            tiles.append({**tile, "x_mm": round(left, 2), "y_mm": round(top, 2)})
            left += tile["width_mm"] + gap
        top += tiles[-1]["height_mm"] + GAP_MM
    legend = [(label, *STYLES[label]) for label in stack.masks]
    page = {"width": round(width, 2), "height": round(top + LEGEND_MM, 2)}
    page_text = render("mosaic.svg.j2", tiles=tiles, legend=legend, sides=orientation_known, **page)
    write_text(out, page_text)


def _stack(flair: Path, lesions: Path | None, brain_mask: Path | None) -> _Stack:
    image = _loaded(flair)
    data = np.nan_to_num(np.asanyarray(image.dataobj, dtype=np.float32), posinf=0, neginf=0)
    paths = {"lesions": lesions, "brain mask": brain_mask}
    masks = {label: _mask(path, image, flair) for label, path in paths.items() if path}
    brain = masks.get("brain mask")
    inside = brain if brain is not None and brain.any() else _head(data)
    spacing_mm = np.asarray(image.header.get_zooms(), dtype=float)
    box, extent = _boxes(inside, np.ceil(MARGIN_MM / spacing_mm).astype(int))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return _Stack(
        grey=_windowed(data[box], data[inside]),
        masks={label: mask[box] for label, mask in masks.items()},
        spacing_mm=spacing_mm,
        affine=affine,
        extent=extent,
    )


def _loaded(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.squeeze_image(nib.load(path))
        np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise ScanError(f"{path} can't be read as an image ({error}); is it whole?") from error
    if len(image.shape) != 3:
        raise ScanError(f"{path} has shape {image.shape}; a picture needs three dimensions.")
    return nib.as_closest_canonical(image)


def _mask(path: Path, image: nib.Nifti1Image, flair: Path) -> np.ndarray:
    mask = _loaded(path)
    if mask.shape != image.shape or not np.allclose(mask.affine, image.affine, atol=1e-3):
        raise ScanError(
            f"{path} is not on the grid of {flair} (shape {mask.shape} against {image.shape}, "
            "or another affine); outlines drawn from it would stand in the wrong place."
        )
    return np.asanyarray(mask.dataobj) > 0


def _head(data: np.ndarray) -> np.ndarray:
    """Find the voxels brighter than the background; the whole grid if there are none."""
    head = np.zeros(data.shape, bool)
    if np.ptp(data) > 0:
        head = data > threshold_otsu(data) / 2
    return head if head.any() else np.ones(data.shape, bool)


def _boxes(inside: np.ndarray, margin: np.ndarray) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the box of a mask with a margin (voxels), and the extent of the mask inside it."""
    box, extent = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(inside.any(axis=others))
        first, stop = int(filled[0]), int(filled[-1]) + 1
        start = max(first - int(margin[axis]), 0)
        box.append(slice(start, min(stop + int(margin[axis]), inside.shape[axis])))
        extent.append(slice(first - start, stop - start))
    return tuple(box), tuple(extent)


def _windowed(data: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Window intensities to uint8, from 0 or the 1st percentile to the 99.7th of those inside."""
    low = min(0.0, float(np.percentile(data, 1)))
    high = max(float(np.percentile(inside, 99.7)), low + 1e-6)
    return np.rint(np.clip((data - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _rows(stack: _Stack) -> list[list[tuple[int, int]]]:
    """Choose the slices: rows of (axis, index), axial from inferior to superior, the strip last."""
    levels = np.arange(stack.extent[2].start, stack.extent[2].stop)
    area = np.zeros(stack.grey.shape[2])
    if "lesions" in stack.masks:
        area = stack.masks["lesions"].sum(axis=(0, 1))
    slabs = np.array_split(levels, min(AXIAL_TILES, len(levels)))
    axial = [
        (2, int(slab[np.argmax(area[slab])] if area[slab].any() else slab[len(slab) // 2]))
        for slab in slabs
    ]
    strip = [
        (axis, round(bounds.start + part * (bounds.stop - 1 - bounds.start)))
        for axis, bounds in enumerate(stack.extent[:2])
        for part in STRIP_POSITIONS
    ]
    return [*(axial[start : start + COLUMNS] for start in range(0, len(axial), COLUMNS)), strip]


def _width_mm(stack: _Stack, row: list[tuple[int, int]]) -> float:
    """Compute the width of a row with its smallest gaps, of an axial row as if it were full."""
    size_mm = stack.grey.shape * stack.spacing_mm
    tiles = row if row[0][0] != 2 else [(2, 0)] * COLUMNS
    return float(sum(size_mm[1 if axis == 0 else 0] + GAP_MM for axis, _ in tiles) - GAP_MM)


def _tile(stack: _Stack, axis: int, index: int) -> dict[str, Any]:
    """Prepare one slice for the template: image, outlines, labels; sizes in mm."""
    across, up = (other for other in range(3) if other != axis)
    spacing_mm = stack.spacing_mm[[across, up]]
    size_mm = np.asarray(stack.grey.shape)[[across, up]] * spacing_mm
    middle = np.asarray(stack.grey.shape) // 2
    middle[axis] = index
    position_mm = stack.affine[axis, :3] @ middle + stack.affine[axis, 3]
    outlines = []
    for label, mask in reversed(stack.masks.items()):  # lesions on top
        path = _outline(_section(mask, axis, index), spacing_mm)
        colour, width_mm = STYLES[label]
        if path:
            outlines.append({"path": path, "colour": colour, "width_mm": width_mm})
    pixels = np.rint(size_mm / np.maximum(spacing_mm, FINEST_MM)).astype(int)
    return {
        "png": _png(_section(stack.grey, axis, index), pixels),
        "outlines": outlines,
        "width_mm": round(float(size_mm[0]), 2),
        "height_mm": round(float(size_mm[1]), 2),
        "title": f"{'xyz'[axis]} {position_mm:.0f} mm",
        "ends": "PA" if axis == 0 else "LR",
    }


def _section(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Extract a slice as an image: rows from top to bottom, columns from left to right."""
    return np.take(volume, index, axis=axis).T[::-1]


def _outline(section: np.ndarray, spacing_mm: np.ndarray) -> str:
    """Trace the border of a mask as an SVG path in mm from the upper left corner."""
    # The frame of zeros closes outlines that touch the border of the slice.
    lines = find_contours(np.pad(section, 1).astype(np.uint8), 0.5)
    path = []
    for line in lines:
        points = (approximate_polygon(line, 0.2)[:, ::-1] - 0.5) * spacing_mm
        path.append("M" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z")
    return "".join(path)


def _png(grey: np.ndarray, pixels: np.ndarray) -> str:
    """Encode a slice, resized to (width, height) pixels, for a data URI."""
    picture = Image.fromarray(np.ascontiguousarray(grey))
    picture = picture.resize((int(pixels[0]), int(pixels[1])), Image.Resampling.BOX)
    # 64 grey levels look like 256 here and make the file a third smaller.
    steps = np.rint(np.asarray(picture) * (63 / 255))
    buffer = io.BytesIO()
    Image.fromarray(np.rint(steps * (255 / 63)).astype(np.uint8)).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
