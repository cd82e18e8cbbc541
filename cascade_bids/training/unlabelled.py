"""Scans whose lesions nobody outlined: what may be a lesion there, and must not be learned from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cascade_bids.files import appearing
from cascade_bids.network.cascade import Stage, run_stages
from cascade_bids.training.real import RealScan

SUSPECTED = 0.05
"""Probability above which a voxel may be a lesion: of a scan that differs from all that a method
has learned from, it is not sure."""

MARGIN_MM = 2.0
"""Around such voxels, which may belong to the lesion."""


def name_suspects(
    scans: Sequence[RealScan],
    stages: Sequence[Stage],
    contrasts: Sequence[str],
    combination: str,
    folder: Path,
) -> list[RealScan]:
    """Ask a method what may be a lesion in scans that nobody labelled.

    Parameters
    ----------
    scans
        On the network grid.
    stages
        Of the method.
    contrasts
        What its networks take; what a scan lacks is missing to them.
    combination
        See `cascade_bids.network.cascade.combine`.
    folder
        Keeps the masks.

    Returns
    -------
    list of RealScan
        The same scans, with their suspects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = []
    for one in scans:
        case = one.case
        path = folder / f"{case.label}_suspects.npy"
        if not path.exists():
            brain = np.array(case.brain)
            volume = torch.zeros((len(contrasts), *brain.shape))
            for name, image in zip(case.contrasts, case.volume, strict=True):
                volume[contrasts.index(name)] = image
            found = run_stages(
                stages, volume, case.flair, brain, combination=combination, places=case.places
            )
            likely = found.probability > SUSPECTED
            near = likely
            if likely.any():  # else there is nothing to be near to
                near = ndimage.distance_transform_edt(~likely) <= MARGIN_MM
            with appearing(path) as part:
                np.save(part, near & brain)
        named.append(replace(one, suspects=path))
    return named
