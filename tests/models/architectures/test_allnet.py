"""Crops become maps, and windows cover the brain; no plane differs from the others."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cascade_bids.models.architectures.allnet import (
    CPU_WINDOW,
    CropNetwork,
    LesionTiramisu,
    LesionUNet,
    evaluate_windows,
)
from cascade_bids.models.architectures.losses import segmentation_loss
from cascade_bids.models.network import Volume
from cascade_bids.models.registry import find_architecture

CONTRASTS = 2
SMALL = {
    "LesionUNet": {"window": [16, 16, 8], "widths": [3, 4, 5]},
    "LesionTiramisu": {"window": [16, 16, 8], "first": 6, "growth": 3, "layers": [1, 2, 2]},
}
each = pytest.mark.parametrize("name", SMALL)


def make(name, *, anatomy=True, spheres=True, **changes):
    """Build a small network from the JSON of its arguments, as a card does."""
    torch.manual_seed(0)
    arguments = {"channels_in": CONTRASTS, "anatomy": anatomy, "spheres": spheres}
    text = json.dumps(arguments | SMALL[name] | changes)
    return find_architecture(name).create(**json.loads(text)).eval()


def crop(*size, anatomy=True, count=1):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, CONTRASTS + 6 * anatomy, *size, generator=rng)


def shapes(network):
    return {key: value.shape for key, value in network.state_dict().items()}


@each
@pytest.mark.parametrize(
    ("anatomy", "spheres"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_crop_becomes_logits_on_its_grid(name, anatomy, spheres):
    network = make(name, anatomy=anatomy, spheres=spheres)
    assert (network.anatomy, network.spheres, network.window) == (anatomy, spheres, (16, 16, 8))
    for mode in (True, False):
        logits = network.train(mode)(crop(8, 12, 16, anatomy=anatomy, count=2))
        assert logits.shape == (2, 1 + spheres, 8, 12, 16)
        assert logits.dtype == torch.float32


@each
def test_a_switch_changes_one_convolution(name):
    full = shapes(make(name))
    for switch, changed in (("anatomy", {"last.0.weight"}), ("spheres", {"last.4.weight"})):
        other = shapes(make(name, **{switch: False}))
        assert full.keys() == other.keys()
        differ = {key for key in full if full[key] != other[key]}
        assert {key for key in differ if "weight" in key} == changed
        assert differ - changed <= {"last.4.bias"}


@each
@pytest.mark.parametrize("channel", range(6))
def test_anatomy_reaches_the_logits_as_absolute_coordinates(name, channel):
    """A shift of the whole crop counts too; a norm behind the anatomy would take it away."""
    network, x = make(name), crop(16, 16, 8)
    elsewhere = x.clone()
    elsewhere[:, CONTRASTS + channel] += 1
    with torch.inference_mode():
        change = (network(elsewhere) - network(x)).abs().mean(dim=(0, 2, 3, 4))
    assert (change > 1e-3).all()
    assert not any("Norm" in type(layer).__name__ for layer in network.last)


@each
def test_crops_of_a_batch_do_not_mix(name):
    network, x = make(name), crop(16, 16, 8, count=2)
    with torch.inference_mode():
        both, one = network(x), network(x[1:])
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=1e-5)


@each
def test_a_small_network_learns_one_crop(name):
    network, x = make(name, anatomy=False).train(), crop(16, 16, 8, anatomy=False)
    target = torch.zeros(1, 3, 16, 16, 8)
    target[:, 2] = 1
    target[:, 0, 6:9, 6:9, 3:5] = 1
    target[:, 1, 4:11, 4:11, 2:6] = 1
    x[:, 0] += 3 * target[:, 0]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = segmentation_loss(network(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) / 3 < 0.4 * losses[0]


def test_default_windows_can_be_halved():
    for window in ((128, 128, 48), CPU_WINDOW):
        assert LesionUNet(2, True, True, window).window == window


def test_unet_refuses_a_window_that_it_cannot_halve():
    with pytest.raises(ValueError, match=r"divisible by 4, not \(16, 16, 10\)"):
        LesionUNet(2, True, True, (16, 16, 10), widths=(2, 3, 4))


def test_a_stack_has_a_middle():
    with pytest.raises(ValueError, match="odd, not 4"):
        LesionTiramisu(2, True, True, stack=4)


@pytest.mark.parametrize("turn", [1, 2])
def test_tiramisu_treats_planes_alike(turn):
    network, x = make("LesionTiramisu"), crop(7, 10, 13)
    axes = [0, 1, *(2 + (axis + turn) % 3 for axis in range(3))]
    with torch.inference_mode():
        expected = network(x).permute(axes)
        torch.testing.assert_close(network(x.permute(axes)), expected, atol=1e-5, rtol=1e-5)


def test_training_draws_planes_by_the_global_generator(monkeypatch):
    network, x = make("LesionTiramisu"), crop(5, 6, 7)
    planes = [network._plane(x, axis) for axis in range(3)]
    torch.testing.assert_close(network(x), sum(planes) / 3)
    drawn = []
    monkeypatch.setattr(
        LesionTiramisu, "_plane", lambda self, x, axis: drawn.append(axis) or planes[axis]
    )
    network.train()
    for _ in range(2):
        torch.manual_seed(0)
        for _ in range(20):
            network(x)
    assert set(drawn) == {0, 1, 2}
    assert drawn[:20] == drawn[20:]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_sees_its_stack_and_nothing_else(axis):
    network, x = make("LesionTiramisu", anatomy=False), crop(9, 9, 9, anatomy=False)
    other = x.clone()
    other.select(2 + axis, 4).add_(torch.randn(9, 9))
    with torch.inference_mode():
        change = network._plane(other, axis) - network._plane(x, axis)
    seen = change.movedim(2 + axis, 0).flatten(1).abs().amax(1) > 1e-6
    assert seen.nonzero().flatten().tolist() == [3, 4, 5]


@each
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_a_gpu_a_network_learns_from_smaller_crops(name, device):
    data = SimpleNamespace(device=torch.device(device))
    arguments = {"channels_in": 2, "anatomy": True, "spheres": False}
    network = find_architecture(name).build(data, **arguments)
    assert network.window == (CPU_WINDOW if device == "cpu" else (128, 128, 48))
    # The card states it, so that it is the same in use, wherever that is.
    assert find_architecture(name).create(**network.arguments).window == network.window


@each
def test_a_network_learns_from_crops_of_its_window(name):
    trained = []
    data = SimpleNamespace(
        crops=lambda window: ("crops", window), train=lambda *given: trained.append(given)
    )
    network = make(name)
    network.fit(data)
    assert trained == [(network, ("crops", (16, 16, 8)), segmentation_loss)]


SMALL_WINDOW = (8, 8, 4)


class OneVoxel(CropNetwork):
    """Sees one voxel at a time; notes the windows that it was shown."""

    def __init__(self, spheres=True):
        super().__init__(2, False, spheres, SMALL_WINDOW)
        torch.manual_seed(0)
        self.layer = nn.Conv3d(2, 2 if spheres else 1, 1)
        self.seen = []

    @classmethod
    def describe(cls, card):
        return "a stand-in"

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.layer(x)


def ball(shape, radius):
    middle = (np.array(shape) - 1) / 2
    offset = np.moveaxis(np.indices(shape), 0, -1) - middle
    return ((offset / radius) ** 2).sum(-1) <= 1


def image(shape, channels=2):
    return torch.randn(channels, *shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("spheres", [True, False])
@pytest.mark.parametrize("shape", [(20, 17, 15), (8, 8, 4), (5, 6, 3), (5, 20, 9)])
def test_windows_agree_with_one_pass(shape, spheres):
    """Also for an image smaller than the window."""
    network, volume, brain = OneVoxel(spheres).eval(), image(shape), ball(shape, 7.3)
    with torch.inference_mode():
        whole = torch.sigmoid(network.layer(volume[None]))[0].numpy()
    found = evaluate_windows(network, volume, brain)
    assert found.shape == (1 + spheres, *shape)
    assert found.dtype == np.float32
    assert brain.any()
    np.testing.assert_allclose(found[:, brain], whole[:, brain], atol=1e-6)
    assert (found[:, ~brain] == 0).all()
    assert (found[:, brain] > 0).all()
    assert set(network.seen) == {(1, 2, *SMALL_WINDOW)}


@pytest.mark.parametrize("corner", [(0, 0, 0), (39, 39, 39), (20, 1, 39)])
def test_only_the_brain_is_looked_at(corner):
    network, brain = OneVoxel().eval(), np.zeros((40, 40, 40), bool)
    brain[corner] = True
    found = evaluate_windows(network, image(brain.shape), brain)
    assert len(network.seen) == 1
    assert np.argwhere(found[0]).tolist() == [list(corner)]


def test_an_empty_brain_gives_zeros():
    network = OneVoxel().eval()
    found = evaluate_windows(network, image((9, 9, 9)), np.zeros((9, 9, 9), bool))
    assert found.shape == (2, 9, 9, 9)
    assert not found.any()
    assert not network.seen


def test_a_window_as_large_as_the_brain_equals_one_pass():
    """Around a small brain the windows show the image, not zeros."""
    torch.manual_seed(0)
    network = LesionUNet(2, True, True, (16, 16, 8), widths=(3, 4)).eval()
    volume, brain = image((16, 16, 8), channels=8), np.zeros((16, 16, 8), bool)
    brain[5:9, 6:9, 2:4] = True
    with torch.inference_mode():
        whole = torch.sigmoid(network(volume[None]))[0].numpy()
    found = evaluate_windows(network, volume, brain)
    np.testing.assert_allclose(found[:, brain], whole[:, brain], atol=1e-6)


@pytest.mark.parametrize("spheres", [True, False])
def test_a_network_predicts_window_by_window(spheres):
    network, channels, brain = (
        OneVoxel(spheres).eval(),
        image((20, 17, 15)),
        ball((20, 17, 15), 7.3),
    )
    maps = network.predict(Volume(channels, channels[0].numpy(), brain), brain, None)
    expected = evaluate_windows(network, channels, brain)
    np.testing.assert_array_equal(maps.probability, expected[0])
    if spheres:
        np.testing.assert_array_equal(maps.spheres, expected[1])
    else:
        assert maps.spheres is None
