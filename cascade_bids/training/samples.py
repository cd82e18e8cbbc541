"""Train a network that segments on samples of the engine."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cascade_bids.errors import UsageError
from cascade_bids.lesions.postprocess import CONNECTED
from cascade_bids.lesions.spheres import lesion_spheres
from cascade_bids.network.cascade import CandidateRule, Stage, run_stages
from cascade_bids.network.segmenters import SegmentationNetwork
from cascade_bids.training.engine import Engine
from cascade_bids.training.loop import Batch, Schedule, fit
from cascade_bids.training.losses import segmentation_loss
from cascade_bids.training.sample import Sample

SAMPLES_PER_EPOCH = 16
"""After so many scans the validation loss is asked."""

CROPS_PER_SAMPLE = 6
"""Crops of one scan: making it takes longer than learning from one of them."""

OVERLAP = 0.25
"""Of the windows in which a stage finds candidates for the next to learn from: half of those that
0.5 takes."""

SAMPLES_TO_VALIDATE = 5
"""Scans that the validation loss is the mean of, the same after every epoch."""


def fit_samples(
    network: SegmentationNetwork,
    engine: Engine,
    learn: CandidateRule,
    before: Sequence[Stage],
    folder: Path,
    *,
    batch_size: int,
    schedule: Schedule,
    seed: int,
) -> None:
    """Train one network on scans that the engine draws, and leave it with its last weights.

    Parameters
    ----------
    network
        What is trained.
    engine
        Draws the scans.
    learn
        Which voxels count.
    before
        The stages that are trained already.
    folder
        Checkpoint and curves.
    batch_size
        Crops in a batch.
    schedule
        How long and how fast.
    seed
        Of what is drawn.

    Raises
    ------
    UsageError
        When no voxel counts.
    """
    device = next(network.parameters()).device

    def batches(source: Engine, count: int, seed: int) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(seed)
        for _ in range(count):
            sample = source.draw(rng)
            with torch.autocast(device.type, torch.bfloat16, enabled=schedule.mixed_precision):
                counted = _candidates(sample, learn, before, engine)
            yield from cut_crops(sample, counted, network.window, batch_size, rng)

    # Drawing them anew after every epoch would take longer than learning.
    checked = list(batches(engine.to_check(), SAMPLES_TO_VALIDATE, seed))
    if not checked:
        raise UsageError(
            "the stage before finds nothing that could be a lesion, so there is nothing to learn "
            "from; train it longer"
        )

    learning = engine.to_learn()

    def validate(model: torch.nn.Module) -> float:
        losses = [float(segmentation_loss(model(x.to(device)), y.to(device))) for x, y in checked]
        return float(np.mean(losses))

    fit(
        network,
        batches=lambda epoch: batches(learning, SAMPLES_PER_EPOCH, 100_003 * seed + epoch + 1),
        loss=segmentation_loss,
        validate=validate,
        schedule=schedule,
        folder=folder,
    )


def cut_crops(
    sample: Sample,
    counted: np.ndarray,
    window: Sequence[int],
    batch_size: int,
    rng: torch.Generator,
) -> Iterator[Batch]:
    """Cut crops of a scan, every second one around a lesion.

    Parameters
    ----------
    sample
        The scan.
    counted
        (X, Y, Z) bool, voxels whose labels count.
    window
        Voxels of a crop, not more than the scan has.
    batch_size
        Crops in a batch.
    rng
        Source of randomness.

    Yields
    ------
    tuple of Tensor
        As of `crops.crop_batches`.
    """
    lesions = sample.lesions.numpy()
    spheres = torch.from_numpy(lesion_spheres(lesions, (1.0, 1.0, 1.0)))
    target = torch.stack([sample.lesions, spheres, torch.from_numpy(counted)])
    if not counted.any():
        return
    numbers, count = ndimage.label(lesions & counted, structure=CONNECTED)
    crops = []
    for number in range(CROPS_PER_SAMPLE):
        voxels = counted
        if count and number % 2 == 0:
            # Small lesions are as many as large ones, though they have fewer voxels.
            voxels = numbers == 1 + int(torch.randint(count, (), generator=rng))
        places = np.flatnonzero(voxels)
        chosen = int(places[int(torch.randint(len(places), (), generator=rng))])
        box = _box(np.unravel_index(chosen, lesions.shape), window, lesions.shape)
        crops.append((sample.volume[(slice(None), *box)], target[(slice(None), *box)].float()))
    for first in range(0, CROPS_PER_SAMPLE, batch_size):
        batch = crops[first : first + batch_size]
        yield torch.stack([x for x, _ in batch]), torch.stack([y for _, y in batch])


def _candidates(
    sample: Sample, learn: CandidateRule, before: Sequence[Stage], engine: Engine
) -> np.ndarray:
    brain = sample.brain.numpy()
    flair = sample.volume[engine.contrasts.index("FLAIR")].numpy()
    previous = np.zeros(brain.shape, np.float32)
    if before:
        maps = run_stages(before, sample.volume, flair, brain, combination="last", overlap=OVERLAP)
        previous = maps.probability
    return learn.select(flair, brain, previous)


def _box(
    centre: Sequence[np.intp], window: Sequence[int], shape: Sequence[int]
) -> tuple[slice, ...]:
    """Lay a window around a voxel, inside the volume."""
    starts = [
        min(max(int(c) - size // 2, 0), n - size)
        for c, size, n in zip(centre, window, shape, strict=True)
    ]
    return tuple(slice(a, a + size) for a, size in zip(starts, window, strict=True))
