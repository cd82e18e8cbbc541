"""What a training shows on stderr while it lasts: bars on a terminal, else a line a minute."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)

LINE_SECONDS = 60.0
"""Time between two lines where no bar can be shown."""


@dataclass(frozen=True)
class Epoch:
    """Where the training of one network stands after an epoch."""

    number: int
    """Epochs that are over."""
    training_loss: float
    """Mean of the epoch."""
    validation_loss: float | None
    """After the epoch; None where nothing is held out."""
    best_loss: float
    """Lowest validation loss so far, or training loss where nothing is held out."""
    minutes: float
    """Time that all epochs took, those of a broken run too."""
    minutes_left: float
    """Time that is left at the most."""
    part: float
    """Part of the longest possible training that is over, 0 to 1."""

    def __str__(self) -> str:
        found = "" if self.validation_loss is None else f", validation {self.validation_loss:.3f}"
        return (
            f"epoch {self.number}, loss {self.training_loss:.3f}{found} "
            f"(best {self.best_loss:.3f}), {self.minutes:.1f} min"
        )

    @property
    def left(self) -> str:
        """Time that is left, in words."""
        return f"at most {self.minutes_left:.1f} min left"


class _Lines:
    """A line after an epoch, if the last one is a minute old, and one at the end."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def start(self, name: str) -> None:
        pass

    def epoch(self, name: str, epoch: Epoch) -> None:
        due = time.monotonic() - self._told >= LINE_SECONDS
        if due:
            self._told = time.monotonic()
        log.log(logging.INFO if due else logging.DEBUG, "%s: %s, %s", name, epoch, epoch.left)

    def end(self, name: str, last: Epoch) -> None:
        log.info("%s: done, %s", name, last)


class _Bars:
    """A bar for each network; the bars of finished ones stay."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def start(self, name: str) -> None:
        self._task = self._progress.add_task(name, total=1.0, state="epoch 1")

    def epoch(self, name: str, epoch: Epoch) -> None:
        state = f"{epoch}, {epoch.left}"
        self._progress.update(self._task, completed=epoch.part, state=state)
        log.debug("%s: %s", name, state)

    def end(self, name: str, last: Epoch) -> None:
        self._progress.update(self._task, completed=1.0, state=f"done, {last}")


@dataclass
class _Training:
    """The networks of one method, trained one after another."""

    name: str
    networks: int
    display: _Lines | _Bars
    begun: int = 0

    def next_name(self) -> str:
        self.begun += 1
        stage = f"stage {self.begun} of {self.networks}" if self.networks > 1 else ""
        return " ".join(filter(None, (self.name, stage))) or "network"


# Like logging it is found and not handed on, so the functions between a command and the loop need
# not know of it.
_current: ContextVar[_Training | None] = ContextVar("training", default=None)


@contextlib.contextmanager
def show_training(name: str, networks: int) -> Iterator[None]:
    """Show on stderr how the networks that are trained inside get on.

    Parameters
    ----------
    name
        Of the training, such as the fold; may be empty.
    networks
        How many networks are trained one after another.
    """
    with _display() as display:
        token = _current.set(_Training(name, networks, display))
        try:
            yield
        finally:
            _current.reset(token)


@contextlib.contextmanager
def watch_network() -> Iterator[Callable[[Epoch], None]]:
    """Yield a function that shows each epoch of the next network.

    Outside `show_training` it shows nothing.
    """
    training = _current.get()
    if training is None:
        yield lambda epoch: None
        return
    name, last = training.next_name(), None
    training.display.start(name)

    def tell(epoch: Epoch) -> None:
        nonlocal last
        last = epoch
        training.display.epoch(name, epoch)

    yield tell
    if last is not None:
        training.display.end(name, last)


def announce(message: str, *arguments: object) -> None:
    """Log what a command is about to do for minutes."""
    log.info(message, *arguments)


@contextlib.contextmanager
def _display() -> Iterator[_Lines | _Bars]:
    console = Console(stderr=True)
    if not (sys.stderr.isatty() and console.is_interactive):
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    # Standard output is for results.
    progress = Progress(*columns, console=console, redirect_stdout=False, refresh_per_second=2)
    before = sys.stderr
    with progress, _logging_above(before):
        yield _Bars(progress)


@contextlib.contextmanager
def _logging_above(terminal: object) -> Iterator[None]:
    """Send log lines to where rich has put stderr, above the bars, as long as these are shown."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is terminal
    ]
    streams = [(handler, handler.setStream(sys.stderr)) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in streams:
            handler.setStream(stream)
