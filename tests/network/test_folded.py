"""Folding loses nothing, and the network keeps the grid."""

import pytest
import torch

from cascade_bids.network.folded import FoldedUNet, fold, unfold


def test_folding_is_undone_and_keeps_neighbours_together():
    x = torch.randn(2, 3, 4, 6, 8)
    folded = fold(x)
    assert folded.shape == (2, 24, 2, 3, 4)
    assert torch.equal(unfold(folded), x)
    cube = x[0, 1, 2:4, 0:2, 4:6]
    assert torch.equal(folded[0, 8:16, 1, 0, 2], cube.flatten())


@pytest.mark.parametrize("spheres", [False, True])
@pytest.mark.parametrize("anatomy", [False, True])
def test_logits_lie_on_the_grid_of_the_crop(spheres, anatomy):
    network = FoldedUNet(2, anatomy=anatomy, spheres=spheres, window=(16, 16, 24), widths=(4, 8, 8))
    x = torch.randn(1, 8 if anatomy else 2, 16, 16, 24)
    assert network(x).shape == (1, 2 if spheres else 1, 16, 16, 24)


def test_a_window_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="must be divisible by 8"):
        FoldedUNet(2, anatomy=False, spheres=False, window=(16, 20, 24), widths=(4, 8, 8))
