"""The network of Valverde et al. 2017 takes patches, as published."""

import pytest
import torch

from cascade_bids.models.architectures.valverde2017 import Valverde2017Network


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("contrasts", [1, 3])
def test_patches_become_two_logits(contrasts):
    network = Valverde2017Network(contrasts, widths=(4, 6), hidden=8).eval()
    assert network(torch.randn(5, contrasts, 11, 11, 11)).shape == (5, 2)


def test_the_published_network_has_the_published_size():
    """Two convolutions of 32 and 64 kernels of 3³, dense layers of 256 and 2 (Valverde 2017)."""
    network = Valverde2017Network(2)
    weights = [p.shape for p in network.parameters() if p.ndim == 5]
    assert weights == [(32, 2, 3, 3, 3), (64, 32, 3, 3, 3), (256, 64, 1, 1, 1), (2, 256, 1, 1, 1)]


def test_ten_of_eleven_slices_count():
    network = Valverde2017Network(1, widths=(4, 6), hidden=8).eval()
    patch = torch.randn(1, 1, 11, 11, 11)
    logits = network(patch)
    for axis in (2, 3, 4):
        unseen, seen = patch.clone(), patch.clone()
        unseen.select(axis, 10).fill_(7)
        seen.select(axis, 0).fill_(7)
        seen.select(axis, 9).fill_(7)
        assert torch.equal(network(unseen), logits)
        assert not torch.allclose(network(seen), logits)
