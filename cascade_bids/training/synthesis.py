"""Synthetic heads of random contrast, made from label maps.

The idea is that of SynthSeg (Billot et al., Med. Image Anal. 2023,
doi 10.1016/j.media.2023.102789): a network that saw every contrast needs to see none in particular.
"""

import torch
from torch import Tensor

from cascade_bids.training.augment import uniform

FLAIR_LIKE = {"white": 0.55, "grey": 0.68, "csf": 0.10, "skull": 0.12, "scalp": 0.75}
T1W_LIKE = {"white": 0.90, "grey": 0.60, "csf": 0.15, "skull": 0.15, "scalp": 0.95}

TISSUE_OF_LABEL = {
    "white": (2, 41, 7, 46, 16, 28, 60, 85, 251, 252, 253, 254, 255),
    "grey": (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58),
    "csf": (4, 43, 5, 44, 14, 15, 24, 72),
    "skull": (515,),
    "scalp": (507, 511),
}
"""Labels of the head maps (FreeSurfer inside the brain, 500 and above outside) by tissue.

Only the intensity priors use it; a label that is missing here gets a random intensity.
"""


def random_contrast(labels: Tensor, rng: torch.Generator) -> Tensor:
    """Give every label of a head a random mean and texture.

    Parameters
    ----------
    labels
        (X, Y, Z) labels, 0 is air.
    rng
        Source of randomness.

    Returns
    -------
    Tensor
        (X, Y, Z) float32, intensities of about 0 to 1, air at 0.

    Notes
    -----
    A third of the heads looks like a FLAIR and a sixth like a T1w, each label's mean within 0.15 of
    the prior; the others draw every mean from [0, 1].
    """
    kind = uniform(0, 1, rng)
    prior = FLAIR_LIKE if kind < 1 / 3 else T1W_LIKE if kind < 1 / 2 else None
    means = torch.rand(1024, generator=rng)
    if prior is not None:
        for tissue, members in TISSUE_OF_LABEL.items():
            common = prior[tissue] + uniform(-0.1, 0.1, rng)
            for label in members:
                means[label] = max(0.0, common + uniform(-0.05, 0.05, rng))
    spreads = 0.08 * torch.rand(1024, generator=rng)
    means[0] = spreads[0] = 0
    index = labels.long()
    texture = torch.randn(labels.shape, generator=rng)
    return (means[index] + spreads[index] * texture).clamp(min=0)
