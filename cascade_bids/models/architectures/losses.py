"""The losses that networks with a map as output learn by: Dice, cross-entropy, focal."""

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA = 0.25
"""Weight of sphere voxels in the focal loss; all others weigh 1 - ALPHA."""

GAMMA = 2.0
"""How much less the focal loss weighs voxels that are right already."""


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sum the cross-entropy and soft Dice loss of lesions and the lesion-wise loss, equally.

    The lesion-wise loss is that of ALL-Net (Zhang et al. 2021, doi 10.1016/j.nicl.2021.102854): the
    focal loss (Lin et al. 2017, doi 10.1109/ICCV.2017.324) against lesions that are spheres of one
    size (`cascade_bids.lesions.spheres`).

    Parameters
    ----------
    logits
        (N, K, X, Y, Z) float32; channel 0 lesions, channel 1 spheres if K is 2.
    target
        (N, 3, X, Y, Z) float32 of 0 and 1: lesions, spheres, and whether a voxel counts.

    Returns
    -------
    Tensor
        Scalar, of the voxels that count.

    Notes
    -----
    The Dice loss is taken over the whole batch, since a crop without a lesion has none of its own.
    """
    # MONAI takes many seconds to import, and only trainings need it.
    from monai.losses import FocalLoss

    counted = target[:, 2:]
    loss = masked_dice_cross_entropy(logits[:, :1], target[:, :1], counted, batch=True)
    if logits.shape[1] == 2:
        focal = FocalLoss(gamma=GAMMA, alpha=ALPHA, reduction="none")
        loss = loss + _mean(focal(logits[:, 1:], target[:, 1:2]), counted)
    return loss


def dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the mean of binary cross-entropy and soft Dice loss (Milletari et al., 3DV 2016).

    Parameters
    ----------
    logits
        (N, 1, X, Y, Z) float32.
    target
        (N, 1, X, Y, Z) float32 of 0 and 1.

    Returns
    -------
    Tensor
        Scalar; the Dice loss is that of the whole batch.
    """
    from monai.losses import DiceCELoss

    loss = DiceCELoss(
        sigmoid=True, batch=True, smooth_nr=0, smooth_dr=1, lambda_dice=0.5, lambda_ce=0.5
    )
    value: Tensor = loss(logits, target)
    return value


def masked_dice_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    batch: bool,
    smoothing: float = 1e-5,
    cross_entropy: float = 1.0,
) -> Tensor:
    """Compute the sum of cross-entropy and soft Dice loss of the voxels that count.

    Parameters
    ----------
    logits
        (N, 1, X, Y, Z) float32.
    target
        (N, 1, X, Y, Z) float32: part of each voxel that is lesion.
    weights
        (N, 1, X, Y, Z) float32: how much a voxel counts in the cross-entropy; at 0 it does not
        count at all.
    batch
        Whether the Dice loss is that of the whole batch, or the mean over its scans.
    smoothing
        Voxels that soften the Dice loss of scans with few lesions.
    cross_entropy
        Weight of the cross-entropy beside the Dice loss.

    Returns
    -------
    Tensor
        Scalar.
    """
    from monai.losses import MaskedDiceLoss

    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    overlap = MaskedDiceLoss(batch=batch, smooth_nr=smoothing, smooth_dr=smoothing)
    # With sigmoid=True, MONAI 1.5 masks logits, and what does not count has probability 0.5.
    dice = overlap(torch.sigmoid(logits), target, (weights > 0).float())
    return cross_entropy * _mean(losses, weights) + dice


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum().clamp(min=1)
