"""Networks that classify the voxel in the middle of a patch.

A patch network without padding equals a fully convolutional one: leave out the strides of its
pooling layers and dilate all later layers by them, and one pass gives every voxel's value (Sermanet
et al., OverFeat, ICLR 2014, section 3.3; Giusti et al., ICIP 2013, doi 10.1109/ICIP.2013.6738831).
"""

import functools
import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models.network import LesionMaps, TrainableNetwork, Volume
from cascade_bids.models.training_data import TrainingData

FEW_PATCHES, MANY_PATCHES = 10_000, 100_000
"""Below the first number of patches one dense layer is adapted, below the second two."""

TILE = 32
"""Voxels along each side of a tile. Small ones fit the cache of a core and leave out more of what
holds no candidate; larger ones compute fewer voxels twice."""

PATCHES_AT_ONCE = 512
"""Patches in a batch; bounds the memory of patch-by-patch evaluation (under 1 GB)."""


class PatchClassifier(TrainableNetwork):
    """A network that tells from the patch around a voxel whether it lies in a lesion."""

    gains_from_bfloat16 = True

    patch_size: ClassVar[int]
    """Voxels along each side of the patch; odd."""

    layers: nn.Sequential

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, C, S, S, S) to logits (N, 2): no lesion, lesion."""
        return self.layers(patches).flatten(1)

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        """Predict patch by patch; as of the base class."""
        return LesionMaps(evaluate_patches(self, volume.channels, candidates))

    def fit(self, data: TrainingData) -> None:
        """Learn from balanced patches by cross-entropy; as of the base class."""
        data.train(self, data.patches(self.patch_size), F.cross_entropy)

    def adapt(self, data: TrainingData) -> int:
        """Train as many dense layers as the patches can teach; as of the base class."""
        batches = data.patches(self.patch_size)
        layers = min(count_layers(2 * batches.lesion_voxels), len(self.dense_layers))
        data.train(_Adapting(self, layers), batches, F.cross_entropy)
        return layers


class _Adapting(nn.Module):
    """A patch network of which only the last layers learn.

    The frozen layers stay in evaluation mode: their batch norms keep the statistics that they were
    trained with, which a few patches of one scan would spoil.
    """

    def __init__(self, network: PatchClassifier, layers: int) -> None:
        super().__init__()
        self.network = network
        network.requires_grad_(False)
        names = [name for name, _ in network.layers.named_children()]
        learning = {name for group in network.dense_layers[:layers] for name in group}
        learning.add(names[-1])
        first = min(names.index(name) for name in learning)
        # The dropout in front of the first layer that learns belongs to its training.
        if isinstance(network.layers[first - 1], nn.Dropout | nn.Dropout3d):
            first -= 1
        self._frozen = list(network.layers)[:first]
        for module in list(network.layers)[first:]:
            module.requires_grad_(True)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, C, S, S, S) to logits (N, 2)."""
        return self.network(patches)

    def train(self, mode: bool = True) -> "_Adapting":
        """Switch only the learning layers to training mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def evaluate_dense(network: PatchClassifier, volume: Tensor, candidates: np.ndarray) -> np.ndarray:
    """Predict the lesion probability of each candidate, tile by tile.

    Parameters
    ----------
    network
        In evaluation mode.
    volume
        (C, X, Y, Z) float32, normalised contrasts; taken as 0 beyond its border.
    candidates
        (X, Y, Z) bool.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1], 0 where no candidate is.
    """
    device = next(network.parameters()).device
    layers, field = dilate(network.layers)
    seeing = 1 + max((n for n, one in enumerate(layers) if not _is_voxelwise(one)), default=-1)
    before = network.patch_size // 2
    padded = F.pad(volume, [before, field - 1 - before] * 3)
    probability = np.zeros(candidates.shape, dtype=np.float32)
    with torch.inference_mode():
        for tile in _tiles(candidates):
            window = tuple(slice(s.start, s.stop + field - 1) for s in tile)
            features = layers[:seeing](padded[(slice(None), *window)][None].to(device))
            # The layers that see one voxel each see the candidates only.
            wanted = torch.from_numpy(candidates[tile]).to(device)
            logits = layers[seeing:](features[:, :, wanted][..., None, None]).float()
            found = torch.softmax(logits, dim=1)[0, 1].flatten()
            probability[tile][candidates[tile]] = found.cpu().numpy()
    return probability


def evaluate_patches(
    network: PatchClassifier, volume: Tensor, candidates: np.ndarray
) -> np.ndarray:
    """Predict as `evaluate_dense` does, one patch a candidate: slow, and right for any network."""
    device = next(network.parameters()).device
    voxels = torch.from_numpy(np.argwhere(candidates))
    patches = PatchReader(volume, network.patch_size)
    found = []
    with torch.inference_mode():
        for chunk in voxels.split(PATCHES_AT_ONCE):
            logits = network(patches.read(chunk).to(device)).float()
            found.append(torch.softmax(logits, dim=1)[:, 1].cpu())
    probability = np.zeros(candidates.shape, dtype=np.float32)
    if found:
        probability[candidates] = torch.cat(found).numpy()
    return probability


class PatchReader:
    """Cut cubes around voxels out of one volume, which is 0 beyond its border.

    Parameters
    ----------
    volume
        (C, X, Y, Z) float32.
    size
        Voxels along each side; odd.
    border
        Zeros that the volume already has around it; with half of `size` or more it isn't copied.
        Voxels are counted from behind them.
    """

    def __init__(self, volume: Tensor, size: int, *, border: int = 0) -> None:
        spare = border - size // 2
        if spare < 0:
            volume, spare = F.pad(volume, [-spare] * 6), 0
        windows = volume
        for axis in (1, 2, 3):
            windows = windows.narrow(axis, spare, volume.shape[axis] - 2 * spare)
        for axis in (1, 2, 3):
            windows = windows.unfold(axis, size, 1)
        self._windows = windows

    def read(self, voxels: Tensor) -> Tensor:
        """Map voxels (N, 3) int64 to the patches (N, C, size, size, size) around them."""
        x, y, z = voxels.unbind(1)
        return self._windows[:, x, y, z].transpose(0, 1)


def dilate(layers: nn.Sequential) -> tuple[nn.Sequential, int]:
    """Turn strides into dilations; the weights are shared with the given layers.

    Parameters
    ----------
    layers
        Unpadded cubic convolutions and poolings, and layers that work voxel by voxel.

    Returns
    -------
    tuple
        The fully convolutional network, and the voxels that it sees along each axis.

    Raises
    ------
    TypeError
        When a layer pads or is of a kind that has no dense counterpart.
    """
    dense: list[nn.Module] = []
    dilation, field = 1, 1
    for layer in layers:
        if isinstance(layer, nn.Conv3d) and _is_plain(layer):
            size = layer.kernel_size[0]
            copy = nn.Conv3d(
                layer.in_channels, layer.out_channels, size, dilation=dilation, device="meta"
            )
            copy.weight, copy.bias = layer.weight, layer.bias
            dense.append(copy)
            field += (size - 1) * dilation
        elif isinstance(layer, nn.MaxPool3d) and layer.padding == 0:
            size, stride = _cube(layer.kernel_size), _cube(layer.stride)
            dense.append(_DenseMaxPool(size, dilation))
            field += (size - 1) * dilation
            dilation *= stride
        elif isinstance(layer, nn.BatchNorm3d | nn.ReLU | nn.Dropout3d):
            dense.append(layer)
        else:
            raise TypeError(f"{layer} has no dense counterpart")
    return nn.Sequential(*dense).train(layers.training), field


class _DenseMaxPool(nn.Module):
    """A dilated max pooling without stride, one axis after the other.

    `torch.nn.MaxPool3d` gives the same and takes three times as long, since it also finds indices.
    """

    def __init__(self, size: int, dilation: int) -> None:
        super().__init__()
        self.size, self.dilation = size, dilation

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3, 4):
            length = x.shape[axis] - (self.size - 1) * self.dilation
            shifted = [x.narrow(axis, n * self.dilation, length) for n in range(self.size)]
            x = functools.reduce(torch.maximum, shifted)
        return x


def _is_voxelwise(layer: nn.Module) -> bool:
    """Return whether a layer sees one voxel only, for each voxel of its output."""
    if isinstance(layer, nn.Conv3d):
        return layer.kernel_size == (1, 1, 1)
    return not isinstance(layer, _DenseMaxPool)


def _is_plain(layer: nn.Conv3d) -> bool:
    """Return whether a convolution is cubic and neither padded, strided, dilated nor grouped."""
    return (
        len(set(layer.kernel_size)) == 1
        and layer.padding == (0, 0, 0)
        and layer.stride == layer.dilation == (1, 1, 1)
        and layer.groups == 1
    )


def _cube(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def _tiles(candidates: np.ndarray) -> Iterator[tuple[slice, slice, slice]]:
    """Cover all candidates with boxes of at most `TILE` voxels a side, cut to fit them."""
    starts = (range(0, size, TILE) for size in candidates.shape)
    for corner in itertools.product(*starts):
        block = candidates[tuple(slice(a, a + TILE) for a in corner)]
        if block.any():
            spans = [np.flatnonzero(block.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
            x, y, z = (
                slice(a + int(s[0]), a + int(s[-1]) + 1) for a, s in zip(corner, spans, strict=True)
            )
            yield x, y, z


def count_layers(patches: int) -> int:
    """Return how many dense layers so many patches can teach.

    Examples
    --------
    >>> [count_layers(patches) for patches in (900, 20_000, 400_000)]
    [1, 2, 3]
    """
    return 1 + (patches >= FEW_PATCHES) + (patches >= MANY_PATCHES)
