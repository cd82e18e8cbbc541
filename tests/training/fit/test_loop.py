"""The loop learns, stops in time, keeps the best, and goes on where it was broken off."""

import csv
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cascade_bids.errors import StartError
from cascade_bids.training.fit import loop
from cascade_bids.training.fit.loop import Schedule, constant, cosine, fit, polynomial, steps


class BrokenError(Exception):
    """The power went."""


def make_model(seed=0):
    """With dropout and batch norm, whose state is easily forgotten."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1)
    )


def target(x):
    return (x[:, :1] - 2 * x[:, 1:2] + 0.5).abs()


def batches(epoch):
    rng = torch.Generator().manual_seed(epoch)
    for _ in range(20):
        x = torch.randn(32, 3, generator=rng)
        yield x, target(x)


def validate(model):
    assert not model.training
    x = torch.randn(256, 3, generator=torch.Generator().manual_seed(99))
    return F.mse_loss(model(x), target(x)).item()


def train(model, folder, **changes):
    arguments = {"batches": batches, "loss": F.mse_loss, "validate": validate} | changes
    schedule = arguments.pop("schedule", Schedule(max_epochs=6, patience=6, learning_rate=1e-2))
    return fit(model, **arguments, schedule=schedule, folder=folder)


def same(one, other):
    return all(torch.equal(v, other[k]) for k, v in one.items())


def curves(folder):
    with (folder / "curves.tsv").open() as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_a_toy_problem_is_learned(tmp_path):
    model = make_model()
    before = validate(model.eval())
    best = train(model, tmp_path, schedule=Schedule(20, 20, 1e-2))
    assert best < 0.1 * before
    assert validate(model) == pytest.approx(best)
    rows = curves(tmp_path)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
    assert min(float(row["validation_loss"]) for row in rows) == pytest.approx(best, abs=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.pt",
        "curves.png",
        "curves.tsv",
    ]


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3, 2, 1, 1.5, 1.2, 0.5, 0.4], 2, 5, 3),
        ([3, 2, 1, 1.5, 0.9, 1.2, 1.1], 2, 7, 5),
        ([1, 1, 1, 1], 1, 2, 1),
        ([4, 3, 2, 1], 1, 4, 4),
        ([1, math.nan, math.nan, 0], 2, 3, 1),
    ],
    ids=["stops", "goes on", "as good is not better", "always better", "not a number"],
)
def test_it_stops_in_time_and_keeps_the_best(tmp_path, losses, patience, epochs, best):
    states = []

    def scripted(model):
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        return losses[len(states) - 1]

    model = make_model()
    schedule = Schedule(len(losses), patience, 1e-2)
    assert train(model, tmp_path, validate=scripted, schedule=schedule) == losses[best - 1]
    assert len(states) == len(curves(tmp_path)) == epochs
    assert same(model.state_dict(), states[best - 1])
    assert not model.training


@pytest.mark.parametrize("failing", [1, 3, 5])
def test_a_broken_run_ends_like_a_whole_one(tmp_path, failing):
    whole = make_model()
    best = train(whole, tmp_path / "whole")

    def breaking(epoch):
        for number, batch in enumerate(batches(epoch)):
            if epoch == failing and number == 10:
                raise BrokenError
            yield batch

    broken = make_model()
    with pytest.raises(BrokenError):
        train(broken, tmp_path / "broken", batches=breaking)
    continued = make_model()
    assert train(continued, tmp_path / "broken") == best
    assert same(continued.state_dict(), whole.state_dict())
    one, other = (curves(tmp_path / name) for name in ("whole", "broken"))
    assert [r["validation_loss"] for r in one] == [r["validation_loss"] for r in other]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = make_model()
    best = train(first, tmp_path)

    def never(epoch):
        raise AssertionError

    again = make_model(5)
    assert train(again, tmp_path, batches=never) == best
    assert same(again.state_dict(), first.state_dict())


def test_seeds_make_runs_repeat_and_differ(tmp_path):
    one, again, other = make_model(1), make_model(1), make_model(1)
    for name, model, seed in (("one", one, 1), ("again", again, 1), ("other", other, 2)):
        torch.manual_seed(seed)
        train(model, tmp_path / name)
    assert same(one.state_dict(), again.state_dict())
    assert not same(one.state_dict(), other.state_dict())  # dropout drew otherwise


def test_the_learning_rate_falls_to_0(tmp_path):
    """In the last of many epochs next to nothing changes."""
    states = []

    def watching(model):
        states.append(torch.cat([p.detach().flatten().clone() for p in model.parameters()]))
        return -float(len(states))

    train(make_model(), tmp_path, validate=watching, schedule=Schedule(12, 12, 1e-2))
    moves = [float((b - a).norm()) for a, b in itertools.pairwise(states)]
    assert moves[-1] < 0.2 * moves[0]


@pytest.mark.parametrize(
    ("decay", "factors"),
    [
        (constant, [1, 1, 1, 1, 1]),
        (cosine, [1, 0.5, 0.2061, 0.0245, 0]),
        (steps, [1, 0.1, 0.01, 0.001, 0.001]),
        (polynomial, [1, 0.5359, 0.3384, 0.1259, 0]),
    ],
)
def test_learning_rates_decay_as_named(decay, factors):
    assert [decay(part) for part in (0, 0.5, 0.7, 0.9, 1)] == pytest.approx(factors, abs=1e-4)


def test_gradients_of_several_batches_make_one_step(tmp_path):
    """Four batches of 8 are one of 32, as long as all are equally large."""
    plain = nn.Linear(3, 1)
    divided = nn.Linear(3, 1)
    divided.load_state_dict(plain.state_dict())

    def quarters(epoch):
        for x, y in batches(epoch):
            yield from zip(x.split(8), y.split(8), strict=True)

    train(plain, tmp_path / "a", schedule=Schedule(2, 2, 1e-2))
    split = Schedule(2, 2, 1e-2, accumulate=4)
    train(divided, tmp_path / "b", batches=quarters, schedule=split)
    for one, other in zip(plain.parameters(), divided.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_gradients_that_are_left_over_count_too(tmp_path):
    model = nn.Linear(3, 1)
    before = model.weight.detach().clone()
    train(model, tmp_path, schedule=Schedule(1, 1, 1e-2, accumulate=1000))
    assert not torch.equal(model.weight, before)


def test_a_budget_of_minutes_ends_training(tmp_path, monkeypatch):
    """Each epoch seems to take half a minute."""
    ticks = itertools.count(step=30)
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
    train(make_model(), tmp_path, schedule=Schedule(50, 50, 1e-2, max_minutes=2))
    assert len(curves(tmp_path)) == 4
    train(make_model(), tmp_path, schedule=Schedule(50, 50, 1e-2, max_minutes=3))
    assert len(curves(tmp_path)) == 6  # a larger budget goes on


def test_frozen_parameters_stay(tmp_path):
    model = make_model()
    first = next(model.parameters()).requires_grad_(False)
    before = first.clone()
    train(model, tmp_path)
    assert torch.equal(first, before)


def test_bfloat16_learns_too(tmp_path):
    schedule = Schedule(6, 6, 1e-2, mixed_precision=True)
    model = make_model()
    before = validate(model.eval())
    assert train(model, tmp_path, schedule=schedule) < 0.5 * before
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_loss_that_is_never_a_number_leaves_no_network(tmp_path):
    with pytest.raises(StartError, match=r"is no number \(see .*curves.tsv\)"):
        train(make_model(), tmp_path, validate=lambda _: math.nan)


def test_the_last_weights_are_kept_where_a_schedule_says_so(tmp_path):
    losses = iter([3.0, 1.0, 2.0])
    schedule = Schedule(max_epochs=3, patience=9, learning_rate=1e-2, keep_last=True)
    model = make_model()
    best = train(model, tmp_path, schedule=schedule, validate=lambda _: next(losses))
    last = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert best == 1.0
    assert same(model.state_dict(), last["model"])
    assert not same(model.state_dict(), last["best"])
    assert not model.training


def averaging(**changes):
    settings = {"max_epochs": 4, "patience": 4, "learning_rate": 1e-2, "ema": 0.9, **changes}
    return Schedule(**settings)


def test_the_average_of_the_weights_is_kept(tmp_path):
    """With one step an epoch, whose weights can be watched."""
    model = make_model()
    seen = [{name: value.clone() for name, value in model.state_dict().items()}]

    def one(epoch):
        yield next(batches(epoch))

    def watching(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return validate(model)

    train(model, tmp_path, batches=one, validate=watching, schedule=averaging())
    assert len(seen) == 5
    expected, *later = seen
    for state in later:
        expected = {
            name: 0.9 * value + 0.1 * state[name] if value.is_floating_point() else state[name]
            for name, value in expected.items()
        }
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not same(model.state_dict(), seen[-1])
    assert not model.training


@pytest.mark.parametrize("failing", [1, 3])
def test_a_broken_run_goes_on_to_the_same_average(tmp_path, failing):
    whole = make_model()
    train(whole, tmp_path / "whole", schedule=averaging())

    def breaking(epoch):
        for number, batch in enumerate(batches(epoch)):
            if epoch == failing and number == 10:
                raise BrokenError
            yield batch

    with pytest.raises(BrokenError):
        train(make_model(), tmp_path / "broken", batches=breaking, schedule=averaging())
    continued = make_model()
    train(continued, tmp_path / "broken", schedule=averaging())
    assert same(continued.state_dict(), whole.state_dict())


def test_where_nothing_is_held_out_the_training_loss_counts(tmp_path):
    model = make_model()
    best = train(model, tmp_path, validate=lambda _: None, schedule=averaging())
    rows = curves(tmp_path)
    assert [row["validation_loss"] for row in rows] == ["n/a"] * 4
    assert best == pytest.approx(min(float(row["training_loss"]) for row in rows), abs=1e-5)
    with pytest.raises(StartError, match="is no number"):
        train(
            make_model(),
            tmp_path / "other",
            validate=lambda _: None,
            loss=lambda output, wanted: F.mse_loss(output, wanted) * math.nan,
            schedule=averaging(keep_last=True),
        )


def test_a_step_is_no_longer_than_its_gradient_is_let(tmp_path, monkeypatch):
    monkeypatch.setitem(loop.OPTIMISERS, "SGD", torch.optim.SGD)

    def moved(name, **changes):
        model = nn.Linear(3, 1)
        before = [p.detach().clone() for p in model.parameters()]
        schedule = Schedule(1, 1, 1e-2, optimiser="SGD", decay=constant, **changes)
        train(model, tmp_path / name, batches=lambda _: [next(batches(0))], schedule=schedule)
        pairs = zip(model.parameters(), before, strict=True)
        return float(torch.cat([(a.detach() - b).flatten() for a, b in pairs]).norm())

    torch.manual_seed(0)
    assert moved("free") > 1.1e-3
    assert moved("short", max_norm=0.1) == pytest.approx(1e-3, rel=1e-3)
