"""The command `train-brain`: train the brain extraction on real T1w and on synthetic heads."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.models.architectures.losses import dice_cross_entropy
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.brain_extraction import SPACING_MM, WINDOW, normalise
from cascade_bids.models.training_data import Batch
from cascade_bids.models.weights import save_method
from cascade_bids.preprocess.masks import close_sulci, largest_component
from cascade_bids.training.data.healthy import find_healthy
from cascade_bids.training.fit.loop import Schedule, fit
from cascade_bids.training.progress import announce, show_training
from cascade_bids.training.synthesis import augment
from cascade_bids.training.synthesis.random_contrast import flair_from_t1w, random_contrast

log = logging.getLogger(__name__)

STEPS_PER_EPOCH = 60

HELD_OUT = 0.1

CEREBELLUM = (7, 8, 46, 47)

HEAD_FLUID = 24
"""Cerebrospinal fluid around the brain in the head maps."""

MUSE_FLUID = 1
"""The same in the MUSE labels."""

CLOSED_MM = 4.0
"""Sulci narrower than twice this belong to the brain, the fluid around it does not."""

CHANNELS_IN = 1

WIDTHS = (8, 16, 32, 64, 96)


@dataclass(frozen=True)
class BrainExample:
    """One training head at 2 mm, RAS+.

    `image` is float32 in [0, 1.5] for a real scan or the int16 label map of a synthetic one.
    """

    name: str
    image: Tensor
    brain: Tensor
    synthetic: bool

    @property
    def centre(self) -> Tensor:
        """Middle voxel of the brain."""
        return torch.nonzero(self.brain).float().mean(0)


def train_brain(
    ixi_dir: Path,
    head_labels_dir: Path,
    out_dir: Path,
    *,
    work_dir: Path,
    max_epochs: int = 52,
    seed: int = 0,
) -> Path:
    """Train from scratch and write weights and card.

    Parameters
    ----------
    ixi_dir
        BIDS dataset of T1w heads at 2 mm with ``derivatives/dlmuse`` labels.
    head_labels_dir
        Folder of whole-head label maps ``head*_dseg.nii.gz`` at 1 mm.
    out_dir
        Where ``brain.safetensors`` and ``brain.json`` go.
    work_dir
        Checkpoint and curves; the same folder continues a broken training.
    max_epochs
        Length of the training.
    seed
        Of the first weights and of every random change.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When a folder holds no heads.
    """
    torch.manual_seed(seed)
    announce("reading the heads")
    heads = [*load_scans(ixi_dir), *load_label_maps(head_labels_dir)]
    kept = _held_out(heads)
    learned = [head for head in heads if head.name not in {k.name for k in kept}]
    log.info("%d heads to learn from, %d held out", len(learned), len(kept))
    network = UNet(CHANNELS_IN, WIDTHS)
    # Faster on a CPU than the default layout.
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    checks = [draw(h, torch.Generator().manual_seed(seed + i)) for i, h in enumerate(kept)]
    schedule = Schedule(
        max_epochs=max_epochs,
        patience=max_epochs,
        learning_rate=3e-3,
        mixed_precision=True,
    )

    def validate(model: nn.Module) -> float:
        losses = (dice_cross_entropy(model(x[None, None]), y[None, None]) for x, y in checks)
        return float(np.mean([float(loss) for loss in losses]))

    with show_training("brain extraction", networks=1):
        fit(
            network,
            batches=lambda epoch: _batches(learned, seed=seed * 100_003 + epoch),
            loss=dice_cross_entropy,
            validate=validate,
            schedule=schedule,
            folder=work_dir,
        )
    arguments = {"channels_in": CHANNELS_IN, "widths": list(WIDTHS)}
    return save_method(
        "brain",
        [(network, {"architecture": UNet.card_name, "arguments": arguments})],
        _card(network, learned, kept, checks, seed),
        out_dir,
    )


def load_scans(ixi_dir: Path) -> list[BrainExample]:
    """Read the T1w heads and their brains: all MUSE labels but the fluid around the brain."""
    heads = []
    for scan in find_healthy(ixi_dir):
        values = _canonical(scan.t1w).astype(np.float32)
        tissue = _canonical(scan.labels) > MUSE_FLUID
        brain = close_sulci(tissue, closed_mm=CLOSED_MM, spacing_mm=SPACING_MM)
        heads.append(
            BrainExample(
                scan.label,
                torch.from_numpy(normalise(values)),
                torch.from_numpy(brain),
                synthetic=False,
            )
        )
    return heads


def load_label_maps(folder: Path) -> list[BrainExample]:
    """Read the head label maps at 2 mm, with the cord cut where the MUSE labels end."""
    heads = []
    for path in sorted(folder.glob("head*_dseg.nii.gz")):
        labels = _canonical(path).astype(np.int16)[::2, ::2, ::2].copy()
        heads.append(
            BrainExample(
                path.name.split("_")[0],
                torch.from_numpy(labels),
                torch.from_numpy(_brain_of_labels(labels)),
                synthetic=True,
            )
        )
    if not heads:
        raise UsageError(f"no head*_dseg.nii.gz in {folder}")
    return heads


def _canonical(path: Path) -> np.ndarray:
    return np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def _brain_of_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels below 500 but the fluid, cut 4 mm below the cerebellum, without specks."""
    inside = (labels > 0) & (labels < 500) & (labels != HEAD_FLUID)
    heights = np.nonzero(np.isin(labels, CEREBELLUM))[2]
    inside[:, :, : max(0, int(np.percentile(heights, 0.5)) - 2)] = False
    largest = largest_component(ndimage.binary_opening(inside, iterations=1))
    return close_sulci(largest, closed_mm=CLOSED_MM, spacing_mm=SPACING_MM)


