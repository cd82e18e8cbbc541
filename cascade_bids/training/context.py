"""Train the network that sees whole brains, on scans that are made up while it learns."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.config import VERSION, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.network.context import ContextNetwork
from cascade_bids.network.device import prepare_device
from cascade_bids.network.weights import NORMALISATION, save_method
from cascade_bids.training.augment import uniform
from cascade_bids.training.engine import Engine
from cascade_bids.training.heads import load_donors, load_heads
from cascade_bids.training.loop import Batch, Schedule, fit
from cascade_bids.training.progress import say, show_training
from cascade_bids.training.sample import Sample
from cascade_bids.training.samples import draw_atlas
from cascade_bids.training.work_folder import claim, digest

log = logging.getLogger(__name__)

CONTRASTS = ("FLAIR", "T1w", "T2w")
"""What the network takes; others are missing to it."""

SCANS = 240
"""Scans that it learns from."""

EARLY = 60
"""Of which the first epoch needs so many; by half of the training there are all."""

SCANS_TO_VALIDATE = 8
"""Scans that the validation loss is the mean of."""

BATCHES, BATCH_SIZE = 50, 4
"""Batches of an epoch, and brains in a batch."""

SCHEDULE = Schedule(
    max_epochs=14, patience=14, learning_rate=2e-3, mixed_precision=True, keep_last=True
)

WINDOW = (144, 176, 144)
"""Voxels of what is learned from at once: a brain, or most of a large one."""

LOADED_AHEAD = 4
"""Brains that are loaded while others are learned from."""

SMOOTHING = 20.0
"""Voxels that soften the Dice loss of scans with few lesions."""

CROSS_ENTROPY = 5.0
"""How much more the cross-entropy weighs than the Dice loss."""


class Brain(NamedTuple):
    """A made-up scan, cut to its brain, as it is kept."""

    volume: np.ndarray
    """(C, X, Y, Z) float16 z-scores."""
    places: np.ndarray
    """(3, X, Y, Z) float16, template mm."""
    labels: np.ndarray
    """(2, X, Y, Z) bool: lesions, and brain."""


def train_context(
    heads_dir: Path,
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
    heads_dir
        Label maps of whole heads, see `load_heads`.
    masks_dir
        Lesion masks, see `load_donors`.
    out_dir
        Where ``context.safetensors`` and ``context.json`` go.
    work_dir
        Keeps scans, checkpoint and curves; the same folder continues a broken training.
    without
        Participants, without ``sub-``, whose lesions are left out.
    resources
        What the training may use: so many scans are drawn at once as there may be processes, and
        each takes about a GB. Without a GPU it takes hours.
    seed
        Of the first weights and of all that is drawn.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When there are no heads or no lesions, or the work folder is another training's.
    """
    device = prepare_device(resources.device, resources.omp_nthreads)
    threads = resources.nprocs
    say("reading heads and lesions")
    donors = tuple(one for one in load_donors(masks_dir) if one.subject not in without)
    if not donors:
        raise UsageError(f"no lesion mask in the space of an MNI template in {masks_dir}")
    engine = Engine(CONTRASTS, tuple(load_heads(heads_dir, work_dir / "heads")), donors)
    settings = {
        "method": "context",
        "heads": [head.name for head in engine.heads],
        "donors of lesions": {one.subject: digest(one.mask.numpy()) for one in donors},
        "seed": seed,
        "version": VERSION,
    }
    claim(work_dir, settings)
    torch.manual_seed(1000 * seed + 1)
    network = ContextNetwork(len(CONTRASTS)).to(device)
    network.atlas.copy_(draw_atlas(donors))
    first = 100_003 * (1000 * seed + 1)
    checked, learned = work_dir / "checked", work_dir / "learned"
    with (
        drawing(engine.to_check(), checked, SCANS_TO_VALIDATE, first + 50_000, threads) as check,
        drawing(engine.to_learn(), learned, SCANS, first, threads) as provide,
        show_training("context", networks=1),
    ):
        paths = [check(number) for number in range(SCANS_TO_VALIDATE)]
        fit_brains(network, provide, paths, work_dir, schedule=SCHEDULE, seed=1000 * seed + 1)
    entry = {"architecture": "ContextNetwork", "arguments": {"channels_in": len(CONTRASTS)}}
    # Half the size, and its logits change by less than they are uncertain by far.
    return save_method("context", [(network.half(), entry)], _card(engine, seed), out_dir)


