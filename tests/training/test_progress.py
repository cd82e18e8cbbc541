"""What a training shows: bars on a terminal, few lines elsewhere, nothing on standard output."""

import contextlib
import io
import logging

import pytest
from torch import nn
from torch.nn import functional as F

from cascade_bids.training import progress
from cascade_bids.training.fit.loop import Schedule, fit
from cascade_bids.training.progress import Epoch, show_training, watch_network

from .fit.test_loop import batches, validate

LOGGER = "cascade_bids.training.progress"


def epoch(number: int, best: float = 0.241) -> Epoch:
    return Epoch(number, 0.2314, 0.2537, best, number / 4, 5 - number / 4, number / 20)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 200 characters, to be made stderr."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal()


def test_a_batch_job_gets_a_line_a_minute(monkeypatch, caplog, capsys):
    """Each epoch seems to take 15 seconds."""
    clock = {"seconds": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock["seconds"])
    caplog.set_level(logging.INFO, LOGGER)
    with show_training("sub-07", networks=2):
        for _ in range(2):
            with watch_network() as tell:
                for number in range(1, 11):
                    clock["seconds"] += 15
                    tell(epoch(number))
    assert caplog.messages == [
        "sub-07 stage 1 of 2: epoch 4, loss 0.231, validation 0.254 (best 0.241), 1.0 min, "
        "at most 4.0 min left",
        "sub-07 stage 1 of 2: epoch 8, loss 0.231, validation 0.254 (best 0.241), 2.0 min, "
        "at most 3.0 min left",
        "sub-07 stage 1 of 2: done, epoch 10, loss 0.231, validation 0.254 (best 0.241), 2.5 min",
        "sub-07 stage 2 of 2: epoch 2, loss 0.231, validation 0.254 (best 0.241), 0.5 min, "
        "at most 4.5 min left",
        "sub-07 stage 2 of 2: epoch 6, loss 0.231, validation 0.254 (best 0.241), 1.5 min, "
        "at most 3.5 min left",
        "sub-07 stage 2 of 2: epoch 10, loss 0.231, validation 0.254 (best 0.241), 2.5 min, "
        "at most 2.5 min left",
        "sub-07 stage 2 of 2: done, epoch 10, loss 0.231, validation 0.254 (best 0.241), 2.5 min",
    ]
    assert capsys.readouterr().out == ""


def test_every_epoch_is_told_to_who_asks_for_more(caplog):
    caplog.set_level(logging.DEBUG, LOGGER)
    with show_training("", networks=2), watch_network() as tell:
        for number in (1, 2, 3):
            tell(epoch(number))
    assert [message.split(",")[0] for message in caplog.messages] == [
        "stage 1 of 2: epoch 1",
        "stage 1 of 2: epoch 2",
        "stage 1 of 2: epoch 3",
        "stage 1 of 2: done",
    ]


def test_a_terminal_gets_a_bar_for_each_network(terminal, capsys):
    with contextlib.redirect_stderr(terminal), show_training("sub-07", networks=2):
        for _ in range(2):
            with watch_network() as tell:
                tell(epoch(3, best=0.199))
    for stage in (1, 2):
        lines = terminal.getvalue().splitlines()
        line = next(line for line in reversed(lines) if f"sub-07 stage {stage} of 2" in line)
        assert "done, epoch 3, loss 0.231, validation 0.254 (best 0.199), 0.8 min" in line
    assert capsys.readouterr().out == ""


def test_log_lines_do_not_tear_the_bars(terminal):
    """They are printed by rich, which draws the bars anew below, and not into them."""
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        with (
            contextlib.redirect_stderr(terminal),
            show_training("sub-07", networks=1),
            watch_network() as tell,
        ):
            tell(epoch(1))
            before = len(terminal.getvalue())
            logging.getLogger("somebody").warning("the disk is nearly full")
            written = terminal.getvalue()[before:]
        logging.getLogger("somebody").warning("all is over")
    finally:
        logging.getLogger().removeHandler(handler)
    assert "the disk is nearly full\n" in written
    assert written.index("the disk") < written.rindex("sub-07")
    assert terminal.getvalue().endswith("all is over\n")


def test_the_loop_tells_its_epochs_and_those_of_a_broken_run(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, LOGGER)

    def train(epochs: int) -> list[str]:
        caplog.clear()
        with show_training("a", networks=1):
            fit(
                nn.Linear(3, 1),
                batches=batches,
                loss=F.mse_loss,
                validate=validate,
                schedule=Schedule(epochs, epochs, 1e-2),
                folder=tmp_path,
            )
        return [message.split(",")[0] for message in caplog.messages]

    assert train(2) == ["a: epoch 1", "a: epoch 2", "a: done"]
    assert train(3) == ["a: epoch 2", "a: epoch 3", "a: done"]
    last = caplog.records[-1].args[1]
    assert last.part == 1
    assert last.minutes_left == 0
    assert last.best_loss <= last.validation_loss + 1e-5


def test_nothing_is_shown_of_a_network_that_nobody_watches(terminal, caplog):
    caplog.set_level(logging.DEBUG, LOGGER)
    with contextlib.redirect_stderr(terminal), watch_network() as tell:
        tell(epoch(1))
    assert terminal.getvalue() == ""
    assert caplog.messages == []