def draw(head: BrainExample, rng: torch.Generator) -> Batch:
    """Make one training sample of a head: pose, contrast and faults drawn at random.

    Returns
    -------
    tuple of Tensor
        Image (X, Y, Z) float32 as `normalise` leaves it, and brain (X, Y, Z) float32 of 0 and 1.
    """
    grid = augment.random_grid(WINDOW, tuple(head.brain.shape), head.centre, rng)
    brain = augment.sample(head.brain, grid, "bilinear") >= 0.5
    if head.synthetic:
        image = random_contrast(augment.sample(head.image, grid, "nearest"), rng)
        image = _blur(image, augment.uniform(0.4, 0.9, rng))
    else:
        image = augment.sample(head.image, grid, "bilinear")
        kind = augment.uniform(0, 1, rng)
        if kind < 0.5:
            image = flair_from_t1w(image, brain, rng)
        elif kind < 0.75:
            image = augment.remap_intensity(image / 1.5, rng)
    image = _hide(image, brain, rng)
    if augment.uniform(0, 1, rng) < 0.6:
        image = augment.thick_slices(image, rng)
    image = augment.bias_field(augment.gamma(image, rng), rng)
    if augment.uniform(0, 1, rng) < 0.7:
        image = augment.rician_noise(image, rng)
    image, brain = _cut_field_of_view(image, brain, rng)
    return torch.from_numpy(normalise(image.numpy())), brain.float()


def _blur(image: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), sigma))


def _hide(image: Tensor, brain: Tensor, rng: torch.Generator) -> Tensor:
    """Remove the face, or all that is far from the brain, as defacing and cropping do."""
    choice = augment.uniform(0, 1, rng)
    if choice < 0.6:
        return image
    distance = torch.from_numpy(ndimage.distance_transform_edt(~brain.numpy()))
    if choice < 0.65:
        return image * (distance <= 1)
    hidden = distance > augment.uniform(2, 15, rng)
    if choice < 0.9:
        middle = torch.nonzero(brain).float().mean(0)
        y, z = torch.meshgrid(*(torch.arange(n) for n in image.shape[1:]), indexing="ij")
        hidden = hidden & ((y - middle[1]) - (z - middle[2]) > 10)
    return image * ~hidden


def _cut_field_of_view(image: Tensor, brain: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Leave out slices at the bottom, the top or both, as a short scan does."""
    image, brain = image.clone(), brain.clone()
    rows = torch.nonzero(brain.any(0).any(0)).flatten()
    bottom, top = int(rows.min()), int(rows.max())
    if augment.uniform(0, 1, rng) < 0.5:
        low = bottom + round(augment.uniform(-12, 15, rng))
        image[:, :, : max(low, 0)] = 0
        brain[:, :, : max(low, 0)] = False
    if augment.uniform(0, 1, rng) < 0.5:
        high = top + round(augment.uniform(-8, 8, rng))
        image[:, :, high:] = 0
        brain[:, :, high:] = False
    return image, brain


def _batches(heads: list[BrainExample], seed: int) -> Iterator[Batch]:
    """One head a batch, real and synthetic in turn."""
    rng = torch.Generator().manual_seed(seed)
    kinds = [[h for h in heads if h.synthetic is synthetic] for synthetic in (False, True)]
    for step in range(STEPS_PER_EPOCH):
        kind = kinds[step % 2]
        image, brain = draw(kind[int(torch.randint(len(kind), (), generator=rng))], rng)
        inputs = image[None, None].to(memory_format=torch.channels_last_3d)
        yield inputs, brain[None, None]


def _held_out(heads: list[BrainExample]) -> list[BrainExample]:
    """Return the last tenth of each kind, by name."""
    kept: list[BrainExample] = []
    for synthetic in (False, True):
        kind = [h for h in heads if h.synthetic is synthetic]
        kept += kind[len(kind) - max(1, round(HELD_OUT * len(kind))) :]
    return kept


def _card(
    network: nn.Module,
    learned: list[BrainExample],
    kept: list[BrainExample],
    checks: list[Batch],
    seed: int,
) -> dict[str, object]:
    """Return what was learned from, and the Dice on the held-out heads as it came out."""
    scores: dict[str, list[float]] = {"real T1w": [], "synthetic": []}
    with torch.inference_mode():
        for head, (image, brain) in zip(kept, checks, strict=True):
            found = network(image[None, None])[0, 0] > 0
            dice = 2 * (found & (brain > 0)).sum() / (found.sum() + brain.sum())
            scores["synthetic" if head.synthetic else "real T1w"].append(round(float(dice), 4))
    return {
        "task": "brain extraction",
        "contrasts": "any one",
        "spacing_mm": SPACING_MM,
        "normalisation": "99.5th percentile of the positive voxels to 1, clipped to [0, 1.5]",
        "version": VERSION,
        "seed": seed,
        "training_heads": [h.name for h in learned],
        "held_out_dice_augmented": {
            kind: {"mean": round(float(np.mean(values)), 4), "min": min(values), "n": len(values)}
            for kind, values in scores.items()
            if values
        },
        "provenance": "docs/weights.md",
    }
