"""Windows cover the brain and add up to what the network says."""

import numpy as np
import pytest
import torch
from torch import nn

from cascade_bids.network.segmenters import LesionUNet, SegmentationNetwork
from cascade_bids.network.windows import evaluate_windows

WINDOW = (8, 8, 4)


class OneVoxel(SegmentationNetwork):
    """Sees one voxel at a time; notes the windows that it was shown."""

    def __init__(self, spheres=True):
        super().__init__(2, False, spheres, WINDOW)
        torch.manual_seed(0)
        self.layer = nn.Conv3d(2, 2 if spheres else 1, 1)
        self.seen = []

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
    assert set(network.seen) == {(1, 2, *WINDOW)}


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
