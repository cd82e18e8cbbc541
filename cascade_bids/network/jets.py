"""A network whose first layer is fixed: filters of several widths, on both sides of the head."""

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from cascade_bids.network.place import (
    ATLAS_MM,
    ATLAS_ORIGIN_MM,
    ATLAS_SHAPE,
    RARE,
    mirror_voxels,
)
from cascade_bids.network.prior import adapt_prior

WIDTHS_MM = (0, 1, 2, 4, 8)
"""Standard deviations of the Gaussians; the first stands for the image as it is."""

DERIVED_MM = (1, 2, 4)
"""Widths at which slope and curvature are asked too."""

MIRRORED_MM = (2, 4)
"""Widths at which the other side of the head is asked too: for narrower ones its middle would have
to be known better."""

OPENED_MM = (5, 11)
"""Sides of the cubes that images are opened with: a bright spot that holds no such cube turns as
dark as what is around it."""

_OPENED_AT_MM = 1
"""Width of the image that is opened."""

DEEP_MM = 20.0
"""Deeper in the brain, depths are cut off."""

_NEVER = 1e-4
"""What is added to probabilities, and to their complement, before the logarithm of their odds."""

_JET = len(WIDTHS_MM) + 4 * len(DERIVED_MM) + len(OPENED_MM) + len(MIRRORED_MM)
_BESIDE = 4 + 5
"""Features of the neighbourhood, here and across, and of the place."""
_NEIGHBOURHOOD = 5
_AXES = np.eye(3, dtype=int)
_AT_ONCE = 100_000
"""Voxels that go through the network together, which bounds its memory."""


class JetNetwork(nn.Module):
    """A convolutional network with a fixed first layer, and 1³ convolutions behind it.

    The first layer is a bank of Gaussian filters and their first and second derivatives (the local
    jet), at several widths, of which only what does not depend on the direction is taken: values,
    slope, and the three principal curvatures (structured receptive fields, Jacobsen et al., CVPR
    2016, doi 10.1109/CVPR.2016.286). Further features are the images with bright spots opened away,
    what the other side of the head shows (symmetry features, Geremia et al., NeuroImage 2011, doi
    10.1016/j.neuroimage.2011.03.080), the extremes of the FLAIR nearby, the depth in the brain, and
    the place in the head, with an atlas of where lesions lie. A later stage sees what the one
    before says of the voxel and around it (auto-context, Tu & Bai, IEEE TPAMI 2010, doi
    10.1109/TPAMI.2009.186). So what is learned is small, and learned from voxels drawn anywhere in
    many scans. The layers that are learned are there several times, as experts of different kinds
    of scans; see `evaluate_jets`.

    Parameters
    ----------
    channels_in
        Contrasts of the input.
    cascaded
        Whether it takes the probability of a stage before.
    hidden
        Units of each layer that is learned, but the last.
    experts
        1, or 2: of made-up scans, and of labelled ones.
    share
        Weight of the expert of labelled scans in the mean of both experts' logits, 0 to 1.
    """

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
        self.count = _JET * (channels_in + cascaded) + _BESIDE + cascaded
        self.register_buffer("atlas", torch.zeros(ATLAS_SHAPE))
        self.register_buffer("middle", torch.zeros(self.count))
        self.register_buffer("spread", torch.ones(self.count))
        self.register_buffer("prior", torch.zeros(()))
        self.experts = nn.ModuleList(_expert(self.count, hidden) for _ in range(experts))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, count) to logits (N, experts) of a lesion."""
        # What lies far from all that was learned from says no more than that.
        scaled = ((features - self.middle) / self.spread).clamp(-6, 6)
        return torch.cat([expert(scaled) for expert in self.experts], dim=1)

    def describe(
        self,
        volume: np.ndarray,
        flair: np.ndarray,
        brain: np.ndarray,
        voxels: Sequence[np.ndarray],
        places: np.ndarray,
        previous: np.ndarray | None = None,
    ) -> np.ndarray:
        """Give the features of voxels.

        Parameters
        ----------
        volume
            (C, X, Y, Z) float32, normalised contrasts; 0 where one is missing.
        flair
            (X, Y, Z) float32, the FLAIR among them.
        brain
            (X, Y, Z) bool.
        voxels
            Three arrays (N,), indices of brain voxels.
        places
            (X, Y, Z, 3) float32, where each voxel lies in the template, mm.
        previous
            (X, Y, Z) float32, probability of the stage before, if the network is `cascaded`.

        Returns
        -------
        numpy.ndarray
            (N, count) float32.
        """
        box = ndimage.find_objects(brain.astype(np.uint8))[0]
        inside = np.pad(brain[box], 1).astype(np.float32)
        origin = np.array([[side.start - 1] for side in box])
        at = tuple(np.array(voxels) - origin)
        across = mirror_voxels(voxels, brain, places) - origin
        maps = [np.pad(image[box], 1) for image in volume]
        whole = np.empty((len(at[0]), 0))
        if self.cascaded:
            if previous is None:
                raise ValueError("a later stage needs the probability of the one before")
            odds = np.log((previous[box] + _NEVER) / (1 - previous[box] + _NEVER))
            maps.append(np.pad((odds - np.log(_NEVER)).astype(np.float32), 1))
            load_ml = previous[previous > 0.5].sum() / 1000
            whole = np.full((len(at[0]), 1), np.log(load_ml + 1))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            smooth = functools.partial(_smooth, inside)
            norms = dict(zip(WIDTHS_MM, pool.map(smooth, WIDTHS_MM), strict=True))
            jets = list(pool.map(lambda values: _jet(values, norms, at, across), maps))
        highest, lowest = (
            rank(np.pad(flair[box], 1), _NEIGHBOURHOOD)
            for rank in (ndimage.maximum_filter, ndimage.minimum_filter)
        )
        depth = np.minimum(ndimage.distance_transform_edt(inside), DEEP_MM)[at]
        highest_across = ndimage.map_coordinates(highest, across, order=1)
        near = np.stack([highest[at], lowest[at], depth, highest_across], axis=1)
        parts = [*jets, near, self._describe_places(places[tuple(voxels)]), whole]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _describe_places(self, places: np.ndarray) -> np.ndarray:
        """Give distance to the midline, the other coordinates, and how usual lesions are there."""
        index = (places - np.array(ATLAS_ORIGIN_MM)) / ATLAS_MM
        usual = ndimage.map_coordinates(self.atlas.cpu().numpy(), index.T, order=1)
        beside = np.abs(places[:, :1])
        rest = [places[:, 1:], np.log(usual + RARE)[:, None], np.hypot(beside, places[:, 1:2])]
        return np.concatenate([beside, *rest], axis=1)


def _expert(count: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(count, units), nn.SiLU(), nn.Dropout(0.1)]
        count = units
    return nn.Sequential(*layers, nn.Linear(count, 1))


def _smooth(values: np.ndarray, width: float) -> np.ndarray:
    return ndimage.gaussian_filter(values, width, mode="constant", truncate=3.0)


def _jet(
    values: np.ndarray,
    norms: Mapping[int, np.ndarray],
    at: tuple[np.ndarray, ...],
    across: np.ndarray,
) -> np.ndarray:
    """Give the features of one image at voxels (N, `_JET`): jet, openings, other side.

    `norms` is the brain, smoothed with each width: what lies outside of it has no part in the jet,
    and is 0 to openings. `across` is (3, N), where the other side of the head lies.
    """
    if not values.any():
        return np.zeros((len(at[0]), _JET), np.float32)
    found, opened, mirrored = [], [], []
    for width in WIDTHS_MM:
        # The image is 0 outside the brain, as its smoothed mask is.
        smooth = values if not width else _smooth(values, width) / np.maximum(norms[width], 0.05)
        found.append(smooth[at])
        if width in DERIVED_MM:
            found += list(_derive(smooth, width, at).T)
        if width == _OPENED_AT_MM:
            opened = [ndimage.grey_opening(smooth, (side,) * 3)[at] for side in OPENED_MM]
        if width in MIRRORED_MM:
            mirrored.append(ndimage.map_coordinates(smooth, across, order=1))
    return np.stack([*found, *opened, *mirrored], axis=1)


def _derive(smooth: np.ndarray, width: float, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Give slope and principal curvatures (N, 4), in units of the width (Lindeberg, IJCV 1998)."""

    def beside(step: np.ndarray) -> np.ndarray:
        x, y, z = (index + int(part) for index, part in zip(at, step, strict=True))
        return smooth[x, y, z]

    middle = smooth[at]
    slopes, curvature = [], np.empty((len(middle), 3, 3), np.float32)
    for i, along in enumerate(_AXES):
        after, before = beside(along), beside(-along)
        slopes.append((after - before) / 2)
        curvature[:, i, i] = after + before - 2 * middle
        for j, across in enumerate(_AXES[:i]):
            mixed = beside(along + across) + beside(-along - across)
            mixed -= beside(along - across) + beside(across - along)
            curvature[:, i, j] = curvature[:, j, i] = mixed / 4
    slope = width * np.linalg.norm(slopes, axis=0)
    return np.column_stack([slope, width**2 * np.linalg.eigvalsh(curvature)])


