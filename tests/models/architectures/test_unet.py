"""The 3D U-Net keeps the grid, and gain does not matter to it."""

import pytest
import torch

from cascade_bids.models.architectures.unet import UNet

SMALL = (2, 3, 4)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_unet_keeps_the_grid():
    network = UNet(2, SMALL).eval()
    assert network.divisor == 4
    assert network(torch.randn(3, 2, 8, 12, 16)).shape == (3, 1, 8, 12, 16)


def test_unet_refuses_a_grid_that_it_cannot_halve():
    with pytest.raises(RuntimeError, match="size"):
        UNet(1, SMALL)(torch.randn(1, 1, 8, 10, 8))


def test_gain_does_not_matter_to_the_unet():
    network = UNet(1, SMALL).eval()
    volume = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network(50 * volume), network(volume), rtol=0, atol=2e-2)
