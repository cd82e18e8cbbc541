"""Stages are trained one after the other, in one round or two, from scratch or known weights."""

from dataclasses import replace

import pytest
import torch

from cascade_bids.models.architectures.context import ContextNetwork
from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.training_data import ScanKind
from cascade_bids.training import stages as module
from cascade_bids.training.recipes import find_recipe
from cascade_bids.training.stages import train_stages
from cascade_bids.training.synthesis.generator import ScanGenerator

from .tiny_anatomy import make_anatomy, make_donor

CONTRASTS = ("FLAIR", "T1w")
RECIPE = find_recipe("perceptrons")
GENERATOR = ScanGenerator(CONTRASTS, (make_anatomy(),), (make_donor(),))


@pytest.fixture
def learned(monkeypatch):
    """What each network was to learn from, in turn; all its weights become its number, from 1."""
    learned = []

    def fit(network, data):
        learned.append(data)
        for weight in network.parameters():
            torch.nn.init.constant_(weight, len(learned))

    monkeypatch.setattr(GaussianDerivativePerceptron, "fit", fit)
    return learned


def train(folder, *, generator=GENERATOR, schedule=RECIPE.schedule, seed=0, start=()):
    return train_stages(
        RECIPE,
        [],
        CONTRASTS,
        folder,
        schedules=[schedule] * 2,
        seed=seed,
        device=torch.device("cpu"),
        generator=generator,
        start=start,
    )


def test_each_network_starts_with_its_own_earlier_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(GaussianDerivativePerceptron, "fit", lambda *_: None)

    def weights(stage):
        return torch.cat([one.flatten() for one in stage.network.state_dict().values()])

    first = train(tmp_path)
    assert [stage.network.cascaded for stage in first[:2]] == [False, True]
    assert isinstance(first[2].network, ContextNetwork)
    again = train(tmp_path, seed=1, start=first)
    for before, after in zip(first, again, strict=True):
        assert torch.equal(weights(before), weights(after))


def test_known_weights_learn_at_half_the_rate(tmp_path, learned):
    first = train(tmp_path)
    train(tmp_path / "again", start=first)
    rates = [data.schedule.learning_rate / RECIPE.schedule.learning_rate for data in learned]
    assert rates == [1, 1, 0.5, 0.5]
    assert [data.start for data in learned] == [None, None, *(one.network for one in first[:2])]


def test_a_second_round_learns_from_unlabelled_scans_too(
    scanned, unlabelled, tmp_path, monkeypatch, learned
):
    monkeypatch.setattr(module, "find_ignore_masks", lambda scans, *_: [unlabelled] * len(scans))
    schedule = replace(RECIPE.schedule, max_minutes=4.0)
    generator = replace(GENERATOR, real=(scanned,), unlabelled=(scanned,))
    stages = train(tmp_path, generator=generator, schedule=schedule)
    assert [data.start is not None for data in learned] == [False, False, True, True]
    assert [data.schedule.max_minutes for data in learned] == [2.0] * 4
    # No network draws the scans of another.
    assert len({data.seed for data in learned}) == 4
    for data in learned[:2]:
        assert data.generator.anatomies
        assert not data.generator.unlabelled
    for data in learned[2:]:
        assert data.kinds == tuple(ScanKind)
        assert data.generator.unlabelled == (unlabelled,)
    # Two experts, whose weights are the mean of those after both rounds.
    for stage, number in zip(stages[:2], (2, 3), strict=True):
        assert len(stage.network.experts) == 2
        assert stage.network.share == round(1 / 11, 4)
        assert (stage.network.experts[0][0].weight == number).all()
    # What is known of labelled scans is kept, though there are none to go on with.
    again = train(tmp_path / "again", schedule=schedule, start=stages)
    assert [stage.network.share for stage in again[:2]] == [round(1 / 11, 4)] * 2
    learned.clear()
    # Without labelled scans there is one expert, and a second round all the same.
    alone = replace(generator, real=())
    stages = train(tmp_path / "alone", generator=alone, schedule=schedule)
    assert len(learned) == 4
    assert [len(stage.network.experts) for stage in stages[:2]] == [1, 1]