def evaluate_jets(
    network: JetNetwork,
    volume: np.ndarray,
    flair: np.ndarray,
    brain: np.ndarray,
    candidates: np.ndarray,
    places: np.ndarray,
    previous: np.ndarray,
) -> np.ndarray:
    """Ask a network about the candidates: the mean of its experts' logits, weighted by its share.

    Parameters
    ----------
    network
        In evaluation mode.
    volume, flair, brain, places, previous
        As of `JetNetwork.describe`.
    candidates
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1]; 0 where no candidate is.
    """
    probability = np.zeros(brain.shape, np.float32)
    voxels = np.nonzero(candidates & brain)
    if voxels[0].size:
        features = network.describe(volume, flair, brain, voxels, places, previous)
        device = next(network.parameters()).device
        with torch.inference_mode():
            logits = [
                _mix(network(part.to(device)).float(), network.share).cpu()
                for part in torch.from_numpy(features).split(_AT_ONCE)
            ]
        probability[voxels] = torch.sigmoid(torch.cat(logits)).numpy()
    return probability


def _mix(logits: Tensor, share: float) -> Tensor:
    """Take the weighted mean of the experts: (N, 1 or 2) to (N,)."""
    return torch.lerp(logits[:, 0], logits[:, -1], share)


def adapt_to_scan(network: JetNetwork, probability: np.ndarray) -> np.ndarray:
    """Apply `adapt_prior` to the probabilities (X, Y, Z) of a network's candidates."""
    asked, prior = probability > 0, float(network.prior)
    adapted = probability.copy()
    if prior:
        adapted[asked] = adapt_prior(probability[asked], prior)
    return adapted
