"""Heads of a contrast that was not scanned: from label maps, or FLAIR from T1w.

The idea is that of SynthSeg (Billot et al., Med. Image Anal. 2023,
doi 10.1016/j.media.2023.102789): a network that saw every contrast needs to see none in particular.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cascade_bids.training.synthesis.augment import smooth_noise, uniform

FLAIR_LIKE = {"white": 0.55, "grey": 0.68, "csf": 0.10, "skull": 0.12, "scalp": 0.75}


T1W_LIKE = {"white": 0.90, "grey": 0.60, "csf": 0.15, "skull": 0.15, "scalp": 0.95}

OUTSIDE = 500
"""First label outside the skull's inner side."""

NEAR_VOXELS, FAR_VOXELS = 2, 6
"""From the brain: 4 and 12 mm, within which the skull begins and ends."""

CELLS_OF_MIXTURE = 24
"""Knots along each axis of the field that mixes fat with muscle, or marrow with bone."""

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
    """Render a label map with a random mean and texture for every label.

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
    Half of the heads look like a FLAIR and a sixth like a T1w, each label's mean within 0.15 of the
    prior; the others draw every mean from [0, 1]. The maps know one label for all soft tissue and
    one for all bone, where a scan shows fat beside muscle and marrow beside cortical bone: outside
    the brain every label has two means, mixed by a smooth random field.
    """
    kind = uniform(0, 1, rng)
    prior = FLAIR_LIKE if kind < 1 / 2 else T1W_LIKE if kind < 2 / 3 else None
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
    image = means[index] + spreads[index] * texture
    mixture = torch.sigmoid(4 * smooth_noise(tuple(labels.shape), (CELLS_OF_MIXTURE,) * 3, rng)[0])
    second = torch.rand(1024, generator=rng)[index]
    return torch.where(labels >= OUTSIDE, image + mixture * (second - image), image).clamp(min=0)


def flair_from_t1w(image: Tensor, brain: Tensor, rng: torch.Generator) -> Tensor:
    """Turn a real T1w head into one that looks like a FLAIR.

    Far from the brain the two contrasts order the tissues alike (fat, muscle, fluid, bone), so that
    orbits and skull base stay real; in the brain and close to it, grey matter becomes brighter than
    white. The one passes into the other over the skull, lest an edge show where the brain ends.

    Parameters
    ----------
    image
        (X, Y, Z) float32 intensities of the T1w, air at 0.
    brain
        (X, Y, Z) bool.
    rng
        Source of randomness.

    Returns
    -------
    Tensor
        (X, Y, Z) float32, air at 0.
    """
    if not brain.any():
        return image
    white = float(np.percentile(image[brain].numpy(), 85))
    level = uniform(0.4, 1.0, rng)
    grey, fluid = uniform(1.05, 1.4, rng), uniform(0.05, 0.3, rng)
    knots = white * np.array([0, 0.35, 0.7, 1, 2])
    values = level * np.array([0, fluid, grey, 1, 1.2])
    near = torch.from_numpy(np.interp(image.numpy(), knots, values)).float()
    # Fat is the brightest tissue of a FLAIR, or nearly gone where it was suppressed.
    far = image / white * uniform(0.15, 1.0, rng)
    distance = torch.from_numpy(ndimage.distance_transform_edt(~brain.numpy())).float()
    part = ((distance - NEAR_VOXELS) / (FAR_VOXELS - NEAR_VOXELS)).clamp(0, 1)
    return near + part * (far - near)
