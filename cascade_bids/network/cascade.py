"""The cascade: a list of stages, each asked only about what the one before found suspicious."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_bids.errors import ScanError, StartError
from cascade_bids.network.architectures import PatchClassifier
from cascade_bids.network.dense import evaluate
from cascade_bids.network.weights import WEIGHTS_DIR, load_card, load_network


@dataclass(frozen=True)
class CandidateRule:
    """Which voxels a stage is asked to classify."""

    flair_above_z: float | None = None
    """Brain voxels whose normalised FLAIR is above this, or None."""
    previous_above: float | None = None
    """Voxels to which the stage before gave more than this probability, or None."""

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


@dataclass(frozen=True)
class Stage:
    """One network of a cascade and the rule for its candidates."""

    network: PatchClassifier
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
        When its weights are unreadable or no cascade of patch networks.
    """
    stages = []
    for number, entry in enumerate(load_card(name, folder)["stages"]):
        network = load_network(name, number, device=device, folder=folder)
        if not isinstance(network, PatchClassifier) or "candidates" not in entry:
            raise StartError(f"{name!r} is no method that finds lesions; see cascade-bids --help")
        stages.append(Stage(network, CandidateRule(**entry["candidates"])))
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


def run_cascade(
    stages: Sequence[Stage],
    images: Mapping[str, np.ndarray],
    brain: np.ndarray,
    contrasts: Sequence[str],
    *,
    combination: str = "last",
) -> np.ndarray:
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
        ``last`` or ``product``, see `combine`.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1], 0 outside the candidates.

    Raises
    ------
    ScanError
        When the scan lacks a contrast.
    """
    return run_stages(
        stages, stack_contrasts(images, contrasts), images["FLAIR"], brain, combination=combination
    )


def run_stages(
    stages: Sequence[Stage],
    volume: Tensor,
    flair: np.ndarray,
    brain: np.ndarray,
    *,
    combination: str,
) -> np.ndarray:
    """Do what `run_cascade` does on contrasts that are stacked already, (C, X, Y, Z) float32."""
    probability = np.zeros(brain.shape, dtype=np.float32)
    for number, stage in enumerate(stages):
        candidates = stage.candidates.select(flair, brain, probability)
        found = evaluate(stage.network, volume, candidates)
        probability = found if number == 0 else combine(probability, found, combination)
    return probability


def combine(before: np.ndarray, found: np.ndarray, combination: str) -> np.ndarray:
    """Put the probability of a stage together with that of the stages before it.

    Parameters
    ----------
    before, found
        (X, Y, Z) float32 in [0, 1].
    combination
        ``last`` forgets what was before, ``product`` multiplies.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1].
    """
    return before * found if combination == "product" else found
