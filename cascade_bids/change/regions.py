"""Find what may be a lesion in two sessions, and measure how much its signal changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from scipy import ndimage

from cascade_bids.change.noise import RegionNoise, heavy_deviation
from cascade_bids.lesions.label import CONNECTED

LEVELS = (0.4, 0.3, 0.2, 0.1, 0.05)
"""Lesion probabilities, or differences of them, at which a map is cut into regions."""

PEAK = 1.25
"""A region of a map has a voxel of so many times its level."""

SHARP_MM, BLUNT_MM = 1.0, 3.0
"""Standard deviations of the filters between which the difference of the images is looked at."""

IMAGE_LEVEL, IMAGE_PEAK = 4.0, 7.0
"""A region of the images has so much more signal than noise, and one voxel that has so much."""

DEEP_VOXELS = 5
"""How deep in the brain such a region lies: at its border much else differs."""

SMALLEST = 3
"""Fewest voxels of a region."""

SPILL_VOXELS = 2.0
"""How far around a region the resolution of the images spreads its signal."""

RING_VOXELS = 3
"""Width of the ring of normal-appearing tissue around a region and its spill."""

BRIGHTEST_RING = 1.5
"""Brighter tissue around a region is no normal background, as matched intensities have it."""

GLANCE = 3.0
"""Regions whose own voxels differ by less, in units of the noise, are not measured."""


class Source(Enum):
    """What a region was found in."""

    LESION = "the lesion probability of one of both sessions"
    RISE = "the difference of the probabilities"
    IMAGE = "the difference of the images alone"


@dataclass(frozen=True)
class Region:
    """A part of the brain that may be a lesion, and how bright it is in two sessions."""

    box: tuple[slice, ...]
    """Where it lies on the grid."""
    voxels: np.ndarray
    """(X, Y, Z) bool, the region in its box."""
    before: float
    """How much brighter it is than the ring around it, on average, in the first session."""
    after: float
    """The same in the second session."""
    strength: float
    """The difference of both, in units of the noise."""
    source: Source
    """What it was found in."""

    @property
    def part(self) -> float:
        """The fainter signal as a part of the stronger one, from 0 to 1."""
        faint, bright = sorted((self.before, self.after))
        return max(faint, 0.0) / bright if bright > 0 else 1.0


def find_regions(
    matched: Sequence[np.ndarray],
    probabilities: Sequence[np.ndarray],
    brain: np.ndarray,
    normal: np.ndarray,
    white: np.ndarray,
) -> list[Region]:
    """Find all regions that changed at first sight, and measure them.

    Regions are where the lesion probability of one of both sessions, or its rise or fall from one
    to the other, reaches one of `LEVELS`, and where deep in white matter the images alone differ.
    The same lesion is in several of them.

    Parameters
    ----------
    matched
        Two (X, Y, Z) float images with matched intensities on one grid.
    probabilities
        Two (X, Y, Z) float lesion probabilities, 0 outside the brain.
    brain, normal, white
        (X, Y, Z) bool, brain, normal-appearing tissue, and where white matter is expected.

    Returns
    -------
    list of Region
        Exchanging the sessions exchanges ``before`` and ``after``, and the sign of ``strength``.
    """
    (head,) = ndimage.find_objects(brain.astype(np.uint8)) or [(slice(0, 0),) * 3]
    first, second = (image[head] for image in matched)
    before, after = (image[head] for image in probabilities)
    is_white = white[head] & brain[head]
    difference = second - first
    noise = RegionNoise(difference, normal[head], normal[head] & is_white, shell=RING_VOXELS)
    measure = RegionMeasure((first, second), brain[head], normal[head], noise)
    sharp = ndimage.gaussian_filter(difference, SHARP_MM)
    sharp -= ndimage.gaussian_filter(difference, BLUNT_MM)
    sharp /= heavy_deviation(sharp[normal[head] & is_white])
    sharp *= is_white & ndimage.binary_erosion(brain[head], iterations=DEEP_VOXELS)
    found = [*measure.cut(np.maximum(before, after), Source.LESION)]
    for sign in (1, -1):
        found += [
            one
            for one in (
                *measure.cut(sign * (after - before), Source.RISE),
                *measure.cut(sign * sharp, Source.IMAGE),
            )
            if sign * one.strength > 0
        ]
    return [replace(one, box=_shift(one.box, head)) for one in found]


def _shift(box: tuple[slice, ...], by: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(one.start + other.start, one.stop + other.start)
        for one, other in zip(box, by, strict=True)
    )


@dataclass(frozen=True)
class RegionMeasure:
    """Two matched images in which regions are measured."""

    matched: tuple[np.ndarray, np.ndarray]
    brain: np.ndarray
    normal: np.ndarray
    noise: RegionNoise

    def cut(self, likely: np.ndarray, source: Source) -> Iterator[Region]:
        """Cut a map, (X, Y, Z) float, into regions at each level, and measure them."""
        change = self.matched[1] - self.matched[0]
        is_image = source is Source.IMAGE
        factor = IMAGE_PEAK / IMAGE_LEVEL if is_image else PEAK
        for level in (IMAGE_LEVEL,) if is_image else LEVELS:
            labels, _ = ndimage.label(likely >= level, structure=CONNECTED)
            inside = np.flatnonzero(labels)
            numbers = labels.ravel()[inside]
            sizes = np.bincount(numbers)
            sums = np.bincount(numbers, weights=change.ravel()[inside])
            peaks = np.zeros(sizes.size)
            np.maximum.at(peaks, numbers, likely.ravel()[inside])
            boxes = ndimage.find_objects(labels)
            for number in np.flatnonzero((sizes >= SMALLEST) & (peaks >= factor * level)):
                size = int(sizes[number])
                if is_image or abs(sums[number]) / size >= GLANCE * self.noise(size):
                    region = self._measure(labels, boxes[number - 1], number, source)
                    if region is not None:
                        # The peak of so small a region tells more than the mean with its spill.
                        strength = max(abs(region.strength), is_image * peaks[number])
                        yield replace(region, strength=np.copysign(strength, region.strength))

    def _measure(
        self, labels: np.ndarray, close: tuple[slice, ...], number: int, source: Source
    ) -> Region | None:
        """Measure a region; None if there is no normal-appearing tissue around.

        The region and its spill hold all the signal of a lesion, however sharp the images are, so
        that the mean over them follows its volume and its contrast.
        """
        reach = int(SPILL_VOXELS + RING_VOXELS) + 1
        box = tuple(
            slice(max(one.start - reach, 0), min(one.stop + reach, size))
            for one, size in zip(close, labels.shape, strict=True)
        )
        voxels = labels[box] == number
        distance = ndimage.distance_transform_edt(~voxels)
        others = (labels[box] > 0) & ~voxels
        spill = (distance <= SPILL_VOXELS) & self.brain[box] & ~others
        ring = (distance > SPILL_VOXELS) & (distance <= SPILL_VOXELS + RING_VOXELS)
        ring &= self.normal[box]
        if not ring.any():
            return None
        first, second = (image[box] for image in self.matched)
        change = float((second - first)[spill].mean() - (second - first)[ring].mean())
        mean = (first + second) / 2
        bright = float(mean[spill].mean() - min(np.median(mean[ring]), BRIGHTEST_RING))
        strength = change / self.noise(int(spill.sum()))
        return Region(box, voxels, bright - change / 2, bright + change / 2, strength, source)
