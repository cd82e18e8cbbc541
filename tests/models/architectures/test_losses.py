"""The losses have the values that their formulae give."""

import math

import pytest
import torch

from cascade_bids.models.architectures.losses import (
    dice_cross_entropy,
    masked_dice_cross_entropy,
    segmentation_loss,
)


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


def target(lesions, spheres=None, counted=None):
    """Lesions, spheres, and what counts, all of it by default."""
    spheres = torch.zeros_like(lesions) if spheres is None else spheres
    counted = torch.ones_like(lesions) if counted is None else counted
    return torch.cat([lesions, spheres, counted], 1)


def test_lesions_alone_cost_cross_entropy_and_dice():
    loss = segmentation_loss(LOGITS, target(maps(TRUTH)))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(CROSS_ENTROPY + DICE, abs=1e-5)


def test_spheres_add_their_focal_loss():
    loss = segmentation_loss(torch.cat([LOGITS, LOGITS], 1), target(*[maps(TRUTH)] * 2))
    assert loss.item() == pytest.approx(CROSS_ENTROPY + DICE + FOCAL, abs=1e-5)


def test_channels_are_not_mixed():
    """Lesions that are right and spheres that are wrong cost the spheres' loss alone."""
    truth = target(maps(TRUTH), 1 - maps(TRUTH))
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
    loss = segmentation_loss(logits, target(torch.zeros(1, 1, 4, 4, 4)))
    loss.backward()
    assert loss.isfinite()
    assert (logits.grad > 0).all()


def test_sure_and_wrong_logits_stay_finite():
    logits = torch.full((1, 2, 2, 2, 2), 200.0, requires_grad=True)
    loss = segmentation_loss(logits, target(torch.zeros(1, 1, 2, 2, 2)))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_voxels_that_do_not_count_change_nothing():
    """As if the crops ended before them; the terms keep their weights."""
    wrong = maps([[4.0, -3.0], [-2.0, 5.0]])
    logits = torch.cat([torch.cat([LOGITS, wrong], 2)] * 2, 1)
    lesions = torch.cat([maps(TRUTH), maps([[0.0, 1.0], [1.0, 0.0]])], 2)
    counted = torch.cat([torch.ones_like(LOGITS), torch.zeros_like(wrong)], 2)
    loss = segmentation_loss(logits, target(lesions, lesions, counted)).item()
    assert loss == pytest.approx(CROSS_ENTROPY + DICE + FOCAL, abs=1e-5)
    nothing = target(lesions, lesions, torch.zeros_like(counted))
    assert segmentation_loss(logits[:, :1], nothing).isfinite()


def test_of_brains_the_mean_of_cross_entropy_and_dice_is_taken():
    expected = 0.5 * CROSS_ENTROPY + 0.5 * (1 - 2 * (0.8 + 0.6) / (0.8 + 0.3 + 0.6 + 0.1 + 2 + 1))
    assert dice_cross_entropy(LOGITS, maps(TRUTH)).item() == pytest.approx(expected, abs=1e-5)


def soft_dice(found, both, smoothing):
    return 1 - (2 * both + smoothing) / (found + 1 + smoothing)


@pytest.mark.parametrize(("smoothing", "cross_entropy"), [(1e-5, 1.0), (10.0, 3.0)])
def test_the_masked_dice_loss_is_that_of_each_scan_or_of_the_batch(smoothing, cross_entropy):
    each = (soft_dice(0.8 + 0.3, 0.8, smoothing) + soft_dice(0.6 + 0.1, 0.6, smoothing)) / 2
    whole = 1 - (2 * (0.8 + 0.6) + smoothing) / (0.8 + 0.3 + 0.6 + 0.1 + 2 + smoothing)
    for batch, dice in ((False, each), (True, whole)):
        loss = masked_dice_cross_entropy(
            LOGITS,
            maps(TRUTH),
            torch.ones_like(LOGITS),
            batch=batch,
            smoothing=smoothing,
            cross_entropy=cross_entropy,
        )
        assert loss.item() == pytest.approx(cross_entropy * CROSS_ENTROPY + dice, abs=1e-5)


@pytest.mark.parametrize("batch", [False, True])
def test_masked_voxels_have_no_part_in_the_dice_loss_either(batch):
    """Whatever the network makes of them: not even one half each."""
    wrong = maps([[4.0, -3.0, 0.0], [-2.0, 5.0, 0.0]])
    truth = maps([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    losses = [
        masked_dice_cross_entropy(logits, target, counted, batch=batch).item()
        for logits, target, counted in (
            (LOGITS, maps(TRUTH), torch.ones_like(LOGITS)),
            (
                torch.cat([LOGITS, wrong], 2),
                torch.cat([maps(TRUTH), truth], 2),
                torch.cat([torch.ones_like(LOGITS), torch.zeros_like(wrong)], 2),
            ),
        )
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
