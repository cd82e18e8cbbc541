"""One training loop for every network: epochs, early stopping, checkpoints, curves."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cascade_bids.errors import StartError
from cascade_bids.files import appearing
from cascade_bids.models.training_data import Batch
from cascade_bids.training.fit.curves import write_curves
from cascade_bids.training.progress import Epoch, watch_network

log = logging.getLogger(__name__)

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "Adam": torch.optim.Adam,
    "Adadelta": torch.optim.Adadelta,
}


def constant(part: float) -> float:
    """Return 1: the learning rate stays as it is."""
    return 1.0


def cosine(part: float) -> float:
    """Return a factor that falls to 0 as half a cosine over the training."""
    return 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


def polynomial(part: float) -> float:
    """Return a factor that falls to 0 a little slower than linearly."""
    return (1 - min(part, 1.0)) ** 0.9


def steps(part: float) -> float:
    """Divide the learning rate by 10 at 50, 70 and 90 % of the training."""
    return 0.1 ** sum(part >= milestone for milestone in (0.5, 0.7, 0.9))


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network learns."""

    max_epochs: int
    """Epochs at the most."""
    patience: int
    """Epochs without a better validation loss after which training ends."""
    learning_rate: float
    """First learning rate."""
    decay: Callable[[float], float] = cosine
    """Part of the training that is over to a factor of the learning rate."""
    optimiser: str = "AdamW"
    """One of `OPTIMISERS`."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    max_minutes: float | None = None
    """Minutes at the most, to the end of an epoch; the same budget for networks of any size."""
    mixed_precision: bool = False
    """Whether the forward pass runs in bfloat16, where that is faster."""
    keep_last: bool = False
    """Whether the last weights are kept and not the best: where the learning rate falls to 0, and
    the validation loss of few samples says less than the end of the training."""

    ema: float = 0.0
    """Decay of the exponential moving average of the weights, which is what is kept; 0 for none."""
    max_norm: float | None = None
    """Norm that the gradient of a step is cut to; None for none."""

    def part(self, epoch: int, seconds: float) -> float:
        """Return which part of the training is over."""
        by_time = 0.0 if self.max_minutes is None else seconds / 60 / self.max_minutes
        return max(epoch / self.max_epochs, by_time)


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
    validate: Callable[[nn.Module], float | None],
    schedule: Schedule,
    folder: Path,
) -> float:
    """Train a network in place and leave it with its best weights, its last, or their average.

    Parameters
    ----------
    model
        The network, on the device that it is to be trained on.
    batches
        Epoch number to the batches (input, target) of that epoch.
    loss
        Output and target to a scalar.
    validate
        Network in evaluation mode to the validation loss (smaller is better); to None where
        nothing is held out, so that the training loss counts.
    schedule
        How long and how fast.
    folder
        Where ``checkpoint.pt`` and the curves (TSV, PNG) go. A checkpoint found there is continued.

    Returns
    -------
    float
        The best loss.

    Raises
    ------
    StartError
        When the loss was never a number, or is none at the end if that is what is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    device = next(model.parameters()).device
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = OPTIMISERS[schedule.optimiser](learned, lr=schedule.learning_rate)
    kept, progress = _start(checkpoint, model, optimiser)
    seed = torch.initial_seed()
    with watch_network() as tell:
        if progress.epoch:
            tell(_describe(progress, schedule))
        while not _finished(progress, schedule):
            started = time.monotonic()
            # Dropout draws from the global generator: a continued run must draw what a whole one
            # does.
            torch.manual_seed(seed + progress.epoch)
            _set_rate(optimiser, progress, schedule)
            average = kept if schedule.ema else None
            trained = _train_epoch(
                model, batches(progress.epoch), loss, optimiser, device, schedule, average
            )
            model.eval()
            with torch.inference_mode():
                validated = validate(model)
            judged = trained if validated is None else validated
            if judged < progress.best_loss:
                progress.best_loss, progress.best_epoch = judged, progress.epoch
                if not schedule.ema:
                    kept = _copy_weights(model)
            progress.epoch += 1
            progress.seconds += time.monotonic() - started
            row = (f"{trained:.5f}", _told(validated), f"{progress.seconds:.1f}")
            progress.curves.append((str(progress.epoch), *row))
            _save_checkpoint(checkpoint, model, optimiser, kept, progress)
            write_curves(folder, progress.curves, keep_last=schedule.keep_last)
            tell(_describe(progress, schedule))
    if progress.best_epoch < 0 or (schedule.keep_last and not _is_finite(progress.curves[-1])):
        raise StartError(
            f"the validation loss is no number (see {folder / 'curves.tsv'}), so nothing was "
            "learned; look for damaged images among the training scans"
        )
    if schedule.ema or not schedule.keep_last:
        model.load_state_dict(kept)
    model.eval()
    return progress.best_loss


