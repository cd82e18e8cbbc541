"""Brain extraction: a small 3D U-Net at 2 mm that takes any contrast."""

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import resample_from_to, resample_to_output
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.card import ModelCard
from cascade_bids.models.weights import load_network
from cascade_bids.preprocess.masks import bounding_box, largest_component, nonzero_mask

CARD = "brain"
"""Name of the card of the network."""

SPACING_MM = 2.0
"""Voxel size at which the network works."""

WINDOW = (96, 112, 96)
"""Voxels that the network sees, in training and here: 192 x 224 x 192 mm around the brain. Its
instance norms depend on how much air there is, so a wider field of view must not bring more, and it
expects the brain in the middle."""

HEAD_ABOVE = 0.1
"""What is darker than this part of the brightest tissue is air and noise."""

HEADROOM = 3
"""Voxels of air above the head in the first window."""

NECK_MM = 6.0
"""Pieces that hang on the brain by less than twice this, as the orbits do, are cut off."""

MIN_BRAIN_ML = 500.0
"""A smaller brain is no brain: the image is not a head, or the extraction failed."""


BRAIN_ALONE = 1.3
"""If an image shows less than so many times the volume of the brain found in it, it shows no head
but a brain. A head has more than twice the volume of its brain."""


def extract_brain(
    image: nib.Nifti1Image, card: ModelCard, *, device: torch.device | None = None
) -> nib.Nifti1Image:
    """Extract the brain, with its ventricles and sulci but not the fluid around it.

    Parameters
    ----------
    image
        3D head of any contrast, orientation and voxel size.
    card
        Of the network.
    device
        Where the network runs; the CPU when None.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 mask on the grid of `image`.

    Raises
    ------
    ScanError
        When less than 500 ml of brain are found.
    """
    return brain_mask(brain_probability(image, card, device=device))


def shows_brain_alone(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> bool:
    """Return whether an image is of a brain without a skull.

    Parameters
    ----------
    image
        (X, Y, Z), from `conform.conform` or corrected for bias.
    mask
        Brain mask that was found in it.

    Returns
    -------
    bool
        Whether there is hardly more than that brain in it, see `BRAIN_ALONE`.
    """
    shown = np.count_nonzero(nonzero_mask(image).dataobj)
    return bool(shown < BRAIN_ALONE * np.count_nonzero(mask.dataobj))


def brain_probability(
    image: nib.Nifti1Image, card: ModelCard, *, device: torch.device | None = None
) -> nib.Nifti1Image:
    """Compute each voxel's probability of lying in the brain; parameters as `extract_brain`.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 in [0, 1] on the grid of `image`.

    Notes
    -----
    The network looks twice: at a window laid around the head, then at one around the brain that it
    found there, since every head that it learned from had its brain in the middle.
    """
    network = load_network(card.stages[0], device=device or torch.device("cpu"), checked=True)
    if not isinstance(network, UNet):
        raise TypeError(f"the brain weights hold a {network.card_name}, not a UNet")
    coarse = resample_to_output(_blurred(image), voxel_sizes=SPACING_MM, order=1)
    values = normalise(np.asarray(coarse.dataobj, dtype=np.float32))
    start = _window_around_head(values)
    # In float32 on all processors: what follows depends on each voxel of the brain.
    found = _predict_window(network, values, start)
    if (found >= 0.5).any():
        start = np.clip(start + _offset_from_middle(found >= 0.5), -np.array(WINDOW), values.shape)
        found = _predict_window(network, values, start)
    affine = coarse.affine @ nib.affines.from_matvec(np.eye(3), start)
    return resample_from_to(nib.Nifti1Image(found, affine), image, order=1)


def brain_mask(probability: nib.Nifti1Image) -> nib.Nifti1Image:
    """Extract the largest component above one half, without thin appendages and holes.

    Parameters
    ----------
    probability
        (X, Y, Z) float32 in [0, 1].

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) uint8 on the same grid.

    Raises
    ------
    ScanError
        When less than 500 ml remain.
    """
    whole = np.asarray(probability.dataobj) >= 0.5
    box = bounding_box(whole, margin=1)
    found = whole[box]
    spacing = nib.affines.voxel_sizes(probability.affine)
    core = largest_component(ndimage.distance_transform_edt(found, spacing) > NECK_MM)
    # Half as far again as it shrank, so that gyri keep their tips.
    near = ndimage.distance_transform_edt(~core, spacing) <= 1.5 * NECK_MM
    mask = np.zeros(whole.shape, np.uint8)
    mask[box] = ndimage.binary_fill_holes(largest_component(found & near & core.any()))
    brain_ml = float(mask.sum()) * abs(np.linalg.det(probability.affine[:3, :3])) / 1000
    if brain_ml < MIN_BRAIN_ML:
        raise ScanError(
            f"brain extraction found only {brain_ml:.0f} ml of brain: check that the image shows "
            "a whole head (of brains alone: --skull-strip skip); for a BIDS dataset, "
            "--derivatives can give a brain mask"
        )
    return nib.Nifti1Image(mask, probability.affine)


def normalise(values: np.ndarray) -> np.ndarray:
    """Scale so that the 99.5th percentile of the positive voxels is 1; clip to [0, 1.5].

    Parameters
    ----------
    values
        (X, Y, Z) float32 intensities.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 in [0, 1.5].
    """
    positive = values[values > 0]
    top = float(np.percentile(positive, 99.5)) if positive.size else 1.0
    return np.clip(values / top, 0, 1.5).astype(np.float32)


def _predict_window(network: UNet, values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Run the network on the window of (X, Y, Z) `values` that begins at voxel `start`.

    The window may leave the image by its own size at the most.
    """
    padded = np.pad(values, [(size, size) for size in WINDOW])
    window = padded[tuple(slice(a + n, a + 2 * n) for a, n in zip(start, WINDOW, strict=True))]
    with torch.inference_mode():
        inputs = torch.from_numpy(window.copy())[None, None]
        logits = network(inputs.to(next(network.parameters()).device))
    return torch.sigmoid(logits)[0, 0].cpu().numpy()


def _offset_from_middle(brain: np.ndarray) -> np.ndarray:
    """Compute how many voxels the centre of a brain lies off the middle of its window."""
    return np.rint(np.argwhere(brain).mean(0) - (np.array(brain.shape) - 1) / 2).astype(int)


def _window_around_head(values: np.ndarray) -> np.ndarray:
    """Lay the window around the head: in the middle of x and y, from the top of the head down.

    Returns its first voxel (3,), which may lie outside of (X, Y, Z) `values`.
    """
    head = largest_component(ndimage.binary_opening(values > HEAD_ABOVE, iterations=2))
    boxes = ndimage.find_objects(head.astype(np.uint8))
    x, y, z = boxes[0] if boxes else (slice(0, size) for size in values.shape)
    return np.array(
        [
            (x.start + x.stop - WINDOW[0]) // 2,
            (y.start + y.stop - WINDOW[1]) // 2,
            z.stop + HEADROOM - WINDOW[2],
        ]
    )


def _blurred(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Blur axes finer than the network's grid, so that coarse sampling does not alias."""
    spacing = np.asarray(image.header.get_zooms()[:3])
    sigma = 0.4 * np.sqrt(np.maximum((SPACING_MM / spacing) ** 2 - 1, 0))
    data = ndimage.gaussian_filter(np.asarray(image.dataobj, dtype=np.float32), sigma)
    return nib.Nifti1Image(data, image.affine)
