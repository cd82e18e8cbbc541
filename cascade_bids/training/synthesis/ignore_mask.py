"""Ignore masks of unlabelled scans: what may be a lesion there, of which nothing is learned."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cascade_bids.files import appearing
from cascade_bids.models.predict import Stage, predict_stages
from cascade_bids.preprocess.coordinates import mirror_voxels
from cascade_bids.training.synthesis.real_scans import RealScan

LIKELY_ABOVE = 0.05
"""Probability above which a voxel may be a lesion: of a scan that differs from all that a method
has learned from, it is not sure."""

ALIKE = 0.5
"""Part of the probability of a voxel that the other side of the head has, at the least, where it is
taken for no lesion: few lesions are seldom alike on both sides, caps and tracts mostly are."""

MANY_ML = 5.0
"""Volume of what is more likely lesion than not, above which both sides are no help: many lesions
are alike on both sides too."""

ASIDE = 5
"""Side of the cube in which the other side may have it, in voxels: heads are not quite alike."""

MIDDLE_MM = 4.0
"""So near to the middle of the head sides are not compared."""

MARGIN_MM = 1.5
"""Around what may be a lesion, which may belong to it."""


def find_ignore_masks(
    scans: Sequence[RealScan],
    stages: Sequence[Stage],
    contrasts: Sequence[str],
    combination: str,
    folder: Path,
) -> list[RealScan]:
    """Find with a trained method what may be a lesion in unlabelled scans.

    Parameters
    ----------
    scans
        On the network grid.
    stages
        Of the method.
    contrasts
        What its networks take; what a scan lacks is missing to them.
    combination
        See `probabilities.combine`.
    folder
        Keeps the masks.

    Returns
    -------
    list of RealScan
        The same scans, with their ignore masks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = []
    for one in scans:
        case = one.case
        path = folder / f"{case.label}_ignore.npy"
        if not path.exists():
            known = case.volume
            channels = torch.zeros((len(contrasts), *known.brain.shape))
            for name, image in zip(case.contrasts, case.channels, strict=True):
                channels[contrasts.index(name)] = image
            found = predict_stages(stages, replace(known, channels=channels), combination)
            with appearing(path) as part:
                np.save(part, find_ignore_mask(found.probability, known.brain, known.coordinates))
        named.append(replace(one, ignore_mask=path))
    return named


def find_ignore_mask(
    probability: np.ndarray, brain: np.ndarray, coordinates: np.ndarray
) -> np.ndarray:
    """Find what may be a lesion, and is not alike on both sides.

    Parameters
    ----------
    probability
        (X, Y, Z) float32 in [0, 1], of a lesion, on the network grid of 1 mm.
    brain
        (X, Y, Z) bool.
    coordinates
        (X, Y, Z, 3) float32, where each voxel lies in the template, mm.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) bool: what is likely enough and not alike on both sides, and a margin around it.
    """
    ignored = brain & (probability > LIKELY_ABOVE)
    if (probability > 0.5).sum() < 1000 * MANY_ML:
        # Near the middle the other side is the lesion itself.
        apart = np.nonzero(ignored & (np.abs(coordinates[..., 0]) > MIDDLE_MM))
        if apart[0].size:
            near = ndimage.maximum_filter(probability, ASIDE)
            across = mirror_voxels(apart, brain, coordinates)
            other = ndimage.map_coordinates(near, across, order=1)
            ignored[apart] = other < ALIKE * probability[apart]
    if not ignored.any():  # then there is nothing to be near to
        return ignored
    return brain & (ndimage.distance_transform_edt(~ignored) <= MARGIN_MM)
