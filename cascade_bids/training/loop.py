"""One training loop for every network: epochs, early stopping, checkpoints, curves."""

import csv
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cascade_bids.files import appearing

log = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network learns."""

    max_epochs: int
    """Epochs at the most; the learning rate falls to 0 over them as half a cosine."""
    patience: int
    """Epochs without a better validation loss after which training ends."""
    learning_rate: float
    """First learning rate of Adam."""
    mixed_precision: bool = False
    """Whether the forward pass runs in bfloat16."""


@dataclass
class _Progress:
    epoch: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    seconds: float = 0.0
    curves: list[tuple[str, ...]] = field(default_factory=list)
    """A row of ``curves.tsv`` for each epoch; kept here so that a broken run repeats none."""


def fit(
    model: nn.Module,
    *,
    batches: Callable[[int], Iterable[Batch]],
    loss: Callable[[Tensor, Tensor], Tensor],
    validate: Callable[[nn.Module], float],
    schedule: Schedule,
    folder: Path,
) -> float:
    """Train a network in place and leave it with its best weights.

    Parameters
    ----------
    model
        The network, on the device that it is to be trained on.
    batches
        Epoch number to the batches (input, target) of that epoch.
    loss
        Output and target to a scalar.
    validate
        Network in evaluation mode to the validation loss (smaller is better).
    schedule
        How long and how fast.
    folder
        Where ``checkpoint.pt`` and ``curves.tsv`` go. A checkpoint found there is continued.

    Returns
    -------
    float
        The best validation loss.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    optimiser = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate)
    best = {k: v.clone() for k, v in model.state_dict().items()}
    progress = _Progress()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        best, progress = state["best"], _Progress(**state["progress"])
        log.info("continuing %s after epoch %d", checkpoint, progress.epoch)
    device = next(model.parameters()).device
    seed = torch.initial_seed()
    while not _finished(progress, schedule):
        started = time.monotonic()
        # Dropout draws from the global generator: a continued run must draw what a whole one does.
        torch.manual_seed(seed + progress.epoch)
        rate = schedule.learning_rate * _cosine(progress.epoch / schedule.max_epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        trained = _train_epoch(
            model, batches(progress.epoch), loss, optimiser, device, schedule.mixed_precision
        )
        model.eval()
        with torch.inference_mode():
            validated = validate(model)
        if validated < progress.best_loss:
            progress.best_loss, progress.best_epoch = validated, progress.epoch
            best = {k: v.clone() for k, v in model.state_dict().items()}
        progress.epoch += 1
        progress.seconds += time.monotonic() - started
        row = (f"{trained:.5f}", f"{validated:.5f}", f"{progress.seconds:.1f}")
        progress.curves.append((str(progress.epoch), *row))
        _save_checkpoint(checkpoint, model, optimiser, best, progress)
        _write_curves(folder / "curves.tsv", progress)
        log.info(
            "epoch %d: training loss %.4f, validation loss %.4f, best %.4f, %.1f min",
            progress.epoch,
            trained,
            validated,
            progress.best_loss,
            progress.seconds / 60,
        )
    model.load_state_dict(best)
    model.eval()
    return progress.best_loss


def _finished(progress: _Progress, schedule: Schedule) -> bool:
    return (
        progress.epoch >= schedule.max_epochs
        or progress.epoch - 1 - progress.best_epoch >= schedule.patience
    )


def _cosine(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * part))


def _train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    device: torch.device,
    mixed_precision: bool,
) -> float:
    model.train()
    total, count = 0.0, 0
    for inputs, targets in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
            output = model(inputs.to(device))
        value = loss(output.float(), targets.to(device))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        total += float(value.detach())
        count += 1
    return total / max(count, 1)


def _write_curves(path: Path, progress: _Progress) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(["epoch", "training_loss", "validation_loss", "seconds"])
        writer.writerows(progress.curves)


def _save_checkpoint(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    best: dict[str, Tensor],
    progress: _Progress,
) -> None:
    """Write it whole, so that a killed run leaves the last whole checkpoint."""
    content = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "best": best,
        "progress": vars(progress),
    }
    with appearing(path) as part:
        torch.save(content, part)
