"""Predict lesions with the stages of a method: a cascade narrows candidates, an ensemble votes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_bids.errors import ScanError, StartError
from cascade_bids.models.card import MethodCard
from cascade_bids.models.network import CandidateRule, LesionMaps, LesionNetwork, Volume, mirror
from cascade_bids.models.probabilities import combine, scale_temperature
from cascade_bids.models.weights import load_network
from cascade_bids.preprocess.coordinates import template_affine, template_coordinates


@dataclass(frozen=True)
class Stage:
    """One network of a method and the rule for its candidates."""

    network: LesionNetwork
    """In evaluation mode, on the device that it runs on."""
    candidates: CandidateRule
    """Which voxels it classifies."""


def load_stages(card: MethodCard, *, device: torch.device, checked: bool = False) -> list[Stage]:
    """Load the stages of a method.

    Parameters
    ----------
    card
        Of the method.
    device
        Where the networks go.
    checked
        As of `weights.load_network`.

    Returns
    -------
    list of Stage
        First to last.

    Raises
    ------
    StartError
        When weights are missing, damaged, or do not fit the card.
    """
    stages = []
    for stage in card.stages:
        network = load_network(stage, device=device, checked=checked)
        if stage.candidates is None or not isinstance(network, LesionNetwork):
            raise StartError(f"{card.path} is not the card of a method that finds lesions")
        stages.append(Stage(network, stage.candidates))
    return stages


def predict_lesions(
    stages: Sequence[Stage],
    card: MethodCard,
    images: Mapping[str, np.ndarray],
    brain: np.ndarray,
    *,
    affine: np.ndarray,
    anatomy: np.ndarray | None = None,
    mirrored: bool = False,
) -> LesionMaps:
    """Predict the lesions of a scan with a method, calibrated as its card states.

    Parameters
    ----------
    stages
        From `load_stages`.
    card
        Of the method.
    images
        Contrast to (X, Y, Z) float32 on the network grid, normalised; those that the card calls
        optional may be missing.
    brain
        (X, Y, Z) bool.
    affine
        (4, 4) of the network grid.
    anatomy
        (6, X, Y, Z) float32, anatomical coordinates, for a method that takes them.
    mirrored
        Whether the networks see the mirrored head too, and the mean is taken.

    Returns
    -------
    LesionMaps
        On the network grid.

    Raises
    ------
    ScanError
        When the scan lacks a contrast that is not optional.
    """
    channels = stack_contrasts(fill_missing(images, card.optional), card.contrasts)
    if anatomy is not None:
        channels = torch.cat([channels, torch.from_numpy(anatomy)])
    volume = Volume(
        channels,
        images["FLAIR"],
        brain,
        lambda: template_coordinates(brain.shape, template_affine(brain, affine)),
    )
    volumes = [volume, volume.mirror()] if mirrored else [volume]
    length = len(stages) // card.cascades
    found = []
    for first in range(0, len(stages), length):
        for number, seen in enumerate(volumes):
            maps = predict_stages(stages[first : first + length], seen, card.combination)
            found.append(_mirror(maps) if number else maps)
    mean = found[0] if len(found) == 1 else _average(found)
    return mean._replace(probability=scale_temperature(mean.probability, card.temperature))


def predict_stages(stages: Sequence[Stage], volume: Volume, combination: str) -> LesionMaps:
    """Predict with every stage in turn, each on the candidates that the ones before leave.

    Parameters
    ----------
    stages
        First to last, of one cascade or ensemble.
    volume
        The scan.
    combination
        See `probabilities.combine`.

    Returns
    -------
    LesionMaps
        Without calibration.
    """
    found: list[LesionMaps] = []
    previous = np.zeros(volume.brain.shape, np.float32)
    for stage in stages:
        candidates = stage.candidates.select(volume.flair, volume.brain, previous)
        found.append(stage.network.predict(volume, candidates, previous))
        previous = stage.network.merge(previous, found, combination)
    spheres = [maps.spheres for maps in found if maps.spheres is not None]
    return LesionMaps(previous, combine(spheres, combination) if spheres else None)


def stack_contrasts(images: Mapping[str, np.ndarray], contrasts: Sequence[str]) -> Tensor:
    """Stack a scan's images in the order in which networks take them.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) float32, normalised.
    contrasts
        Channels of the networks, in this order.

    Returns
    -------
    torch.Tensor
        (C, X, Y, Z) float32.

    Raises
    ------
    ScanError
        When the scan lacks a contrast.
    """
    missing = [c for c in contrasts if c not in images]
    if missing:
        raise ScanError(
            f"the scan has no {', '.join(missing)}, which the method was trained with; "
            "add the image or choose another --method"
        )
    return torch.from_numpy(np.stack([np.asarray(images[c], np.float32) for c in contrasts]))


def fill_missing(
    images: Mapping[str, np.ndarray], optional: Sequence[str]
) -> dict[str, np.ndarray]:
    """Add the contrasts that a scan lacks and a method can do without: 0, as in its training.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) float32, normalised; FLAIR among them.
    optional
        Contrasts that may be missing.

    Returns
    -------
    dict
        The images, and those that were missing.
    """
    missing = {c: np.zeros_like(images["FLAIR"]) for c in optional if c not in images}
    return {**images, **missing}


def _mirror(maps: LesionMaps) -> LesionMaps:
    spheres = None if maps.spheres is None else mirror(maps.spheres)
    return LesionMaps(mirror(maps.probability), spheres)


def _average(found: Sequence[LesionMaps]) -> LesionMaps:
    spheres = [maps.spheres for maps in found if maps.spheres is not None]
    return LesionMaps(
        np.mean([maps.probability for maps in found], axis=0),
        np.mean(spheres, axis=0) if spheres else None,
    )
