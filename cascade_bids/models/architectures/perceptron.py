"""A perceptron on fixed Gaussian-derivative features, which classifies voxel by voxel."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models.architectures.gaussian_derivatives import (
    COUNT,
    WIDTHS_MM,
    image_features,
    smooth,
)
from cascade_bids.models.card import MethodCard
from cascade_bids.models.network import LesionMaps, TrainableNetwork, Volume
from cascade_bids.models.probabilities import adapt_prior, combine
from cascade_bids.models.registry import register
from cascade_bids.models.training_data import Batch, ScanKind, TrainingData, Voxels
from cascade_bids.preprocess.coordinates import (
    ATLAS_MM,
    ATLAS_ORIGIN_MM,
    ATLAS_SHAPE,
    RARE,
    mirror_voxels,
)

DEEP_MM = 20.0
"""Deeper in the brain, depths are cut off."""

EXPERTS = (ScanKind.SYNTHETIC, ScanKind.LABELLED)
"""The kinds of scans that the experts learn from, in their order; with only one of these kinds
there is one expert. All learn from unlabelled scans too."""

AS_SYNTHETIC = 10
"""So many labelled participants have as much weight as all synthetic scans."""

JITTER = 0.5
"""Standard deviation of the noise that is added to features in training, in parts of their own;
chosen by trials, see docs/experiments."""

_NEVER = 1e-4
"""What is added to probabilities, and to their complement, before the logarithm of their odds."""

_BESIDE = 4 + 5
"""Features of the neighbourhood, here and across, and of the coordinates."""

_NEIGHBOURHOOD = 5

_AT_ONCE = 100_000
"""Voxels that go through the network together, which bounds its memory."""


@register("JetNetwork")
class GaussianDerivativePerceptron(TrainableNetwork):
    """A small perceptron on fixed features of a voxel and of what is around it.

    Its features are the Gaussian-derivative features of each contrast (see `gaussian_derivatives`),
    the extremes of the FLAIR nearby, the depth in the brain, the coordinates in the template, and
    an atlas of where lesions lie. A later stage sees the probability of the one before at the voxel
    and around it (auto-context, Tu & Bai, IEEE TPAMI 2010, doi 10.1109/TPAMI.2009.186). So what is
    learned is small, and learned from voxels drawn anywhere in many scans. The layers that are
    learned are there several times, as experts of different kinds of scans (mixture of experts).

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    cascaded
        Whether it takes the probability of a stage before.
    hidden
        Units of each layer that is learned, but the last.
    experts
        1, or 2: of synthetic scans, and of labelled ones.
    share
        Weight of the expert of labelled scans in the mean of both experts' logits, 0 to 1.
    """

    learns_from_synthetic = True
    goes_on = True

    atlas: Tensor
    """`ATLAS_SHAPE`, how often lesions are there, 0 to 1."""
    middle: Tensor
    """(count,) mean of each feature in the training."""
    spread: Tensor
    """(count,) its standard deviation there."""
    prior: Tensor
    """Part of the candidates that were lesion in the training; 0 for unknown."""

    def __init__(
        self,
        channels_in: int,
        cascaded: bool = False,
        hidden: Sequence[int] = (96, 96),
        experts: int = 1,
        share: float = 1 / 6,
    ) -> None:
        super().__init__()
        self.channels_in, self.cascaded, self.share = channels_in, cascaded, share
        self.count = COUNT * (channels_in + cascaded) + _BESIDE + cascaded
        self.register_buffer("atlas", torch.zeros(ATLAS_SHAPE))
        self.register_buffer("middle", torch.zeros(self.count))
        self.register_buffer("spread", torch.ones(self.count))
        self.register_buffer("prior", torch.zeros(()))
        self.experts = nn.ModuleList(_expert(self.count, hidden) for _ in range(experts))

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        known = card.learned_from
        sources = [
            (known["training_scans"], "randomly changed labelled scans"),
            (known["unlabelled_scans"], "unlabelled scans with lesions painted into them"),
            (
                known["healthy_scans"],
                "healthy T1w images with lesions painted into them and synthetic other contrasts",
            ),
            (
                known["heads"] or not (known["training_scans"] or known["healthy_scans"]),
                "synthetic scans made from label maps",
            ),
        ]
        learned = " and on ".join(text for there, text in sources if there)
        return (
            f"a cascade after [6]: two perceptrons, trained on {learned}, classify voxels by fixed "
            "features (Gaussian derivatives of the images at several widths, morphological "
            "openings, the mirrored side of the head, coordinates in the template and an atlas of "
            "lesions); the first proposes candidates, the second also takes the first one's "
            "probabilities; a weighted mean of their log-odds was taken, and how common lesions "
            "are was adapted to each scan by expectation maximisation (Saerens et al., Neural "
            "Computation 2002, doi 10.1162/089976602753284446)"
        )

    @classmethod
    def build(cls, data: TrainingData, **arguments: Any) -> Self:
        """Build a network with an expert for each kind of scans that there is.

        One that starts from a trained network has as many experts as that, whose share does not
        shrink: what it comes from is still known.
        """
        people = data.labelled_participants
        share = round(people / (people + AS_SYNTHETIC), 4)
        experts = sum(kind in EXPERTS for kind in data.kinds)
        start = data.start
        if isinstance(start, GaussianDerivativePerceptron):
            experts, share = len(start.experts), max(share, start.share)
        arguments |= {"cascaded": data.stage > 1, "experts": experts, "share": share}
        network = super().build(data, **arguments)
        if start is not None:
            network.load_state_dict(start.state_dict())
        return network

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, count) to logits (N, experts) of a lesion."""
        # What lies far from all that was learned from says no more than that.
        scaled = ((features - self.middle) / self.spread).clamp(-6, 6)
        return torch.cat([expert(scaled) for expert in self.experts], dim=1)

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Predict the mean of the experts' logits, weighted by `share`; as of the base class."""
        probability = np.zeros(volume.brain.shape, np.float32)
        voxels = np.nonzero(candidates & volume.brain)
        if voxels[0].size:
            features = self.describe_voxels(volume, voxels, previous)
            device = next(self.parameters()).device
            with torch.inference_mode():
                logits = [
                    _mix(self(part.to(device)).float(), self.share).cpu()
                    for part in torch.from_numpy(features).split(_AT_ONCE)
                ]
            probability[voxels] = torch.sigmoid(torch.cat(logits)).numpy()
        return LesionMaps(probability)

    def merge(
        self, previous: np.ndarray, maps: Sequence[LesionMaps], combination: str
    ) -> np.ndarray:
        """Combine with the stages before, and adapt to how common lesions are in the scan."""
        own = maps[-1].probability
        together = own if len(maps) == 1 else combine([previous, own], combination)
        # What follows builds on what was adapted to the scan.
        return adapt_to_scan(self, together)

    def describe_voxels(
        self, volume: Volume, voxels: Sequence[np.ndarray], previous: np.ndarray
    ) -> np.ndarray:
        """Compute the features of voxels.

        Parameters
        ----------
        volume
            The scan.
        voxels
            Three arrays (N,), indices of brain voxels.
        previous
            (X, Y, Z) float32, probability of the stage before; of no effect unless `cascaded`.

        Returns
        -------
        numpy.ndarray
            (N, count) float32.
        """
        brain, coordinates = volume.brain, volume.coordinates
        box = ndimage.find_objects(brain.astype(np.uint8))[0]
        inside = np.pad(brain[box], 1).astype(np.float32)
        origin = np.array([[side.start - 1] for side in box])
        at = tuple(np.array(voxels) - origin)
        across = mirror_voxels(voxels, brain, coordinates) - origin
        maps = [np.pad(image[box], 1) for image in volume.channels.numpy()]
        whole = np.empty((len(at[0]), 0))
        if self.cascaded:
            odds = np.log((previous[box] + _NEVER) / (1 - previous[box] + _NEVER))
            maps.append(np.pad((odds - np.log(_NEVER)).astype(np.float32), 1))
            load_ml = previous[previous > 0.5].sum() / 1000
            whole = np.full((len(at[0]), 1), np.log(load_ml + 1))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            smoothed = pool.map(functools.partial(smooth, inside), WIDTHS_MM)
            norms = dict(zip(WIDTHS_MM, smoothed, strict=True))
            images = list(pool.map(lambda values: image_features(values, norms, at, across), maps))
        flair = np.pad(volume.flair[box], 1)
        highest, lowest = (
            rank(flair, _NEIGHBOURHOOD) for rank in (ndimage.maximum_filter, ndimage.minimum_filter)
        )
        depth = np.minimum(ndimage.distance_transform_edt(inside), DEEP_MM)[at]
        highest_across = ndimage.map_coordinates(highest, across, order=1)
        near = np.stack([highest[at], lowest[at], depth, highest_across], axis=1)
        parts = [*images, near, self._describe_coordinates(coordinates[tuple(voxels)]), whole]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _describe_coordinates(self, coordinates: np.ndarray) -> np.ndarray:
        """Compute distance to the midline, the other coordinates, and the atlas there."""
        index = (coordinates - np.array(ATLAS_ORIGIN_MM)) / ATLAS_MM
        usual = ndimage.map_coordinates(self.atlas.cpu().numpy(), index.T, order=1)
        beside = np.abs(coordinates[:, :1])
        rest = [
            coordinates[:, 1:],
            np.log(usual + RARE)[:, None],
            np.hypot(beside, coordinates[:, 1:2]),
        ]
        return np.concatenate([beside, *rest], axis=1)

    def fit(self, data: TrainingData) -> None:
        """Learn from voxels of scans that a generator draws; as of the base class.

        A network that starts from a trained one keeps its atlas and the scale of its features.
        """
        if data.start is None:
            self.atlas.copy_(data.lesion_atlas())
        kinds = data.kinds
        own = [kind for kind in kinds if kind in EXPERTS]
        learned, checked = data.voxels(self.describe_voxels, own)
        if data.start is None:
            features = torch.from_numpy(learned.features)
            self.middle.copy_(features.mean(0))
            self.spread.copy_(features.std(0).clamp(min=1e-3))
        for kind, expert in zip(EXPERTS, self.experts, strict=False):
            # An expert without scans of its own kind to learn from does not forget them.
            found = len(self.experts) == 1 or (learned.target[:, 2] == kind).any()
            expert.requires_grad_(bool(found))
        # So that the loss does not depend on how many voxels scans have.
        scale = float(learned.target[:, 1].mean())
        batches = _NoisyVoxels(
            learned, checked, self.spread.cpu(), data.batch_size, 100_003 * data.seed
        )
        data.train(self, batches, lambda logits, target: self._loss(logits, target) / scale)
        # Scans that some experts did not see, or whose lesions are not outlined, do not tell it.
        if len(own) >= len(self.experts) and ScanKind.UNLABELLED not in kinds:
            self.prior.fill_(_find_prior(learned.target))

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the weighted cross-entropy of the experts that each voxel is for."""
        lesion = target[:, :1].expand_as(logits)
        losses = F.binary_cross_entropy_with_logits(logits, lesion, reduction="none")
        own = losses * self._choose_experts(target)
        return (own.sum(1) * target[:, 1]).mean()

    def _choose_experts(self, target: Tensor) -> Tensor:
        """Return which experts learn from each voxel (N, experts) bool: one alone from all."""
        kinds = target[:, 2:]
        if len(self.experts) == 1:
            return torch.ones_like(kinds, dtype=torch.bool)
        own = kinds == torch.tensor(EXPERTS, device=kinds.device)
        return own | (kinds == ScanKind.UNLABELLED)


@dataclass(frozen=True)
class _NoisyVoxels:
    """Batches of voxels in random order, with noise on their features."""

    learned: Voxels
    checked: Voxels
    spread: Tensor
    batch_size: int
    seed: int

    def train(self, epoch: int) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(len(self.learned.features), generator=rng).numpy()
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            inputs = torch.from_numpy(self.learned.features[rows])
            noise = torch.randn(inputs.shape, generator=rng)
            yield inputs + JITTER * self.spread * noise, torch.from_numpy(self.learned.target[rows])

    def validate(self) -> Iterator[Batch]:
        yield torch.from_numpy(self.checked.features), torch.from_numpy(self.checked.target)


def _expert(count: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(count, units), nn.SiLU(), nn.Dropout(0.1)]
        count = units
    return nn.Sequential(*layers, nn.Linear(count, 1))


def _mix(logits: Tensor, share: float) -> Tensor:
    """Compute the weighted mean of the experts: (N, 1 or 2) to (N,)."""
    return torch.lerp(logits[:, 0], logits[:, -1], share)


def adapt_to_scan(network: GaussianDerivativePerceptron, probability: np.ndarray) -> np.ndarray:
    """Apply `adapt_prior` to the probabilities (X, Y, Z) of a network's candidates."""
    candidates, prior = probability > 0, float(network.prior)
    adapted = probability.copy()
    if prior:
        adapted[candidates] = adapt_prior(probability[candidates], prior)
    return adapted


def _find_prior(target: np.ndarray) -> float:
    """Compute the part of the candidates that is lesion, on average over the kinds of scans."""
    lesion, stands_for, kinds = target.T
    of_kinds = [kinds == kind for kind in np.unique(kinds)]
    return float(np.mean([np.average(lesion[one], weights=stands_for[one]) for one in of_kinds]))
