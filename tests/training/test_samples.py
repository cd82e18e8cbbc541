"""Crops of samples, and a network that learns from them."""

import numpy as np
import torch

from cascade_bids.network.cascade import CandidateRule, Stage
from cascade_bids.network.folded import FoldedUNet
from cascade_bids.training import cascade, engine, samples
from cascade_bids.training.cascade import train_stages
from cascade_bids.training.engine import Engine
from cascade_bids.training.loop import Schedule
from cascade_bids.training.recipes import find_recipe
from cascade_bids.training.sample import Sample
from cascade_bids.training.samples import cut_crops, fit_samples

from .tiny_engine import make_donor, make_head


def test_every_second_crop_shows_a_lesion_and_only_what_counts_counts():
    lesions = torch.zeros(40, 40, 40, dtype=torch.bool)
    lesions[30:34, 30:34, 30:34] = True
    brain = torch.ones_like(lesions)
    sample = Sample(torch.randn(2, 40, 40, 40), brain, lesions)
    counted = np.ones((40, 40, 40), bool)
    counted[:, :, :8] = False
    rng = torch.Generator().manual_seed(0)
    crops = list(cut_crops(sample, counted, (16, 16, 16), 2, rng))
    inputs = torch.cat([x for x, _ in crops])
    targets = torch.cat([y for _, y in crops])
    assert inputs.shape == (samples.CROPS_PER_SAMPLE, 2, 16, 16, 16)
    assert targets.shape == (samples.CROPS_PER_SAMPLE, 3, 16, 16, 16)
    assert all(targets[number, 0].any() for number in range(0, samples.CROPS_PER_SAMPLE, 2))
    assert (targets[:, 1].flatten(1).any(1) >= targets[:, 0].flatten(1).any(1)).all()
    assert not list(cut_crops(sample, np.zeros_like(counted), (16, 16, 16), 2, rng))


def test_a_cascade_learns_from_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "WINDOW", (48, 48, 48))
    monkeypatch.setattr(samples, "SAMPLES_PER_EPOCH", 1)
    monkeypatch.setattr(samples, "SAMPLES_TO_VALIDATE", 1)
    source = Engine(("FLAIR", "T1w"), (make_head(),), (make_donor(),))
    schedule = Schedule(max_epochs=1, patience=1, learning_rate=1e-3)
    stages = []
    for number, rule in enumerate((CandidateRule(), CandidateRule(previous_above=0.01))):
        torch.manual_seed(number)
        network = FoldedUNet(2, anatomy=False, spheres=True, window=(16, 16, 16), widths=(4, 4))
        before = network.last[0].weight.detach().clone()
        folder = tmp_path / str(number)
        fit_samples(
            network, source, rule, stages, folder, batch_size=2, schedule=schedule, seed=number
        )
        assert not torch.equal(before, network.last[0].weight)
        stages.append(Stage(network, rule))


def test_each_network_starts_with_its_own_earlier_weights_or_those_of_the_one_before(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(cascade, "fit_samples", lambda *_, **__: None)
    recipe = find_recipe("cascade")
    source = Engine(("FLAIR", "T1w"), (make_head(),), (make_donor(),))
    arguments = {
        "work_dir": tmp_path,
        "schedules": [recipe.schedule] * 2,
        "seed": 0,
        "device": torch.device("cpu"),
        "engine": source,
    }

    def weights(stage: Stage) -> torch.Tensor:
        return torch.cat([one.flatten() for one in stage.network.state_dict().values()])

    first, second = train_stages(recipe, [], ("FLAIR", "T1w"), **arguments)
    assert torch.equal(weights(first), weights(second))
    torch.manual_seed(7)
    torch.nn.init.normal_(next(second.network.parameters()))
    again = train_stages(recipe, [], ("FLAIR", "T1w"), **arguments, start=[first, second])
    assert torch.equal(weights(again[0]), weights(first))
    assert torch.equal(weights(again[1]), weights(second))
