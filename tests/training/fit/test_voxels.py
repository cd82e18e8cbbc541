"""Voxels of drawn scans, the atlas, and perceptrons that learn from them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cascade_bids.errors import UsageError
from cascade_bids.models.architectures import perceptron
from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.network import CandidateRule
from cascade_bids.models.predict import Stage
from cascade_bids.models.training_data import ScanKind, Voxels
from cascade_bids.preprocess.coordinates import ATLAS_MM, ATLAS_ORIGIN_MM, ATLAS_SHAPE
from cascade_bids.training.fit import voxels
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.fit.voxels import choose_voxels, draw_atlas
from cascade_bids.training.recipes import find_recipe
from cascade_bids.training.stage_data import StageData
from cascade_bids.training.synthesis import generator, painting
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.synthesis.sample import Sample

from ..tiny_anatomy import CENTRE, make_anatomy, make_donor

CONTRASTS = ("FLAIR", "T1w")
GENERATOR = ScanGenerator(CONTRASTS, (make_anatomy(),), (make_donor(),))
ALL = CandidateRule()
SCHEDULE = Schedule(max_epochs=30, patience=30, learning_rate=1e-2, keep_last=True)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(generator, "WINDOW", (48, 48, 48))
    monkeypatch.setattr(painting, "HEALTHY", 0.0)
    monkeypatch.setattr(painting, "STEEP", 0.0)
    monkeypatch.setattr(voxels, "SCANS", 3)
    monkeypatch.setattr(voxels, "SCANS_TO_VALIDATE", 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def describe_stage(kind, folder, batch_size=256, **changes):
    """Return what the network of a first stage learns from."""
    recipe = replace(find_recipe("perceptrons"), batch_size=batch_size)
    fields = {
        "stage": 1,
        "recipe": recipe,
        "cases": [],
        "contrasts": CONTRASTS,
        "learn": ALL,
        "before": [],
        "folder": folder,
        "schedule": SCHEDULE,
        "seed": 0,
        "device": torch.device("cpu"),
        "generator": GENERATOR,
    }
    return kind(**fields | changes)


def learn(network, folder, **changes):
    network.fit(describe_stage(StageData, folder, **changes))


@dataclass(frozen=True)
class Described(StageData):
    """Voxels that are chosen and described already."""

    drawn: Voxels | None = None

    def voxels(self, describe, needed):
        return self.drawn, self.drawn


def learn_described(network, drawn, folder, **changes):
    """Train a network that keeps the scale of its features."""
    network.fit(describe_stage(Described, folder, drawn=drawn, start=network, **changes))


def choose(network, sample, rule=ALL, before=()):
    volume = sample.to_volume(CONTRASTS)
    return choose_voxels(network.describe_voxels, sample, volume, rule, before, rng())


def test_chosen_voxels_stand_for_all_of_their_kind(monkeypatch):
    monkeypatch.setattr(voxels, "LESION_VOXELS", 10)
    monkeypatch.setattr(voxels, "OTHER_VOXELS", 20)
    lesions = torch.zeros(30, 30, 30, dtype=torch.bool)
    lesions[10:14, 10:14, 10:14] = True
    brain = torch.zeros_like(lesions)
    brain[5:25, 5:25, 5:25] = True
    channels = torch.zeros(2, 30, 30, 30)
    channels[0] = lesions.float()
    sample = Sample(channels, brain, lesions, torch.zeros(30, 30, 30, 3))
    found = choose(GaussianDerivativePerceptron(2), sample)
    is_lesion, stands_for, kind = found.target.T
    assert (kind == ScanKind.SYNTHETIC).all()
    assert is_lesion.sum() == 10
    assert len(is_lesion) == 30
    assert stands_for[is_lesion == 1].sum() == pytest.approx(64)
    assert stands_for[is_lesion == 0].sum() == pytest.approx(8000 - 64)
    # The first feature is the FLAIR as it is.
    np.testing.assert_array_equal(found.features[:, 0], is_lesion)
    bright = choose(GaussianDerivativePerceptron(2), sample, CandidateRule(flair_above_z=0.5))
    assert bright.target[:, 0].all()


def test_the_atlas_shows_lesions_where_donors_have_them_and_on_the_other_side():
    donor = make_donor()
    atlas = draw_atlas([donor]).numpy()
    assert atlas.shape == ATLAS_SHAPE
    assert 0 < atlas.max() <= 1
    heaviest = np.argwhere(atlas > 0.5 * atlas.max()).mean(0) * ATLAS_MM + ATLAS_ORIGIN_MM
    lesion = np.argwhere(donor.mask.numpy()).mean(0) - CENTRE
    assert heaviest[0] == pytest.approx(0, abs=2.5)
    assert abs(heaviest[1] - lesion[1]) < 8
    side = np.argwhere(atlas > 0.01)[:, 0] * ATLAS_MM + ATLAS_ORIGIN_MM[0]
    assert side.min() == pytest.approx(-side.max(), abs=ATLAS_MM)
    assert not draw_atlas([]).any()


@pytest.mark.slow
def test_a_cascade_learns_to_tell_lesions(tmp_path, monkeypatch):
    monkeypatch.setattr(voxels, "SCANS", 32)
    # All white matter of the small head lies where caps and linings are.
    monkeypatch.setattr(painting, "LOOK_ALIKES", ())
    stages = []
    for number, rule in enumerate((ALL, CandidateRule(previous_above=0.01))):
        torch.manual_seed(number)
        network = GaussianDerivativePerceptron(2, cascaded=number > 0, hidden=(16,))
        learn(network, tmp_path / str(number), before=stages, learn=rule, seed=number)
        assert not network.training
        assert 0 < network.prior < 1
        stages.append(Stage(network, rule))
        found = [
            choose(network, GENERATOR.draw(rng(seed), ScanKind.SYNTHETIC), rule, stages[:-1])
            for seed in range(95, 100)
        ]
        with torch.inference_mode():
            sure = torch.cat([network(torch.from_numpy(one.features))[:, 0] for one in found])
        lesion = np.concatenate([one.target[:, 0] for one in found]) == 1
        assert roc_auc_score(lesion, sure) > 0.85


def test_each_expert_learns_from_its_own_kind_of_scans(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 67)).astype(np.float32)
    kind = np.arange(4000) % 2
    # What is a lesion in one kind of scan is none in the other.
    lesion = (features[:, 0] > 0) == (kind == ScanKind.LABELLED)
    target = np.stack([lesion, np.ones(4000), kind], axis=1).astype(np.float32)
    torch.manual_seed(0)
    network = GaussianDerivativePerceptron(1, cascaded=True, hidden=(8,), experts=2)
    drawn = Voxels(features[:, : network.count], target)
    learn_described(network, drawn, tmp_path)
    with torch.inference_mode():
        synthetic, labelled = network(torch.from_numpy(drawn.features)).T > 0
    assert (synthetic.numpy() == (features[:, 0] < 0)).mean() > 0.9
    assert (labelled.numpy() == (features[:, 0] > 0)).mean() > 0.9


def test_the_prior_is_the_mean_of_the_kinds():
    target = np.array([[1, 1, 0], [0, 3, 0], [1, 1, 1], [0, 1, 1]], np.float32)
    assert perceptron._find_prior(target) == pytest.approx((0.25 + 0.5) / 2)


@pytest.mark.slow
def test_a_broken_training_draws_nothing_twice(tmp_path, monkeypatch):
    learn(GaussianDerivativePerceptron(2, hidden=(4,)), tmp_path)
    monkeypatch.setattr(voxels, "choose_voxels", None)
    again = GaussianDerivativePerceptron(2, hidden=(4,))
    learn(again, tmp_path)
    assert again.middle.any()


def test_scans_drawn_side_by_side_are_the_same(tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            learn(GaussianDerivativePerceptron(2, hidden=(4,)), tmp_path / str(threads))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for path in (tmp_path / "1" / "learned").glob("*.npz"):
        with np.load(path) as one, np.load(tmp_path / "3" / "learned" / path.name) as other:
            np.testing.assert_array_equal(one["target"], other["target"])
            np.testing.assert_allclose(one["features"], other["features"], rtol=1e-5, atol=1e-5)


def test_known_networks_keep_their_atlas_and_the_scale_of_their_features(tmp_path):
    network = GaussianDerivativePerceptron(2, hidden=(4,))
    network.atlas.fill_(0.25)
    network.spread.fill_(3.0)
    learn(network, tmp_path, start=network)
    assert (network.atlas == 0.25).all()
    assert (network.spread == 3.0).all()


def test_with_little_time_fewer_scans_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(voxels, "SCANS", 50)
    short = Schedule(max_epochs=1, patience=1, learning_rate=1e-3, max_minutes=0.001)
    learn(GaussianDerivativePerceptron(2, hidden=(4,)), tmp_path, schedule=short)
    drawn = len(list((tmp_path / "learned").glob("*.npz")))
    assert 1 <= drawn < 10
    # With more time it is still the same training.
    learn(
        GaussianDerivativePerceptron(2, hidden=(4,)),
        tmp_path,
        schedule=replace(short, max_minutes=10),
    )
    assert len(list((tmp_path / "learned").glob("*.npz"))) == drawn


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([ScanKind.SYNTHETIC], [True, False]),
        ([ScanKind.SYNTHETIC, ScanKind.UNLABELLED], [True, False]),
        ([ScanKind.LABELLED, ScanKind.UNLABELLED], [False, True]),
        (list(ScanKind), [True, True]),
    ],
)
def test_an_expert_without_its_kind_of_scans_stays_as_it_is(tmp_path, kinds, expected):
    network = GaussianDerivativePerceptron(2, hidden=(4,), experts=2)
    before = [expert[0].weight.clone() for expert in network.experts]
    features = np.random.default_rng(0).normal(size=(90, network.count)).astype(np.float32)
    target = np.array([(n % 2, 1, kinds[n % len(kinds)]) for n in range(90)], np.float32)
    drawn = Voxels(features, target)
    short = Schedule(max_epochs=1, patience=1, learning_rate=1e-2)
    learn_described(network, drawn, tmp_path, batch_size=30, schedule=short)
    changed = [
        not torch.equal(expert[0].weight, weight)
        for expert, weight in zip(network.experts, before, strict=True)
    ]
    assert changed == expected


@pytest.mark.parametrize("experts", [1, 2])
def test_all_experts_learn_from_unlabelled_scans(experts):
    target = torch.tensor([[0, 1, kind] for kind in ScanKind])
    network = GaussianDerivativePerceptron(2, hidden=(4,), experts=experts)
    taught = network._choose_experts(target)
    expected = {1: [[True]] * 3, 2: [[True, False], [False, True], [True, True]]}
    assert taught.tolist() == expected[experts]


def test_a_stage_that_finds_nothing_ends_the_training(tmp_path):
    rule = CandidateRule(flair_above_z=1000)
    with pytest.raises(UsageError, match="train it longer"):
        learn(GaussianDerivativePerceptron(2, hidden=(4,)), tmp_path, learn=rule)
