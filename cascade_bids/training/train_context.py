"""The command `train-context`: train the network that sees whole brains, on synthetic scans."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.config import VERSION, InputConfig, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.models.architectures.context import ContextNetwork
from cascade_bids.models.architectures.losses import masked_dice_cross_entropy
from cascade_bids.models.device import prepare_device
from cascade_bids.models.training_data import Batch, ScanKind
from cascade_bids.models.weights import NORMALISATION, save_method
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.data.donors import Donor, load_donors
from cascade_bids.training.data.label_maps import load_label_maps
from cascade_bids.training.fit.loop import Schedule, fit
from cascade_bids.training.fit.voxels import draw_atlas, side_by_side
from cascade_bids.training.progress import announce, show_training
from cascade_bids.training.synthesis.augment import uniform
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.synthesis.sample import Sample
from cascade_bids.training.work_folder import claim, digest, require_same

log = logging.getLogger(__name__)

CONTRASTS = ("FLAIR", "T1w", "T2w")
"""What the network takes; others are missing to it."""

SCANS = 240
"""Scans that it learns from."""

SCANS_TO_VALIDATE = 8
"""Scans that the validation loss is the mean of."""

BATCHES, BATCH_SIZE = 50, 4
"""Batches of an epoch, and brains in a batch."""

SCHEDULE = Schedule(
    max_epochs=14, patience=14, learning_rate=2e-3, mixed_precision=True, keep_last=True
)

WINDOW = (144, 176, 144)
"""Voxels of what is learned from at once: a brain, or most of a large one."""

SMOOTHING = 20.0
"""Voxels that soften the Dice loss of scans with few lesions."""

CROSS_ENTROPY = 5.0
"""How much more the cross-entropy weighs than the Dice loss."""


class Brain(NamedTuple):
    """A synthetic scan, cut to its brain, as it is kept."""

    channels: np.ndarray
    """(C, X, Y, Z) float16 z-scores."""
    coordinates: np.ndarray
    """(3, X, Y, Z) float16, template mm."""
    labels: np.ndarray
    """(2, X, Y, Z) bool: lesions, and brain."""


def train_context(
    label_maps_dir: Path,
    masks_dir: Path,
    out_dir: Path,
    *,
    work_dir: Path,
    without: Sequence[str] = (),
    resources: ResourceConfig,
    seed: int = 0,
) -> Path:
    """Train from scratch and write weights and card.

    Parameters
    ----------
    label_maps_dir
        Label maps of whole heads, see `load_label_maps`.
    masks_dir
        Lesion masks, see `load_donors`.
    out_dir
        Where ``context.safetensors`` and ``context.json`` go.
    work_dir
        Keeps scans, checkpoint and curves; the same folder continues a broken training.
    without
        Participants, without ``sub-``, whose lesions are left out.
    resources
        What the training may use. Without a GPU it takes hours.
    seed
        Of the first weights and of all that is drawn.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When there are no heads or no lesions, or none of a participant who is to be left out, or
        the work folder is another training's.
    """
    device = prepare_device(resources.device, resources.omp_nthreads)
    settings = {
        "method": "context",
        "label maps": str(label_maps_dir),
        "seed": seed,
        "version": VERSION,
    }
    # Before the heads are prepared, since they would take the place of the other training's.
    require_same(work_dir, settings)
    announce("reading label maps and lesions")
    donors = _choose_donors(masks_dir, without)
    generator = ScanGenerator(
        CONTRASTS, tuple(load_label_maps(label_maps_dir, work_dir / "label-maps")), donors
    )
    masks = {one.participant: digest(one.mask.numpy().tobytes()) for one in donors}
    claim(work_dir, {**settings, "donors of lesions": masks})
    torch.manual_seed(1000 * seed + 1)
    network = ContextNetwork(len(CONTRASTS)).to(device)
    network.atlas.copy_(draw_atlas(donors))
    first = 100_003 * (1000 * seed + 1)
    announce("drawing synthetic scans")
    checked = draw_brains(
        generator.to_check(), work_dir / "checked", SCANS_TO_VALIDATE, first + 50_000
    )
    learned = draw_brains(generator.to_learn(), work_dir / "learned", SCANS, first)
    with show_training("context", networks=1):
        fit_brains(network, learned, checked, work_dir, schedule=SCHEDULE, seed=1000 * seed + 1)
    entry = {"architecture": ContextNetwork.card_name, "arguments": {"channels_in": len(CONTRASTS)}}
    return save_method("context", [(network, entry)], _card(generator, seed), out_dir)


def _choose_donors(folder: Path, without: Sequence[str]) -> tuple[Donor, ...]:
    """Read the lesion masks of all but some participants."""
    donors = load_donors(LabelledDataset(InputConfig(folder), folder))
    if not donors:
        raise UsageError(f"no lesion mask in the space of an MNI template in {folder}")
    labels = [donor.participant.rpartition("/sub-")[2] for donor in donors]
    unknown = sorted(set(without) - set(labels))
    if unknown:
        raise UsageError(
            f"--without: no lesions of {', '.join(unknown)} in {folder}; there are: "
            f"{', '.join(sorted(set(labels)))}"
        )
    named = zip(labels, donors, strict=True)
    kept = tuple(donor for label, donor in named if label not in without)
    if not kept:
        raise UsageError("--without leaves out everyone, so there are no lesions to learn")
    return kept


def _card(generator: ScanGenerator, seed: int) -> dict[str, Any]:
    return {
        "task": "context of lesions",
        "contrasts": list(CONTRASTS),
        "normalisation": NORMALISATION,
        "version": VERSION,
        "seed": seed,
        **generator.describe(),
        "provenance": "docs/weights.md",
    }


def draw_brains(generator: ScanGenerator, folder: Path, count: int, seed: int) -> list[Path]:
    """Draw synthetic scans and keep their brains; those that are there already are taken.

    Parameters
    ----------
    generator
        Draws them.
    folder
        Where they are kept, about 45 MB each.
    count
        How many.
    seed
        Of the first; the next have the next.

    Returns
    -------
    list of Path
        Their files.
    """

    def draw(number: int) -> Path:
        path = folder / f"{number}.npz"
        if not path.exists():
            rng = torch.Generator().manual_seed(seed + number)
            keep_brain(generator.draw(rng, ScanKind.SYNTHETIC), path)
            log.info("drew scan %d of %d (%s)", number + 1, count, folder.name)
        return path

    with side_by_side() as (together, pool):
        found: list[Path] = []
        for first in range(0, count, together):
            found += pool.map(draw, range(first, min(first + together, count)))
    return found


def keep_brain(sample: Sample, path: Path) -> None:
    """Write a scan, cut to its brain."""
    box = ndimage.find_objects(sample.brain.numpy().astype(np.uint8))[0]
    brain = Brain(
        sample.channels[(slice(None), *box)].numpy().astype(np.float16),
        np.moveaxis(sample.coordinates[box].numpy(), -1, 0).astype(np.float16),
        np.stack([sample.lesions[box].numpy(), sample.brain[box].numpy()]),
    )
    with appearing(path) as part, part.open("wb") as handle:
        np.savez(handle, **brain._asdict())


def read_brain(path: Path) -> Brain:
    """Read a scan that `keep_brain` wrote."""
    with np.load(path) as arrays:
        return Brain(**arrays)


def fit_brains(
    network: ContextNetwork,
    learned: Sequence[Path],
    checked: Sequence[Path],
    folder: Path,
    *,
    schedule: Schedule,
    seed: int,
) -> None:
    """Train a network, and leave it with its last weights.

    Parameters
    ----------
    network
        What is trained.
    learned
        Files of the scans that it learns from.
    checked
        Files of the scans that the validation loss is the mean of.
    folder
        Checkpoint and curves.
    schedule
        How long and how fast.
    seed
        Of the order of the scans, and of how they are changed.
    """
    device = next(network.parameters()).device

    def batches(epoch: int) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(100_003 * seed + epoch)
        for _ in range(BATCHES):
            chosen = torch.randint(len(learned), (BATCH_SIZE,), generator=rng).tolist()
            brains = [change(read_brain(learned[number]), device, rng) for number in chosen]
            inputs, targets = zip(*brains, strict=True)
            yield torch.stack(inputs), torch.stack(targets)

    def validate(model: nn.Module) -> float:
        losses = []
        for path in checked:
            inputs, target = change(read_brain(path), device)
            losses.append(float(brain_loss(model(inputs[None]), target[None])))
        return float(np.mean(losses))

    fit(
        network,
        batches=batches,
        loss=brain_loss,
        validate=validate,
        schedule=schedule,
        folder=folder,
    )


def change(brain: Brain, device: torch.device, rng: torch.Generator | None = None) -> Batch:
    """Fit a brain into the `WINDOW`; move and mirror it and change its intensities at random.

    Parameters
    ----------
    brain
        As it was kept.
    device
        Where it is to go.
    rng
        Source of randomness; without, the brain comes into the middle as it is.

    Returns
    -------
    tuple of Tensor
        Contrasts and coordinates (C + 3, *`WINDOW`) and labels (2, *`WINDOW`), float32.
    """
    count = len(brain.channels)
    inputs = (
        torch.from_numpy(np.concatenate([brain.channels, brain.coordinates])).to(device).float()
    )
    labels = torch.from_numpy(brain.labels).to(device).float()
    if rng is not None:
        for channel in inputs[:count]:
            factor, shift = uniform(0.85, 1.15, rng), uniform(-0.15, 0.15, rng)
            channel.copy_(torch.where(channel != 0, channel * factor + shift, channel))
        if uniform(0, 1, rng) < 0.5:
            inputs, labels = inputs.flip(1), labels.flip(1)
            inputs[count] *= -1
    pad: list[int] = []
    for size, wanted in zip(reversed(inputs.shape[1:]), reversed(WINDOW), strict=True):
        part = 0.5 if rng is None else uniform(0, 1, rng)
        low = round((wanted - size) * part)
        pad += [low, wanted - size - low]
    # A pad below 0 cuts.
    return F.pad(inputs, pad), F.pad(labels, pad)


def brain_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute `CROSS_ENTROPY` times the cross-entropy plus the mean soft Dice loss of each brain.

    Parameters
    ----------
    logits
        (N, 1, X, Y, Z) float32.
    target
        (N, 2, X, Y, Z) float32 of 0 and 1: lesions, and the brain, whose voxels count.

    Returns
    -------
    Tensor
        Scalar.
    """
    return masked_dice_cross_entropy(
        logits,
        target[:, :1],
        target[:, 1:],
        batch=False,
        smoothing=SMOOTHING,
        cross_entropy=CROSS_ENTROPY,
    )