def _told(loss: float | None) -> str:
    return "n/a" if loss is None else f"{loss:.5f}"


def _is_finite(row: Sequence[str]) -> bool:
    """Return whether the losses of a row of the curves are numbers."""
    return all(math.isfinite(float(loss)) for loss in row[1:3] if loss != "n/a")


def _start(
    checkpoint: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], _Progress]:
    """Go on from a checkpoint if there is one; give the best weights so far and the progress."""
    if not checkpoint.exists():
        return _copy_weights(model), _Progress()
    device = next(model.parameters()).device
    state = torch.load(checkpoint, weights_only=True, map_location=device)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    progress = _Progress(**state["progress"])
    log.info("continuing %s after epoch %d", checkpoint, progress.epoch)
    return state["best"], progress


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def _finished(progress: _Progress, schedule: Schedule) -> bool:
    return (
        schedule.part(progress.epoch, progress.seconds) >= 1
        or progress.epoch - 1 - progress.best_epoch >= schedule.patience
    )


def _set_rate(optimiser: torch.optim.Optimizer, progress: _Progress, schedule: Schedule) -> None:
    part = schedule.part(progress.epoch, progress.seconds)
    for group in optimiser.param_groups:
        group["lr"] = schedule.learning_rate * schedule.decay(part)


def _describe(progress: _Progress, schedule: Schedule) -> Epoch:
    _, trained, validated, _ = progress.curves[-1]
    return Epoch(
        number=progress.epoch,
        training_loss=float(trained),
        validation_loss=None if validated == "n/a" else float(validated),
        best_loss=progress.best_loss,
        minutes=progress.seconds / 60,
        minutes_left=_minutes_left(progress, schedule),
        part=min(1.0, schedule.part(progress.epoch, progress.seconds)),
    )


def _minutes_left(progress: _Progress, schedule: Schedule) -> float:
    """Compute how long training lasts if the loss goes on falling, by the mean epoch so far."""
    minutes = progress.seconds / 60
    left = (schedule.max_epochs - progress.epoch) * minutes / progress.epoch
    return (
        left if schedule.max_minutes is None else max(0, min(left, schedule.max_minutes - minutes))
    )


def _train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    device: torch.device,
    schedule: Schedule,
    average: dict[str, Tensor] | None,
) -> float:
    """Train for an epoch, and give its mean loss; the average of the weights follows each step."""
    model.train()
    total, count = 0.0, 0
    mixed = schedule.mixed_precision and _computes_bfloat16(device)
    optimiser.zero_grad(set_to_none=True)
    for inputs, targets in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            output = model(inputs.to(device))
        value = loss(output.float(), targets.to(device))
        (value / schedule.accumulate).backward()
        total += float(value.detach())
        count += 1
        if count % schedule.accumulate == 0:
            _step(model, optimiser, schedule, average)
    if count % schedule.accumulate:
        _step(model, optimiser, schedule, average)
    return total / max(count, 1)


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    average: dict[str, Tensor] | None,
) -> None:
    if schedule.max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), schedule.max_norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    if average is not None:
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - schedule.ema)
                else:
                    average[name].copy_(value)


def _computes_bfloat16(device: torch.device) -> bool:
    """Return whether a device has bfloat16 instructions; imitated, it takes 300 times as long."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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