def _card(engine: Engine, seed: int) -> dict[str, Any]:
    return {
        "task": "context of lesions",
        "contrasts": list(CONTRASTS),
        "normalisation": NORMALISATION,
        "version": VERSION,
        "seed": seed,
        "heads": [head.name for head in engine.to_learn().heads],
        "heads_to_check": [head.name for head in engine.to_check().heads],
        "lesion_donors": [f"sub-{donor.subject}" for donor in engine.donors],
        "provenance": "docs/weights.md",
    }


@contextmanager
def drawing(
    engine: Engine, folder: Path, count: int, seed: int, threads: int
) -> Iterator[Callable[[int], Path]]:
    """Make up scans in the background, in their order; those that are there already are taken.

    Parameters
    ----------
    engine
        Makes them up.
    folder
        Where they are kept.
    count
        How many.
    seed
        Of the first; the next have the next.
    threads
        How many are made up at once.

    Yields
    ------
    callable
        Number of a scan, from 0, to its file, once that is there.
    """

    def draw(number: int) -> Path:
        path = folder / f"{number}.npz"
        if not path.exists():
            rng = torch.Generator().manual_seed(seed + number)
            keep_brain(engine.draw(rng, real=False), path)
            log.info("drew scan %d of %d (%s)", number + 1, count, folder.name)
        return path

    with ThreadPoolExecutor(threads, "draw", torch.set_num_threads, (1,)) as pool:
        found: list[Future[Path]] = [pool.submit(draw, number) for number in range(count)]
        try:
            yield lambda number: found[number].result()
        finally:
            pool.shutdown(cancel_futures=True)


def keep_brain(sample: Sample, path: Path) -> None:
    """Write a scan, cut to its brain."""
    box = ndimage.find_objects(sample.brain.numpy().astype(np.uint8))[0]
    brain = Brain(
        sample.volume[(slice(None), *box)].numpy().astype(np.float16),
        np.moveaxis(sample.places[box].numpy(), -1, 0).astype(np.float16),
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
    provide: Callable[[int], Path],
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
    provide
        Number of a scan, below `SCANS`, to its file.
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
        known = min(SCANS, EARLY + epoch * math.ceil(2 * SCANS / schedule.max_epochs))
        chosen = torch.randint(known, (BATCHES * BATCH_SIZE,), generator=rng).tolist()
        seeds = torch.randint(2**31, (len(chosen),), generator=rng).tolist()

        def load(number: int, own: int) -> Batch:
            own_rng = torch.Generator().manual_seed(own)
            return change(read_brain(provide(number)), device, own_rng)

        brains = _ahead(load, zip(chosen, seeds, strict=True))
        while batch := list(islice(brains, BATCH_SIZE)):
            inputs, targets = zip(*batch, strict=True)
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


def _ahead(
    load: Callable[[int, int], Batch], arguments: Iterable[tuple[int, int]]
) -> Iterator[Batch]:
    """Load some brains ahead of the one that is asked for."""
    with ThreadPoolExecutor(LOADED_AHEAD, "load") as pool:
        ready: deque[Future[Batch]] = deque()
        for one in arguments:
            ready.append(pool.submit(load, *one))
            if len(ready) > LOADED_AHEAD:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()


def change(brain: Brain, device: torch.device, rng: torch.Generator | None = None) -> Batch:
    """Bring a brain into the `WINDOW`; move and mirror it and change its intensities at random.

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
        Contrasts and places (C + 3, *`WINDOW`) and labels (2, *`WINDOW`), float32.
    """
    count = len(brain.volume)
    inputs = torch.from_numpy(np.concatenate([brain.volume, brain.places])).to(device).float()
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
    """Sum `CROSS_ENTROPY` times the cross-entropy and the mean soft Dice loss of each brain.

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
    lesions, brain = target[:, 0], target[:, 1]
    losses = F.binary_cross_entropy_with_logits(logits[:, 0], lesions, reduction="none") * brain
    entropy = losses.sum() / brain.sum().clamp(min=1)
    found = torch.sigmoid(logits[:, 0]) * brain
    axes = (1, 2, 3)
    overlap = 2 * (found * lesions).sum(axes) + SMOOTHING
    whole = found.sum(axes) + lesions.sum(axes) + SMOOTHING
    return CROSS_ENTROPY * entropy + (1 - overlap / whole).mean()
