"""The loss of networks that segment: voxels, and lesions as spheres."""

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
    # MONAI takes many seconds to import, and only training by crops needs it.
    from monai.losses import DiceLoss, FocalLoss

    counted = target[:, 2:]

    def mean(losses: Tensor) -> Tensor:
        return (losses * counted).sum() / counted.sum().clamp(min=1)

    lesions, true_lesions = logits[:, :1], target[:, :1]
    loss = mean(F.binary_cross_entropy_with_logits(lesions, true_lesions, reduction="none"))
    found = torch.sigmoid(lesions)
    loss = loss + DiceLoss(batch=True)(found * counted, true_lesions * counted)
    if logits.shape[1] == 2:
        focal = FocalLoss(gamma=GAMMA, alpha=ALPHA, reduction="none")
        loss = loss + mean(focal(logits[:, 1:], target[:, 1:2]))
    return loss
