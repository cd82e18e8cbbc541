"""The networks take and give what they say."""

import pytest
import torch

from cascade_bids.network.architectures import ARCHITECTURES, PatchNetwork, UNet

SMALL = (2, 3, 4)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("contrasts", [1, 3])
def test_patches_become_two_logits(contrasts):
    network = PatchNetwork(contrasts, widths=(4, 6), hidden=8).eval()
    assert network(torch.randn(5, contrasts, 11, 11, 11)).shape == (5, 2)


def test_the_published_network_has_the_published_size():
    """Two convolutions of 32 and 64 kernels of 3³, dense layers of 256 and 2 (Valverde 2017)."""
    network = PatchNetwork(2)
    weights = [p.shape for p in network.parameters() if p.ndim == 5]
    assert weights == [(32, 2, 3, 3, 3), (64, 32, 3, 3, 3), (256, 64, 1, 1, 1), (2, 256, 1, 1, 1)]


def test_ten_of_eleven_slices_count():
    network = PatchNetwork(1, widths=(4, 6), hidden=8).eval()
    patch = torch.randn(1, 1, 11, 11, 11)
    logits = network(patch)
    for axis in (2, 3, 4):
        unseen, seen = patch.clone(), patch.clone()
        unseen.select(axis, 10).fill_(7)
        seen.select(axis, 0).fill_(7)
        seen.select(axis, 9).fill_(7)
        assert torch.equal(network(unseen), logits)
        assert not torch.allclose(network(seen), logits)


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


def test_cards_build_networks_by_name():
    assert isinstance(ARCHITECTURES["UNet"](channels_in=1, widths=[2, 3]), UNet)
    assert isinstance(ARCHITECTURES["PatchNetwork"](channels_in=2), PatchNetwork)
