"""What every network that finds lesions does: predict candidates, and maybe learn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from torch import Tensor

from cascade_bids.models.probabilities import combine
from cascade_bids.models.registry import Architecture
from cascade_bids.models.training_data import TrainingData

if TYPE_CHECKING:
    from cascade_bids.models.card import MethodCard


@dataclass(frozen=True)
class CandidateRule:
    """Which voxels a stage classifies; its fields are those of ``candidates`` in a card."""

    flair_above_z: float | None = None
    """Brain voxels whose normalised FLAIR is above this, or None."""
    previous_above: float | None = None
    """Voxels to which the stage before gave more than this probability, or None."""

    def to_entry(self) -> dict[str, float]:
        """Return the rule as it stands in a card."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def select(self, flair: np.ndarray, brain: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Return the candidates.

        Parameters
        ----------
        flair
            (X, Y, Z) float32, normalised.
        brain
            (X, Y, Z) bool.
        previous
            (X, Y, Z) float32, the probability after the stages before.

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


def _no_coordinates() -> np.ndarray:
    raise ValueError("this network takes coordinates in the template, so it needs an affine")


@dataclass(frozen=True)
class Volume:
    """A scan as networks see it, on the network grid."""

    channels: Tensor
    """(C, X, Y, Z) float32: normalised contrasts, 0 everywhere where one is missing, then the
    anatomical coordinates of methods that take them."""
    flair: np.ndarray
    """(X, Y, Z) float32, the normalised FLAIR."""
    brain: np.ndarray
    """(X, Y, Z) bool."""
    locate: Callable[[], np.ndarray] = _no_coordinates
    """Returns `coordinates`; called only for a network that takes them."""

    @cached_property
    def coordinates(self) -> np.ndarray:
        """(X, Y, Z, 3) float32, where each voxel lies in the template, mm."""
        return self.locate()

    def mirror(self) -> "Volume":
        """Return the mirrored head: the first axis of the network grid runs from left to right."""
        return Volume(
            self.channels.flip(1),
            mirror(self.flair),
            mirror(self.brain),
            lambda: mirror(self.coordinates),
        )


def mirror(values: np.ndarray) -> np.ndarray:
    """Return an array (X, …) with its first axis reversed."""
    return values[::-1].copy()


class LesionMaps(NamedTuple):
    """What a network predicts for every voxel."""

    probability: np.ndarray
    """(X, Y, Z) float32 in [0, 1], of a lesion; 0 outside the candidates."""
    spheres: np.ndarray | None = None
    """The same of a sphere around a lesion's centre, from networks with a sphere head, or None."""


class LesionNetwork(Architecture, ABC):
    """A network that finds lesions; `registry.register` gives it the name that cards use."""

    published: ClassVar[bool] = False
    """Whether the design is that of a publication, whose authors have weights of their own."""
    dense_layers: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Names in `layers` of each dense layer and its rectifier, the one before the output first;
    none where there are no dense layers that `finetune` could adapt."""
    adapts_whole: ClassVar[bool] = False
    """Whether `adapt` trains all of the network, gently, instead of dense layers."""
    gains_from_bfloat16: ClassVar[bool] = False
    """Whether its convolutions may run in bfloat16, see `device.choose_precision`."""

    channels_in: int
    """Contrasts of the input."""

    @classmethod
    @abstractmethod
    def describe(cls, card: "MethodCard") -> str:
        """Return what a method of such networks is, for the methods text: a noun phrase."""

    @abstractmethod
    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Predict the probability of lesion of each candidate.

        Parameters
        ----------
        volume
            The scan.
        candidates
            (X, Y, Z) bool, the voxels to classify.
        previous
            (X, Y, Z) float32 in [0, 1], the probability after the stages before; 0 in the first.

        Returns
        -------
        LesionMaps
            0 where no candidate is.
        """

    @classmethod
    def can_adapt(cls) -> bool:
        """Return whether `adapt` is possible."""
        return cls.adapts_whole or bool(cls.dense_layers)

    def adapt(self, data: TrainingData) -> int | None:
        """Train the last dense layers anew, or all gently, on few scans of another scanner.

        Parameters
        ----------
        data
            What it learns from.

        Returns
        -------
        int or None
            How many dense layers before the output learned; None where all of the network did.

        Raises
        ------
        UsageError
            When there is nothing to learn from.
        ValueError
            When the network cannot be adapted.
        """
        raise ValueError(f"{self.card_name} can't be adapted")

    def merge(
        self, previous: np.ndarray, maps: Sequence[LesionMaps], combination: str
    ) -> np.ndarray:
        """Return the probability after this stage.

        Parameters
        ----------
        previous
            As of `predict`.
        maps
            Of all stages until this one.
        combination
            See `probabilities.combine`.

        Returns
        -------
        numpy.ndarray
            (X, Y, Z) float32 in [0, 1].
        """
        return combine([one.probability for one in maps], combination)


class TrainableNetwork(LesionNetwork):
    """A network that a recipe can train."""

    learns_from_synthetic: ClassVar[bool] = False
    """Whether it learns from scans that a generator draws, and not from the scans as they are."""
    goes_on: ClassVar[bool] = False
    """Whether a training may start from trained weights, see `TrainingData.start`."""

    @classmethod
    def build(cls, data: TrainingData, **arguments: Any) -> Self:
        """Build an untrained network for what there is to learn from.

        Parameters
        ----------
        data
            What it is to learn from.
        **arguments
            ``channels_in``, and those of the recipe.

        Returns
        -------
        TrainableNetwork
            On the CPU.
        """
        return cls.create(**arguments)

    @abstractmethod
    def fit(self, data: TrainingData) -> None:
        """Train the network in place, and leave it in evaluation mode.

        Parameters
        ----------
        data
            What it learns from.

        Raises
        ------
        UsageError
            When there is nothing to learn from.
        """
