"""One pass over a volume gives what thousands of patches give; the last layers can be adapted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cascade_bids.models.architectures import patch_classifier
from cascade_bids.models.architectures.msseg2016 import Msseg2016Network
from cascade_bids.models.architectures.nicmslesions import NicmslesionsNetwork
from cascade_bids.models.architectures.patch_classifier import (
    PatchReader,
    dilate,
    evaluate_dense,
    evaluate_patches,
)
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.network import Volume

sizes = st.integers(1, 16)
few = settings(max_examples=25, deadline=None, derandomize=True)


def make_network(contrasts, seed=0):
    """A small network whose norms have seen data, and whose probabilities are neither 0 nor 1."""
    torch.manual_seed(seed)
    network = Valverde2017Network(contrasts, widths=(4, 6), hidden=8)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight)  # the default is too flat to tell voxels apart
    return network.eval()


def make_case(shape, contrasts, density, seed):
    rng = np.random.default_rng(seed)
    volume = torch.from_numpy(rng.normal(size=(contrasts, *shape)).astype(np.float32))
    return volume, rng.random(shape) < density


@few
@given(
    shape=st.tuples(sizes, sizes, sizes),
    contrasts=st.integers(1, 3),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    tile=st.sampled_from([3, 5, 8, 64]),
    seed=st.integers(0, 1000),
)
def test_dense_equals_patch_by_patch(shape, contrasts, density, tile, seed):
    network = make_network(contrasts, seed)
    volume, candidates = make_case(shape, contrasts, density, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patch_classifier, "TILE", tile)
        patch.setattr(patch_classifier, "PATCHES_AT_ONCE", 100)
        at_once = evaluate_dense(network, volume, candidates)
        one_by_one = evaluate_patches(network, volume, candidates)
    assert at_once.dtype == one_by_one.dtype == np.float32
    assert at_once.shape == shape
    np.testing.assert_allclose(at_once, one_by_one, rtol=0, atol=1e-4)
    assert not at_once[~candidates].any()
    assert (at_once[candidates] > 0).all()


def test_the_test_networks_tell_voxels_apart():
    """Agreement would mean little if every voxel had the same value."""
    volume, candidates = make_case((12, 12, 12), 2, 1.0, 0)
    for seed in range(5):
        found = evaluate_dense(make_network(2, seed), volume, candidates)
        assert found.std() > 0.02
        assert 0.01 < np.median(found) < 0.99


def test_the_published_network_agrees_too():
    torch.manual_seed(1)
    network = Valverde2017Network(2).eval()
    volume, candidates = make_case((14, 13, 12), 2, 0.2, 1)
    np.testing.assert_allclose(
        evaluate_dense(network, volume, candidates),
        evaluate_patches(network, volume, candidates),
        rtol=0,
        atol=1e-4,
    )


def test_a_voxel_depends_on_its_receptive_field_only():
    network = make_network(1)
    volume, _ = make_case((25, 25, 25), 1, 0, 3)
    candidates = np.zeros((25, 25, 25), bool)
    candidates[12, 12, 12] = True
    value = evaluate_dense(network, volume, candidates)[12, 12, 12]

    outside = torch.full_like(volume, 1e6)
    field = (slice(None), *[slice(12 - 5, 12 + 5)] * 3)
    outside[field] = volume[field]
    assert evaluate_dense(network, outside, candidates)[12, 12, 12] == value

    for axis in (1, 2, 3):
        for edge in (7, 16):
            inside = volume.clone()
            inside.select(axis, edge).mul_(-5)
            assert evaluate_dense(network, inside, candidates)[12, 12, 12] != value


@few
@given(shape=st.tuples(sizes, sizes, sizes), tile=st.integers(1, 7), seed=st.integers(0, 99))
def test_tiles_cover_every_candidate_once(shape, tile, seed):
    _, candidates = make_case(shape, 1, 0.05, seed)
    covered = np.zeros(shape, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patch_classifier, "TILE", tile)
        for box in patch_classifier._tiles(candidates):
            assert max(s.stop - s.start for s in box) <= tile
            assert candidates[box].any()
            covered[box] += 1
    assert covered.max() <= 1
    assert (covered[candidates] == 1).all()


@few
@given(shape=st.tuples(sizes, sizes, sizes), size=st.sampled_from([1, 3, 5]), data=st.data())
def test_reader_cuts_cubes_around_voxels(shape, size, data):
    volume, _ = make_case(shape, 2, 0, 0)
    voxels = [[data.draw(st.integers(0, n - 1)) for n in shape] for _ in range(4)]
    patches = PatchReader(volume, size).read(torch.tensor(voxels))
    padded = np.pad(volume.numpy(), [(0, 0), *[(size // 2,) * 2] * 3])
    for patch, (x, y, z) in zip(patches.numpy(), voxels, strict=True):
        cube = padded[:, x : x + size, y : y + size, z : z + size]
        np.testing.assert_array_equal(patch, cube)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv3d(1, 2, 3)], 3),
        ([nn.Conv3d(1, 2, 2, bias=False), nn.MaxPool3d(3), nn.Conv3d(2, 1, 2)], 7),
        ([nn.MaxPool3d(2), nn.MaxPool3d(2), nn.Conv3d(1, 2, 2)], 8),
        ([nn.Conv3d(1, 2, 3), nn.MaxPool3d(3, stride=2), nn.Conv3d(2, 2, 3), nn.ReLU()], 9),
        ([nn.Conv3d(1, 2, 5), nn.MaxPool3d((2, 2, 2)), nn.Conv3d(2, 3, 4), nn.MaxPool3d(2)], 14),
    ],
)
def test_strides_become_dilations(layers, expected):
    strided = nn.Sequential(*layers).eval()
    dilated, field = dilate(strided)
    assert field == expected
    volume = torch.randn(1, 1, *[field + 5] * 3)
    with torch.inference_mode():
        at_once = dilated(volume)
        assert at_once.shape[2:] == (6, 6, 6)
        for x, y, z in [(0, 0, 0), (5, 2, 1), (1, 4, 3), (5, 5, 5)]:
            patch = volume[:, :, x : x + field, y : y + field, z : z + field]
            torch.testing.assert_close(strided(patch)[0, :, 0, 0, 0], at_once[0, :, x, y, z])


def test_dilated_layers_share_their_weights():
    network = make_network(1)
    before = [p for p in network.parameters() if p.ndim == 5]
    after = [p for p in dilate(network.layers)[0].parameters() if p.ndim == 5]
    assert len(before) == 4
    assert all(a is b for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(1, 1, 3, padding=1),
        nn.Conv3d(1, 1, 3, padding="same"),
        nn.Conv3d(1, 1, 3, stride=2),
        nn.Conv3d(1, 1, 3, dilation=2),
        nn.Conv3d(2, 2, 3, groups=2),
        nn.Conv3d(1, 1, (3, 3, 1)),
        nn.MaxPool3d(3, padding=1),
        nn.AvgPool3d(2),
        nn.InstanceNorm3d(1),
        nn.Flatten(),
    ],
    ids=str,
)
def test_what_has_no_dense_counterpart_is_refused(layer):
    with pytest.raises(TypeError, match="no dense counterpart"):
        dilate(nn.Sequential(layer))


@pytest.mark.parametrize(
    ("architecture", "same_as"),
    [
        (Valverde2017Network, evaluate_dense),
        (NicmslesionsNetwork, evaluate_patches),
        (Msseg2016Network, evaluate_patches),
    ],
)
def test_each_network_is_evaluated_in_the_way_that_is_right_for_it(architecture, same_as):
    torch.manual_seed(0)
    network = architecture(channels_in=2).eval()
    volume, candidates = make_case((14, 13, 12), 2, 0.1, 0)
    scan = Volume(volume, volume[0].numpy(), np.ones_like(candidates))
    found, spheres = network.predict(scan, candidates, np.zeros(candidates.shape, np.float32))
    assert spheres is None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, same_as(network, volume, candidates))
    assert not found[~candidates].any()
    assert np.ptp(found[candidates]) > 0


@pytest.mark.parametrize("border", [0, 2, 5, 9])
def test_a_stored_border_changes_no_patch(border):
    volume = torch.randn(2, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    voxels = torch.tensor([[0, 0, 0], [8, 7, 6], [4, 3, 2]])
    expected = PatchReader(volume, 11).read(voxels)
    padded = torch.nn.functional.pad(volume, [border] * 6)
    reader = PatchReader(padded, 11, border=border)
    assert torch.equal(reader.read(voxels), expected)
    if border >= 5:  # nothing is copied, so that a volume may stay on disk
        padded[:] = 0
        assert not reader.read(voxels).any()


class PatchData:
    """What a patch classifier learns from; keeps what it is asked for, and trains nothing."""

    def __init__(self, lesion_voxels):
        self.lesion_voxels = lesion_voxels

    def patches(self, size):
        self.size = size
        return SimpleNamespace(lesion_voxels=self.lesion_voxels)

    def train(self, network, batches, loss):
        self.network, self.batches, self.loss = network.train(), batches, loss


def test_a_network_learns_from_patches_of_its_size_by_cross_entropy():
    data, network = PatchData(10), Msseg2016Network(2)
    network.fit(data)
    assert data.network is network
    assert data.size == 15
    assert data.loss is nn.functional.cross_entropy


ALL_DENSE = {"d1", "prelu_d1", "d2", "prelu_d2", "d3", "prelu_d3", "out"}


@pytest.mark.parametrize(
    ("network", "lesion_voxels", "layers", "learning", "without_dropout"),
    [
        (NicmslesionsNetwork, 4_999, 1, {"d3", "prelu_d3", "out"}, {"dr_d1", "dr_d2"}),
        (NicmslesionsNetwork, 5_000, 2, ALL_DENSE - {"d1", "prelu_d1"}, {"dr_d1"}),
        (NicmslesionsNetwork, 50_000, 3, ALL_DENSE, set()),
        (Valverde2017Network, 10, 1, {"9", "12"}, set()),
        (Valverde2017Network, 50_000, 1, {"9", "12"}, set()),
        (Msseg2016Network, 10, 1, {"8", "10"}, set()),
    ],
)
def test_only_the_last_layers_are_adapted_and_norms_stand_still(
    network, lesion_voxels, layers, learning, without_dropout
):
    data, network = PatchData(lesion_voxels), network(channels_in=2)
    assert network.adapt(data) == layers
    assert data.size == network.patch_size
    assert data.loss is nn.functional.cross_entropy
    found = {name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad}
    assert found == learning
    patches = torch.zeros(2, 2, *[network.patch_size] * 3)
    assert data.network(patches).shape == (2, 2)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    assert bool(norms) == (type(network) is not Msseg2016Network)
    assert not any(norm.training for norm in norms)
    # The dropout in front of the first layer that learns belongs to its training.
    dropouts = {
        name: module.training
        for name, module in network.layers.named_children()
        if isinstance(module, nn.Dropout | nn.Dropout3d)
    }
    assert {name for name, training in dropouts.items() if not training} == without_dropout
    assert any(dropouts.values())


def test_the_adapted_layers_change_and_the_others_stay():
    torch.manual_seed(0)
    network = Valverde2017Network(1, widths=(2, 3), hidden=4)
    before = {key: value.clone() for key, value in network.state_dict().items()}

    class Learning(PatchData):
        def train(self, network, batches, loss):
            optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
            network.train()
            for _ in range(3):
                loss(network(torch.randn(4, 1, 11, 11, 11)), torch.tensor([0, 1, 0, 1])).backward()
                optimiser.step()
            network.eval()

    network.adapt(Learning(10))
    changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert changed == {f"layers.{layer}.{part}" for layer in (9, 12) for part in ("weight", "bias")}
    assert not network.training
