"""Train a network on voxels of the samples that the engine draws."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.network.cascade import CandidateRule, Stage, run_stages
from cascade_bids.network.jets import JetNetwork
from cascade_bids.network.place import ATLAS_MM, ATLAS_ORIGIN_MM, ATLAS_SHAPE, template_places
from cascade_bids.report.page import write_whole
from cascade_bids.training.engine import Engine
from cascade_bids.training.heads import Donor
from cascade_bids.training.loop import Batch, Schedule, fit
from cascade_bids.training.sample import EXPERTS, Kind, Sample

log = logging.getLogger(__name__)

SAMPLES = 80
"""Scans of each kind that a network learns from."""

MOST_TOGETHER = 4
"""Scans that are drawn side by side: each takes about a GB."""

SAMPLES_TO_VALIDATE = 4
"""Scans that the validation loss is the mean of."""

DRAWING = 0.7
"""Part of the minutes for which scans are drawn, if they are fewer then."""

LESION_VOXELS, OTHER_VOXELS = 8_000, 24_000
"""Voxels of one scan, at the most."""

ATLAS_BLUR_MM = 3.0
"""Standard deviation: how far from a lesion others are likely."""

JITTER = 0.5
"""Standard deviation of the noise that is added to features, in parts of their own; chosen
by trials, see docs/weights.md."""


class Voxels(NamedTuple):
    """What is learned from a scan."""

    features: np.ndarray
    """(N, F) float32."""
    target: np.ndarray
    """(N, 3) float32: whether it is a lesion, how many voxels of the scan it stands for, and the
    `Kind` of the scan."""


def fit_samples(
    network: JetNetwork,
    engine: Engine,
    learn: CandidateRule,
    before: Sequence[Stage],
    folder: Path,
    *,
    batch_size: int,
    schedule: Schedule,
    seed: int,
    known: bool = False,
) -> None:
    """Train one network on scans that the engine draws, and leave it with its last weights.

    Parameters
    ----------
    network
        What is trained.
    engine
        Draws the scans.
    learn
        Which voxels are learned from.
    before
        The stages that are trained already.
    folder
        Voxels, checkpoint and curves.
    batch_size
        Voxels in a batch.
    schedule
        How long and how fast.
    seed
        Of what is drawn.
    known
        Whether the network was trained before, and keeps its atlas and the scale of its features.

    Raises
    ------
    UsageError
        When no voxel counts, or none of a lesion in one of the kinds that experts are for.
    """
    if not known:
        network.atlas.copy_(draw_atlas(engine.donors))
    until = None
    if schedule.max_minutes is not None:
        until = time.monotonic() + 60 * DRAWING * schedule.max_minutes
        schedule = replace(schedule, max_minutes=(1 - DRAWING) * schedule.max_minutes)
    first = 100_003 * seed
    kinds = engine.kinds
    own = [kind for kind in kinds if kind in EXPERTS]

    def draw(source: Engine, name: str, count: int, seed: int) -> Voxels:
        def choose(number: int) -> Voxels:
            rng = torch.Generator().manual_seed(seed + number)
            sample = source.draw(rng, kinds[number % len(kinds)])
            return choose_voxels(network, sample, learn, before, source, rng)

        return _gather(choose, folder / name, count, until, own)

    checked = draw(engine.to_check(), "checked", SAMPLES_TO_VALIDATE, first + 50_000)
    learned = draw(engine.to_learn(), "learned", len(kinds) * SAMPLES, first)
    if not len(checked.target) or not _have_lesions([learned], own):
        raise UsageError(
            "the stage before finds nothing of the lesions, so there is nothing to learn from; "
            "train it longer"
        )
    if not known:
        features = torch.from_numpy(learned.features)
        network.middle.copy_(features.mean(0))
        network.spread.copy_(features.std(0).clamp(min=1e-3))
    _fit_voxels(network, learned, checked, folder, batch_size, schedule, first)
    # Scans that some experts did not see, or that lack what is suspected, do not tell it.
    if len(own) >= len(network.experts) and Kind.UNLABELLED not in kinds:
        network.prior.fill_(_find_prior(learned.target))


def _fit_voxels(
    network: JetNetwork,
    learned: Voxels,
    checked: Voxels,
    folder: Path,
    batch_size: int,
    schedule: Schedule,
    seed: int,
) -> None:
    """Train a network on voxels that are chosen and described."""
    for kind, expert in zip(EXPERTS, network.experts, strict=False):
        # What has no scans of its own kind to learn from does not forget them.
        found = len(network.experts) == 1 or (learned.target[:, 2] == kind).any()
        expert.requires_grad_(bool(found))
    spread = network.spread.cpu()
    # So that the loss does not depend on how many voxels scans have.
    scale = float(learned.target[:, 1].mean())

    def batches(epoch: int) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(seed + epoch)
        order = torch.randperm(len(learned.features), generator=rng).numpy()
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = torch.from_numpy(learned.features[rows])
            noise = torch.randn(inputs.shape, generator=rng)
            yield inputs + JITTER * spread * noise, torch.from_numpy(learned.target[rows])

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        lesion = target[:, :1].expand_as(logits)
        losses = F.binary_cross_entropy_with_logits(logits, lesion, reduction="none")
        own = losses * _choose_experts(network, target)
        return (own.sum(1) * target[:, 1]).mean() / scale

    def validate(model: torch.nn.Module) -> float:
        device = next(model.parameters()).device
        features, target = (torch.from_numpy(part).to(device) for part in checked)
        return float(loss(model(features), target))

    fit(network, batches=batches, loss=loss, validate=validate, schedule=schedule, folder=folder)


def _choose_experts(network: JetNetwork, target: Tensor) -> Tensor:
    """Say which experts learn from each voxel (N, experts) bool: one alone learns from all."""
    kinds = target[:, 2:]
    if len(network.experts) == 1:
        return torch.ones_like(kinds, dtype=torch.bool)
    return (kinds == torch.tensor(EXPERTS, device=kinds.device)) | (kinds == Kind.UNLABELLED)


def _find_prior(target: np.ndarray) -> float:
    """Say what part of the candidates is lesion, on average over the kinds of scans."""
    lesion, stands_for, kinds = target.T
    of_kinds = [kinds == kind for kind in np.unique(kinds)]
    return float(np.mean([np.average(lesion[one], weights=stands_for[one]) for one in of_kinds]))


def _gather(
    choose: Callable[[int], Voxels],
    folder: Path,
    count: int,
    until: float | None,
    needed: Sequence[Kind],
) -> Voxels:
    """Choose the voxels of so many samples, or of fewer when time is up; what is there is taken.

    When it is done again there are as many, however much time there is.
    """
    ended = folder / "count.txt"
    if ended.exists():
        count, until = int(ended.read_text()), None

    def provide(number: int) -> Voxels:
        path = folder / f"{number}.npz"
        if not path.exists():
            found = choose(number)
            with appearing(path) as beside, beside.open("wb") as handle:
                np.savez(handle, **found._asdict())
            log.info("drew scan %d of %d (%s)", number + 1, count, folder.name)
        with np.load(path) as arrays:
            return Voxels(**arrays)

    parts: list[Voxels] = []
    with side_by_side() as (together, pool):
        for first in range(0, count, together):
            # Experts need lesions, however short the time is.
            late = until is not None and time.monotonic() > until
            if late and _have_lesions(parts, needed):
                break
            parts += pool.map(provide, range(first, min(first + together, count)))
    if len(parts) < count:
        write_whole(ended, str(len(parts)))
    return Voxels(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@contextmanager
def side_by_side() -> Iterator[tuple[int, ThreadPoolExecutor]]:
    """Share the threads among scans: much of what is done for one takes a single thread.

    Yields
    ------
    tuple of int and ThreadPoolExecutor
        How many scans are drawn at once, and what draws them.
    """
    threads = torch.get_num_threads()
    together = min(threads, MOST_TOGETHER)
    each = threads // together
    try:
        with ThreadPoolExecutor(together, "draw", torch.set_num_threads, (each,)) as pool:
            yield together, pool
    finally:
        torch.set_num_threads(threads)


def _have_lesions(parts: Sequence[Voxels], kinds: Sequence[Kind]) -> bool:
    """Say whether there are lesion voxels of each of these kinds."""
    lesions = [part.target[part.target[:, 0] > 0, 2] for part in parts]
    return all(any((one == kind).any() for one in lesions) for kind in kinds)


def choose_voxels(
    network: JetNetwork,
    sample: Sample,
    learn: CandidateRule,
    before: Sequence[Stage],
    engine: Engine,
    rng: torch.Generator,
) -> Voxels:
    """Choose voxels of a sample at random, some of its lesions and some others, and describe them.

    Returns
    -------
    Voxels
        Each stands for as many voxels of its kind as there are for one that was chosen, so that
        what is learned is how likely lesions are.
    """
    brain, lesions = sample.brain.numpy(), sample.lesions.numpy().ravel()
    flair = sample.volume[engine.contrasts.index("FLAIR")].numpy()
    places = sample.places.numpy()
    previous = np.zeros(brain.shape, np.float32)
    if before:
        previous = run_stages(
            before, sample.volume, flair, brain, combination="last", places=places
        ).probability
    asked = learn.select(flair, brain, previous)
    if sample.unsure is not None:
        asked &= ~sample.unsure.numpy()
    candidates = np.flatnonzero(asked)
    chosen, targets = [], []
    for kind, most in ((True, LESION_VOXELS), (False, OTHER_VOXELS)):
        there = candidates[lesions[candidates] == kind]
        some = there[torch.randperm(len(there), generator=rng)[:most].numpy()]
        chosen.append(some)
        stands_for = len(there) / max(len(some), 1)
        targets.append(
            np.tile(np.array([kind, stands_for, sample.kind], np.float32), (len(some), 1))
        )
    voxels = np.unravel_index(np.concatenate(chosen), brain.shape)
    features = network.describe(sample.volume.numpy(), flair, brain, voxels, places, previous)
    return Voxels(features, np.concatenate(targets))


def draw_atlas(donors: Sequence[Donor]) -> Tensor:
    """Say how often lesions are where in the template, on both sides alike.

    Parameters
    ----------
    donors
        Participants with lesions; none for an empty atlas.

    Returns
    -------
    Tensor
        `ATLAS_SHAPE` float32, 0 to 1.
    """
    affine = np.diag([ATLAS_MM, ATLAS_MM, ATLAS_MM, 1.0])
    affine[:3, 3] = ATLAS_ORIGIN_MM
    places = template_places(ATLAS_SHAPE, affine)
    total = np.zeros(ATLAS_SHAPE, np.float32)
    for donor in donors:
        to_voxel = donor.to_voxel.numpy()
        width = ATLAS_BLUR_MM / nib.affines.voxel_sizes(np.linalg.inv(to_voxel))
        mask = ndimage.gaussian_filter(donor.mask.numpy().astype(np.float32), width)
        for side in (1, -1):
            index = (places * (side, 1, 1)) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
            total += ndimage.map_coordinates(mask, np.moveaxis(index, -1, 0), order=1)
    return torch.from_numpy(total / max(2 * len(donors), 1)).float()
