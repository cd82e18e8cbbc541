"""Voxels of samples, the atlas, and networks that learn from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cascade_bids.errors import UsageError
from cascade_bids.network import place
from cascade_bids.network.cascade import CandidateRule, Stage
from cascade_bids.network.context import ContextNetwork
from cascade_bids.network.jets import JetNetwork
from cascade_bids.training import cascade, engine, painting, samples
from cascade_bids.training.cascade import train_stages
from cascade_bids.training.engine import Engine
from cascade_bids.training.loop import Schedule
from cascade_bids.training.recipes import find_recipe
from cascade_bids.training.sample import Kind, Sample
from cascade_bids.training.samples import choose_voxels, draw_atlas, fit_samples

from .tiny_engine import CENTRE, make_donor, make_head

SOURCE = Engine(("FLAIR", "T1w"), (make_head(),), (make_donor(),))
ALL = CandidateRule()
SCHEDULE = Schedule(max_epochs=30, patience=30, learning_rate=1e-2, keep_last=True)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(engine, "WINDOW", (48, 48, 48))
    monkeypatch.setattr(painting, "HEALTHY", 0.0)
    monkeypatch.setattr(painting, "STEEP", 0.0)
    monkeypatch.setattr(samples, "SAMPLES", 3)
    monkeypatch.setattr(samples, "SAMPLES_TO_VALIDATE", 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def learn(network, folder, *, before=(), rule=ALL, seed=0, **changes):
    arguments = {"batch_size": 256, "schedule": SCHEDULE, "seed": seed} | changes
    fit_samples(network, SOURCE, rule, before, folder, **arguments)


def test_chosen_voxels_stand_for_all_of_their_kind(monkeypatch):
    monkeypatch.setattr(samples, "LESION_VOXELS", 10)
    monkeypatch.setattr(samples, "OTHER_VOXELS", 20)
    lesions = torch.zeros(30, 30, 30, dtype=torch.bool)
    lesions[10:14, 10:14, 10:14] = True
    brain = torch.zeros_like(lesions)
    brain[5:25, 5:25, 5:25] = True
    volume = torch.zeros(2, 30, 30, 30)
    volume[0] = lesions.float()
    sample = Sample(volume, brain, lesions, torch.zeros(30, 30, 30, 3))
    found = choose_voxels(JetNetwork(2), sample, ALL, [], SOURCE, rng())
    is_lesion, stands_for, real = found.target.T
    assert not real.any()
    assert is_lesion.sum() == 10
    assert len(is_lesion) == 30
    assert stands_for[is_lesion == 1].sum() == pytest.approx(64)
    assert stands_for[is_lesion == 0].sum() == pytest.approx(8000 - 64)
    # The first feature is the FLAIR as it is.
    np.testing.assert_array_equal(found.features[:, 0], is_lesion)
    bright = choose_voxels(
        JetNetwork(2), sample, CandidateRule(flair_above_z=0.5), [], SOURCE, rng()
    )
    assert bright.target[:, 0].all()


def test_the_atlas_shows_lesions_where_donors_have_them_and_on_the_other_side():
    donor = make_donor()
    atlas = draw_atlas([donor]).numpy()
    assert atlas.shape == place.ATLAS_SHAPE
    assert 0 < atlas.max() <= 1
    heaviest = (
        np.argwhere(atlas > 0.5 * atlas.max()).mean(0) * place.ATLAS_MM + place.ATLAS_ORIGIN_MM
    )
    lesion = np.argwhere(donor.mask.numpy()).mean(0) - CENTRE
    assert heaviest[0] == pytest.approx(0, abs=2.5)
    assert abs(heaviest[1] - lesion[1]) < 8
    side = np.argwhere(atlas > 0.01)[:, 0] * place.ATLAS_MM + place.ATLAS_ORIGIN_MM[0]
    assert side.min() == pytest.approx(-side.max(), abs=place.ATLAS_MM)
    assert not draw_atlas([]).any()


def test_a_cascade_learns_to_tell_lesions(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SAMPLES", 32)
    # All white matter of the small head lies where caps and linings are.
    monkeypatch.setattr(painting, "LOOK_ALIKES", ())
    stages = []
    for number, rule in enumerate((ALL, CandidateRule(previous_above=0.01))):
        torch.manual_seed(number)
        network = JetNetwork(2, cascaded=number > 0, hidden=(16,))
        learn(network, tmp_path / str(number), before=stages, rule=rule, seed=number)
        assert not network.training
        assert 0 < network.prior < 1
        stages.append(Stage(network, rule))
        found = [
            choose_voxels(
                network, SOURCE.draw(rng(n), Kind.MADE_UP), rule, stages[:-1], SOURCE, rng()
            )
            for n in range(95, 100)
        ]
        with torch.inference_mode():
            sure = torch.cat([network(torch.from_numpy(one.features))[:, 0] for one in found])
        lesion = np.concatenate([one.target[:, 0] for one in found]) == 1
        assert roc_auc_score(lesion, sure) > 0.85


def test_each_expert_learns_from_its_own_kind_of_scans(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 67)).astype(np.float32)
    real = np.arange(4000) % 2
    # What is a lesion in one kind of scan is none in the other.
    lesion = (features[:, 0] > 0) == (real == 1)
    target = np.stack([lesion, np.ones(4000), real], axis=1).astype(np.float32)
    torch.manual_seed(0)
    network = JetNetwork(1, cascaded=True, hidden=(8,), experts=2)
    voxels = samples.Voxels(features[:, : network.count], target)
    samples._fit_voxels(network, voxels, voxels, tmp_path, 256, SCHEDULE, 0)
    with torch.inference_mode():
        made_up, taken = network(torch.from_numpy(voxels.features)).T > 0
    assert (made_up.numpy() == (features[:, 0] < 0)).mean() > 0.9
    assert (taken.numpy() == (features[:, 0] > 0)).mean() > 0.9


def test_the_prior_is_the_mean_of_the_kinds():
    target = np.array([[1, 1, 0], [0, 3, 0], [1, 1, 1], [0, 1, 1]], np.float32)
    assert samples._find_prior(target) == pytest.approx((0.25 + 0.5) / 2)


def test_a_broken_training_draws_nothing_twice(tmp_path, monkeypatch):
    learn(JetNetwork(2, hidden=(4,)), tmp_path)
    monkeypatch.setattr(samples, "choose_voxels", None)
    again = JetNetwork(2, hidden=(4,))
    learn(again, tmp_path)
    assert again.middle.any()


def test_scans_drawn_side_by_side_are_the_same(tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            learn(JetNetwork(2, hidden=(4,)), tmp_path / str(threads))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for path in (tmp_path / "1" / "learned").glob("*.npz"):
        with np.load(path) as one, np.load(tmp_path / "3" / "learned" / path.name) as other:
            np.testing.assert_array_equal(one["target"], other["target"])
            np.testing.assert_allclose(one["features"], other["features"], rtol=1e-5, atol=1e-5)


def test_known_networks_keep_their_atlas_and_the_scale_of_their_features(tmp_path):
    network = JetNetwork(2, hidden=(4,))
    network.atlas.fill_(0.25)
    network.spread.fill_(3.0)
    learn(network, tmp_path, known=True)
    assert (network.atlas == 0.25).all()
    assert (network.spread == 3.0).all()


def test_with_little_time_fewer_scans_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SAMPLES", 50)
    short = Schedule(max_epochs=1, patience=1, learning_rate=1e-3, max_minutes=0.001)
    learn(JetNetwork(2, hidden=(4,)), tmp_path, schedule=short)
    drawn = len(list((tmp_path / "learned").glob("*.npz")))
    assert 1 <= drawn < 10
    # With more time it is still the same training.
    learn(JetNetwork(2, hidden=(4,)), tmp_path, schedule=replace(short, max_minutes=10))
    assert len(list((tmp_path / "learned").glob("*.npz"))) == drawn


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([Kind.MADE_UP], [True, False]),
        ([Kind.MADE_UP, Kind.UNLABELLED], [True, False]),
        ([Kind.LABELLED, Kind.UNLABELLED], [False, True]),
        (list(Kind), [True, True]),
    ],
)
def test_an_expert_without_its_kind_of_scans_stays_as_it_is(tmp_path, kinds, expected):
    network = JetNetwork(2, hidden=(4,), experts=2)
    before = [expert[0].weight.clone() for expert in network.experts]
    features = np.random.default_rng(0).normal(size=(90, network.count)).astype(np.float32)
    target = np.array([(n % 2, 1, kinds[n % len(kinds)]) for n in range(90)], np.float32)
    drawn = samples.Voxels(features, target)
    short = Schedule(max_epochs=1, patience=1, learning_rate=1e-2)
    samples._fit_voxels(network, drawn, drawn, tmp_path, 30, short, 0)
    changed = [
        not torch.equal(expert[0].weight, weight)
        for expert, weight in zip(network.experts, before, strict=True)
    ]
    assert changed == expected


@pytest.mark.parametrize("experts", [1, 2])
def test_all_experts_learn_from_unlabelled_scans(experts):
    target = torch.tensor([[0, 1, kind] for kind in Kind])
    taught = samples._choose_experts(JetNetwork(2, hidden=(4,), experts=experts), target)
    expected = {1: [[True]] * 3, 2: [[True, False], [False, True], [True, True]]}
    assert taught.tolist() == expected[experts]


def test_a_stage_that_finds_nothing_ends_the_training(tmp_path):
    rule = CandidateRule(flair_above_z=1000)
    with pytest.raises(UsageError, match="train it longer"):
        learn(JetNetwork(2, hidden=(4,)), tmp_path, rule=rule)


def test_each_network_starts_with_its_own_earlier_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(cascade, "fit_samples", lambda *_, **__: None)
    recipe = find_recipe("cascade")
    arguments = {
        "work_dir": tmp_path,
        "schedules": [recipe.schedule] * 2,
        "device": torch.device("cpu"),
        "engine": SOURCE,
    }

    def weights(stage: Stage) -> torch.Tensor:
        return torch.cat([one.flatten() for one in stage.network.state_dict().values()])

    first = train_stages(recipe, [], ("FLAIR", "T1w"), seed=0, **arguments)
    assert [stage.network.cascaded for stage in first[:2]] == [False, True]
    assert isinstance(first[2].network, ContextNetwork)
    again = train_stages(recipe, [], ("FLAIR", "T1w"), seed=1, **arguments, start=first)
    for before, after in zip(first, again, strict=True):
        assert torch.equal(weights(before), weights(after))
