"""The stages of a method: a cascade asks each what the one before suspects, an ensemble votes."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from cascade_bids.errors import ScanError, StartError
from cascade_bids.network.context import ContextNetwork, evaluate_context, weigh
from cascade_bids.network.evaluate import LesionMaps, LesionNetwork, evaluate
from cascade_bids.network.jets import JetNetwork, adapt_to_scan, evaluate_jets
from cascade_bids.network.place import template_affine, template_places
from cascade_bids.network.weights import WEIGHTS_DIR, load_card, load_network


@dataclass(frozen=True)
class CandidateRule:
    """Which voxels a stage is asked to classify."""

    flair_above_z: float | None = None
    """Brain voxels whose normalised FLAIR is above this, or None."""
    previous_above: float | None = None
    """Voxels to which the stage before gave more than this probability, or None."""

    def to_entry(self) -> dict[str, float]:
        """Write the rule as it stands in a card."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def select(self, flair: np.ndarray, brain: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Apply the rule.

        Parameters
        ----------
        flair
            (X, Y, Z) float32, normalised.
        brain
            (X, Y, Z) bool.
        previous
            (X, Y, Z) float32, the probability of the stage before.

        Returns
        -------
        numpy.ndarray
            (X, Y, Z) bool.
        """
        chosen = brain.astype(bool)
        if self.flair_above_z is not None:
            chosen = chosen & (flair > self.flair_above_z)
        if self.previous_above is not None:
            chosen = chosen & (previous > self.previous_above)
        return chosen


NICMSLESIONS_CANDIDATES = (CandidateRule(flair_above_z=0.5), CandidateRule(previous_above=0.8))
"""What the stages of nicMSlesions are asked about, trained here or imported."""


@dataclass(frozen=True)
class Stage:
    """One network of a method and the rule for its candidates."""

    network: LesionNetwork
    """In evaluation mode, on the device that it runs on."""
    candidates: CandidateRule
    """What it is asked about."""


def load_stages(name: str, *, device: torch.device, folder: Path = WEIGHTS_DIR) -> list[Stage]:
    """Load the stages of a method from its card and weights.

    Raises
    ------
    UsageError
        When there is no such method.
    StartError
        When its weights are unreadable or find no lesions.
    """
    stages = []
    for number, entry in enumerate(load_card(name, folder)["stages"]):
        network = load_network(name, number, device=device, folder=folder)
        if "candidates" not in entry or not isinstance(network, LesionNetwork):
            raise StartError(f"{name!r} is no method that finds lesions; see cascade-bids --help")
        try:
            rule = CandidateRule(**entry["candidates"])
        except TypeError as error:
            raise StartError(f"the card of {name!r} has an unknown rule: {error}") from error
        stages.append(Stage(network, rule))
    return stages


def stack_contrasts(images: Mapping[str, np.ndarray], contrasts: Sequence[str]) -> Tensor:
    """Stack a scan's images in the order in which a network takes them.

    Parameters
    ----------
    images
        Contrast to (X, Y, Z) float32, normalised.
    contrasts
        What the network takes.

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
    """Add what a scan lacks and a method can do without: 0 everywhere, as in its training.

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


def run_cascade(
    stages: Sequence[Stage],
    images: Mapping[str, np.ndarray],
    brain: np.ndarray,
    contrasts: Sequence[str],
    *,
    combination: str = "last",
    anatomy: np.ndarray | None = None,
    affine: np.ndarray | None = None,
    temperature: float = 1.0,
    mirrored: bool = False,
    cascades: int = 1,
) -> LesionMaps:
    """Run every stage on the candidates that its rule leaves.

    Parameters
    ----------
    stages
        First to last.
    images
        Contrast to (X, Y, Z) float32 on the network grid, normalised.
    brain
        (X, Y, Z) bool.
    contrasts
        What the networks take, in this order.
    combination
        ``last``, ``product``, ``mean`` or ``vote``, see `combine`.
    anatomy
        (6, X, Y, Z) float32 maps that the networks take behind the contrasts, or None.
    affine
        (4, 4) of the network grid, for networks that take the place in the head, or None.
    temperature
        See `scale_temperature`.
    mirrored
        Whether the networks are asked about the mirrored head too, and the mean is taken.
    cascades
        How many cascades of equally many stages the stages are, of whose maps the mean is taken.

    Returns
    -------
    LesionMaps
        On the network grid.

    Raises
    ------
    ScanError
        When the scan lacks a contrast.
    """
    volume = stack_contrasts(images, contrasts)
    if anatomy is not None:
        volume = torch.cat([volume, torch.from_numpy(anatomy)])
    flair, flipped = images["FLAIR"], (volume.flip(1), _mirror(images["FLAIR"]), _mirror(brain))
    places = None
    if affine is not None and any(
        isinstance(one.network, ContextNetwork | JetNetwork) for one in stages
    ):
        places = template_places(brain.shape, template_affine(brain, affine))
    found = []
    length = len(stages) // cascades
    for first in range(0, len(stages), length):
        own = stages[first : first + length]
        found.append(run_stages(own, volume, flair, brain, combination=combination, places=places))
        if mirrored:
            turned = None if places is None else _mirror(places)
            other = run_stages(own, *flipped, combination=combination, places=turned)
            spheres = None if other.spheres is None else _mirror(other.spheres)
            found.append(LesionMaps(_mirror(other.probability), spheres))
    mean = found[0] if len(found) == 1 else _average(found)
    return mean._replace(probability=scale_temperature(mean.probability, temperature))


def _mirror(values: np.ndarray) -> np.ndarray:
    """Turn (X, Y, Z) about: the first axis of the network grid runs from left to right."""
    return values[::-1].copy()


def _average(found: Sequence[LesionMaps]) -> LesionMaps:
    spheres = [maps.spheres for maps in found if maps.spheres is not None]
    return LesionMaps(
        np.mean([maps.probability for maps in found], axis=0),
        np.mean(spheres, axis=0) if spheres else None,
    )


def run_stages(
    stages: Sequence[Stage],
    volume: Tensor,
    flair: np.ndarray,
    brain: np.ndarray,
    *,
    combination: str,
    places: np.ndarray | None = None,
) -> LesionMaps:
    """Do what `run_cascade` does on contrasts that are stacked already, (C, X, Y, Z) float32.

    `places` (X, Y, Z, 3) float32 says where each voxel lies in the template, mm, for networks that
    take it.
    """
    found: list[LesionMaps] = []
    previous = np.zeros(brain.shape, np.float32)
    for stage in stages:
        candidates = stage.candidates.select(flair, brain, previous)
        if not isinstance(stage.network, ContextNetwork | JetNetwork):
            found.append(evaluate(stage.network, volume, candidates))
            previous = combine([maps.probability for maps in found], combination)
        elif places is None:
            raise ValueError("this network takes the place in the head, so it needs an affine")
        elif isinstance(stage.network, ContextNetwork):
            said = evaluate_context(stage.network, volume, brain, places)
            previous = np.where(candidates, weigh(previous, said), np.float32(0))
        else:
            args = (volume.numpy(), flair, brain, candidates, places, previous)
            own = evaluate_jets(stage.network, *args)
            # What follows builds on what was adapted to the scan.
            together = combine([previous, own], combination) if found else own
            previous = adapt_to_scan(stage.network, together)
            found.append(LesionMaps(previous, None))
    spheres = [maps.spheres for maps in found if maps.spheres is not None]
    return LesionMaps(previous, combine(spheres, combination) if spheres else None)


def scale_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities by a temperature [1]_; 0 and 1 stay.

    Parameters
    ----------
    probability
        Float array in [0, 1].
    temperature
        Above 0; above 1 makes a method less sure.

    Returns
    -------
    numpy.ndarray
        Of the same shape and dtype.

    References
    ----------
    .. [1] Guo et al. On calibration of modern neural networks. ICML 2017, PMLR 70:1321-1330.

    Examples
    --------
    >>> scale_temperature(np.array([0.0, 0.5, 0.9]), 2.0).round(3)
    array([0.  , 0.5 , 0.75])
    """
    if temperature == 1:
        return probability  # as it is, to the last bit
    with np.errstate(divide="ignore"):
        return expit(logit(probability) / temperature).astype(probability.dtype)


def combine(found: Sequence[np.ndarray], combination: str) -> np.ndarray:
    """Put the maps of all stages together.

    Parameters
    ----------
    found
        (X, Y, Z) float32 in [0, 1] of each stage, first to last.
    combination
        ``last`` takes the last, ``product`` multiplies them, ``mean`` takes the mean of their
        log-odds, ``vote`` takes the median of each voxel: of an odd number of maps it is above a
        threshold where most of them are.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1].
    """
    if combination == "vote":
        return np.median(np.stack(found), axis=0)
    if combination == "mean" and len(found) > 1:
        with np.errstate(divide="ignore"):
            # Where one says 0, so does the mean.
            odds = [logit(np.minimum(one, np.float32(1 - 1e-7))) for one in found]
        return expit(np.mean(odds, axis=0)).astype(found[0].dtype)
    return functools.reduce(np.multiply, found) if combination == "product" else found[-1]
