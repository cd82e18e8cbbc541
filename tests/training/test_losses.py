"""The loss has the value that its formulae give."""

import math

import pytest
import torch

from cascade_bids.training.losses import segmentation_loss


def logit(p):
    return math.log(p / (1 - p))


def maps(values):
    """(N, 1, X, 1, 1) of a list of lists."""
    return torch.tensor(values)[:, None, :, None, None]


PROBABILITIES = [[0.8, 0.3], [0.6, 0.1]]
TRUTH = [[1.0, 0.0], [1.0, 0.0]]
LOGITS = maps([[logit(p) for p in row] for row in PROBABILITIES])

CROSS_ENTROPY = -(math.log(0.8) + math.log(0.7) + math.log(0.6) + math.log(0.9)) / 4
DICE = 1 - 2 * (0.8 + 0.6) / ((0.8 + 0.3 + 0.6 + 0.1) + 2)
FOCAL = (
    -(
        0.25 * 0.2**2 * math.log(0.8)
        + 0.75 * 0.3**2 * math.log(0.7)
        + 0.25 * 0.4**2 * math.log(0.6)
        + 0.75 * 0.1**2 * math.log(0.9)
    )
    / 4
)


def test_lesions_alone_cost_cross_entropy_and_dice():
    loss = segmentation_loss(LOGITS, maps(TRUTH))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(CROSS_ENTROPY + DICE, abs=1e-5)


def test_spheres_add_their_focal_loss():
    loss = segmentation_loss(torch.cat([LOGITS, LOGITS], 1), torch.cat([maps(TRUTH)] * 2, 1))
    assert loss.item() == pytest.approx(CROSS_ENTROPY + DICE + FOCAL, abs=1e-5)


def test_channels_are_not_mixed():
    """Lesions that are right and spheres that are wrong cost the spheres' loss alone."""
    truth = torch.cat([maps(TRUTH), 1 - maps(TRUTH)], 1)
    sure = 30 * (2 * maps(TRUTH) - 1)
    loss = segmentation_loss(torch.cat([sure, LOGITS], 1), truth).item()
    wrong = (
        -(
            0.75 * 0.8**2 * math.log(0.2)
            + 0.25 * 0.7**2 * math.log(0.3)
            + 0.75 * 0.6**2 * math.log(0.4)
            + 0.25 * 0.9**2 * math.log(0.1)
        )
        / 4
    )
    assert loss == pytest.approx(wrong, abs=1e-5)


def test_a_batch_without_lesions_has_a_loss_that_falls():
    logits = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.zeros(1, 2, 4, 4, 4))
    loss.backward()
    assert loss.isfinite()
    assert (logits.grad > 0).all()


def test_sure_and_wrong_logits_stay_finite():
    logits = torch.full((1, 2, 2, 2, 2), 200.0, requires_grad=True)
    loss = segmentation_loss(logits, torch.zeros(1, 2, 2, 2, 2))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
