"""Predict lesions with the stages of a method: a cascade narrows candidates, an ensemble votes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nibabel.affines import from_matvec
from torch import Tensor

from cascade_bids.errors import ScanError, StartError
from cascade_bids.models.card import MethodCard
from cascade_bids.models.device import FLOAT32, compute_in
from cascade_bids.models.members import Member, split_stages
from cascade_bids.models.network import CandidateRule, LesionMaps, LesionNetwork, Volume, mirror
from cascade_bids.models.probabilities import combine, scale_temperature
from cascade_bids.models.weights import load_network
from cascade_bids.preprocess.coordinates import template_affine, template_coordinates
from cascade_bids.preprocess.masks import bounding_box

MARGIN = 8
"""Voxels around the brain that networks see: half a patch of the largest ones."""


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
    precision: str = FLOAT32,
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
    precision
        From `device.choose_precision`, for the networks that gain from it.

    Returns
    -------
    LesionMaps
        On the network grid.

    Raises
    ------
    ScanError
        When the scan lacks a contrast that is not optional.
    """
    box = bounding_box(brain, margin=MARGIN)
    inside = brain[box]
    seen = {contrast: image[box] for contrast, image in images.items()}
    channels = stack_contrasts(fill_missing(seen, card.optional), card.contrasts)
    if anatomy is not None:
        channels = torch.cat([channels, torch.from_numpy(anatomy[(slice(None), *box)])])
    placed = affine @ from_matvec(np.eye(3), [side.start for side in box])
    volume = Volume(
        channels,
        seen["FLAIR"],
        inside,
        lambda: template_coordinates(inside.shape, template_affine(inside, placed)),
    )
    found = predict_members(stages, card.members, volume, precision=precision)
    if mirrored:
        other = predict_members(stages, card.members, volume.mirror(), precision=precision)
        found = _average([found, _mirror(other)], [1, 1])
    probability = scale_temperature(found.probability, card.temperature)
    spheres = None if found.spheres is None else _place(found.spheres, box, brain.shape)
    return LesionMaps(_place(probability, box, brain.shape), spheres)


def predict_members(
    stages: Sequence[Stage],
    members: Sequence[Member],
    volume: Volume,
    *,
    precision: str = FLOAT32,
) -> LesionMaps:
    """Predict with every member of a method, and take the weighted mean.

    Parameters
    ----------
    stages
        Of all members, one after the other.
    members
        From the card.
    volume, precision
        As of `predict_stages`, and so is what is returned.
    """
    parts = zip(members, split_stages(members, stages), strict=True)
    return _average(
        [
            predict_stages(own, volume, member.combination, precision=precision)
            for member, own in parts
        ],
        [member.weight for member in members],
    )


def predict_stages(
    stages: Sequence[Stage], volume: Volume, combination: str, *, precision: str = FLOAT32
) -> LesionMaps:
    """Predict with every stage in turn, each on the candidates that the ones before leave.

    Parameters
    ----------
    stages
        First to last, of one cascade or ensemble.
    volume
        The scan.
    combination
        See `probabilities.combine`.
    precision
        As of `predict_lesions`.

    Returns
    -------
    LesionMaps
        Without calibration.
    """
    found: list[LesionMaps] = []
    previous = np.zeros(volume.brain.shape, np.float32)
    for stage in stages:
        candidates = stage.candidates.select(volume.flair, volume.brain, previous)
        with compute_in(precision if stage.network.gains_from_bfloat16 else FLOAT32):
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


def _place(values: np.ndarray, box: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Put values into a box of an array that is 0 elsewhere."""
    whole = np.zeros(shape, values.dtype)
    whole[box] = values
    return whole


def _mirror(maps: LesionMaps) -> LesionMaps:
    spheres = None if maps.spheres is None else mirror(maps.spheres)
    return LesionMaps(mirror(maps.probability), spheres)


def _average(found: Sequence[LesionMaps], weights: Sequence[float]) -> LesionMaps:
    if len(found) == 1:
        return found[0]  # as it is, to the last bit

    def mean(maps: Sequence[np.ndarray]) -> np.ndarray:
        return np.average(maps, axis=0, weights=weights).astype(np.float32)

    # Networks with a sphere head are joined with such alone.
    spheres = [maps.spheres for maps in found if maps.spheres is not None]
    return LesionMaps(
        mean([maps.probability for maps in found]), mean(spheres) if spheres else None
    )
