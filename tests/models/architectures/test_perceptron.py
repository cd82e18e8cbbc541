"""A perceptron classifies voxels alike in a mirrored head; its experts learn from their scans."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from cascade_bids.models.architectures import perceptron
from cascade_bids.models.architectures.gaussian_derivatives import COUNT
from cascade_bids.models.architectures.perceptron import (
    GaussianDerivativePerceptron,
    adapt_to_scan,
)
from cascade_bids.models.card import load_card
from cascade_bids.models.network import CandidateRule, LesionMaps, Volume
from cascade_bids.models.predict import Stage, predict_lesions, predict_stages
from cascade_bids.models.probabilities import adapt_prior, combine
from cascade_bids.models.training_data import ScanKind, Voxels
from cascade_bids.preprocess.coordinates import ATLAS_MM, ATLAS_ORIGIN_MM, ATLAS_SHAPE, RARE

SHAPE = (30, 32, 28)
MIDDLE = (15, 16, 14)
NOTHING = np.zeros(SHAPE, np.float32)


def brain():
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    return inside


def coordinates():
    return (np.moveaxis(np.indices(SHAPE), 0, -1) - MIDDLE).astype(np.float32)


def volume_of(*images, inside=None, locate=coordinates):
    inside = brain() if inside is None else inside
    channels = np.stack([np.where(inside, image, 0).astype(np.float32) for image in images])
    return Volume(torch.from_numpy(channels), channels[0], inside, locate)


def describe(image, network=None, previous=NOTHING, inside=None, at=MIDDLE):
    network = network or GaussianDerivativePerceptron(1)
    voxels = tuple(np.array([index]) for index in at)
    found = network.describe_voxels(volume_of(image, inside=inside), voxels, previous)
    assert found.shape == (1, network.count)
    assert found.dtype == np.float32
    return found[0]


def blob(width, centre=MIDDLE):
    squares = ((np.moveaxis(np.indices(SHAPE), 0, -1) - centre) / width) ** 2
    return np.exp(-squares.sum(-1) / 2)


def test_a_mirrored_head_has_the_same_features():
    rng = np.random.default_rng(0)
    image, inside = rng.normal(size=SHAPE), brain()
    inside[:, :, :6] = False
    at = (11, 9, 17)
    mirrored = (SHAPE[0] - 1 - at[0], *at[1:])
    network = GaussianDerivativePerceptron(1)
    network.atlas[:] = torch.rand(network.atlas.shape)
    network.atlas[:] = network.atlas + network.atlas.flip(0)
    one = describe(image, network, inside=inside, at=at)
    volume = volume_of(
        image[::-1],
        inside=inside[::-1],
        locate=lambda: coordinates()[::-1] * np.float32((-1, 1, 1)),
    )
    voxels = tuple(np.array([index]) for index in mirrored)
    other = network.describe_voxels(volume, voxels, NOTHING)[0]
    np.testing.assert_allclose(other, one, atol=1e-4)


def test_what_lies_outside_the_brain_has_no_part():
    image, inside = np.random.default_rng(0).normal(size=SHAPE), brain()
    inside[18:] = False
    elsewhere = image.copy()
    elsewhere[18:] = 1000
    np.testing.assert_array_equal(
        describe(image, inside=inside), describe(elsewhere, inside=inside)
    )


def test_a_missing_contrast_has_no_features():
    network = GaussianDerivativePerceptron(2)
    voxels = tuple(np.array([index]) for index in MIDDLE)
    found = network.describe_voxels(volume_of(blob(3.0), NOTHING), voxels, NOTHING)[0]
    assert len(found) == network.count
    assert not found[COUNT : 2 * COUNT].any()
    assert found[:COUNT].any()


def test_the_atlas_is_read_where_a_voxel_lies():
    network = GaussianDerivativePerceptron(1)
    network.atlas[:] = 0.01
    usual = describe(blob(2.0), network)
    index = np.round((np.zeros(3) - ATLAS_ORIGIN_MM) / ATLAS_MM).astype(int)
    network.atlas[tuple(slice(i - 1, i + 2) for i in index)] = 0.5
    often = describe(blob(2.0), network)
    changed = np.flatnonzero(usual != often)
    assert len(changed) == 1
    assert often[changed] == pytest.approx(np.log(0.5 + RARE), rel=1e-4)


def test_a_later_stage_sees_the_probability_of_the_one_before():
    network = GaussianDerivativePerceptron(1, cascaded=True)
    sure = np.where(blob(3.0) > 0.5, 0.9, 0.0).astype(np.float32)
    without, given = (describe(blob(2.0), network, previous=p) for p in (NOTHING, sure))
    np.testing.assert_allclose(without[COUNT : 2 * COUNT], 0, atol=1e-3)
    assert given[COUNT] > 8
    # To a first stage nothing comes before.
    first = GaussianDerivativePerceptron(1)
    assert first.count == network.count - COUNT - 1
    np.testing.assert_array_equal(
        describe(blob(2.0), first, previous=sure), describe(blob(2.0), first)
    )


def test_only_candidates_are_classified():
    torch.manual_seed(0)
    network = GaussianDerivativePerceptron(1).eval()
    volume = volume_of(blob(3.0))
    candidates = volume.flair > 0.5
    maps = network.predict(volume, candidates, NOTHING)
    assert maps.spheres is None
    assert maps.probability.dtype == np.float32
    assert ((maps.probability > 0) == candidates).all()
    assert (maps.probability < 1).all()
    none = np.zeros_like(candidates)
    assert not network.predict(volume, none, NOTHING).probability.any()
    # Nor does it need coordinates then.
    nowhere = replace(volume, locate=None)
    assert not network.predict(nowhere, none, NOTHING).probability.any()


def test_many_voxels_are_classified_in_parts(monkeypatch):
    torch.manual_seed(0)
    network = GaussianDerivativePerceptron(1).eval()
    volume = volume_of(blob(3.0))
    whole = network.predict(volume, volume.flair > 0.1, NOTHING).probability
    monkeypatch.setattr(perceptron, "_AT_ONCE", 100)
    parts = network.predict(volume, volume.flair > 0.1, NOTHING).probability
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_only_candidates_are_adapted_to_the_scan():
    network = GaussianDerivativePerceptron(1)
    before = np.zeros(SHAPE, np.float32)
    before[10:14] = 0.2
    np.testing.assert_array_equal(adapt_to_scan(network, before), before)
    network.prior.fill_(0.5)
    adapted = adapt_to_scan(network, before)
    np.testing.assert_allclose(adapted[10:14], adapt_prior(before[10:14].ravel(), 0.5)[0])
    assert not adapted[14:].any()


def test_what_it_merges_with_the_stages_before_is_adapted_to_the_scan():
    network = GaussianDerivativePerceptron(1)
    network.prior.fill_(0.3)
    rng = np.random.default_rng(0)
    previous, own, first = rng.random((3, *SHAPE)).astype(np.float32) * brain()
    alone = network.merge(NOTHING, [LesionMaps(own)], "mean")
    np.testing.assert_array_equal(alone, adapt_to_scan(network, own))
    for combination in ("mean", "last", "product"):
        found = network.merge(previous, [LesionMaps(first), LesionMaps(own)], combination)
        # What was adapted before counts, not what the stage before predicted.
        expected = adapt_to_scan(network, combine([previous, own], combination))
        np.testing.assert_array_equal(found, expected)


def test_the_expert_of_labelled_scans_has_its_share_in_the_mean_of_logits():
    torch.manual_seed(0)
    network = GaussianDerivativePerceptron(1, experts=2, share=0.25).eval()
    volume = volume_of(blob(3.0))
    candidates = volume.flair > 0.9
    both = network.predict(volume, candidates, NOTHING).probability
    for expert in network.experts:
        torch.nn.init.constant_(expert[-1].bias, 2.0)
        torch.nn.init.zeros_(expert[-1].weight)
    torch.nn.init.constant_(network.experts[0][-1].bias, 0.2)
    even = network.predict(volume, candidates, NOTHING).probability
    assert both[candidates].std() > 0
    np.testing.assert_allclose(even[candidates], 1 / (1 + np.exp(-0.65)), rtol=1e-5)


def test_a_cascade_of_them_runs_and_needs_coordinates():
    torch.manual_seed(0)
    stages = [
        Stage(GaussianDerivativePerceptron(1, cascaded=number > 0).eval(), rule)
        for number, rule in enumerate((CandidateRule(), CandidateRule(previous_above=0.4)))
    ]
    flair = np.where(brain(), blob(3.0), 0).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = -np.array(MIDDLE)
    card = replace(load_card("valverde2017"), contrasts=("FLAIR",))
    found, mirrored = (
        predict_lesions(stages, card, {"FLAIR": flair}, brain(), affine=affine, mirrored=turned)
        for turned in (False, True)
    )
    assert found.spheres is None
    assert found.probability.any()
    # Whatever the networks are, a mirrored head gives the same.
    np.testing.assert_allclose(mirrored.probability, found.probability, atol=1e-5)
    volume = Volume(torch.from_numpy(flair[None]), flair, brain())
    with pytest.raises(ValueError, match="affine"):
        predict_stages(stages, volume, "last")


@dataclass
class VoxelData:
    """What a perceptron learns from, whose voxels are drawn already."""

    learned: Voxels | None = None
    stage: int = 1
    kinds: Any = (ScanKind.SYNTHETIC, ScanKind.LABELLED)
    labelled_participants: int = 0
    start: Any = None
    epochs: int = 1
    rate: float = 1e-2
    batch_size: int = 256
    seed: int = 0
    needed: list = field(default_factory=list)

    def voxels(self, describe, needed):
        self.needed.extend(needed)
        return self.learned, self.learned

    def lesion_atlas(self):
        return torch.full(ATLAS_SHAPE, 0.125)

    def train(self, network, batches, loss):
        learning = [one for one in network.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(learning, self.rate)
        network.train()
        for epoch in range(self.epochs):
            for inputs, target in batches.train(epoch):
                optimiser.zero_grad()
                loss(network(inputs), target).backward()
                optimiser.step()
        network.eval()
        with torch.inference_mode():
            self.loss = [float(loss(network(x), target)) for x, target in batches.validate()]


def make_voxels(network, kinds, count=900):
    """Draw voxels; a lesion in labelled scans is what is none in other scans."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, network.count)).astype(np.float32)
    kind = np.array([kinds[n % len(kinds)] for n in range(count)])
    lesion = (features[:, 0] > 0) == (kind == ScanKind.LABELLED)
    return Voxels(features, np.stack([lesion, np.ones(count), kind], 1).astype(np.float32))


def make_network(**arguments):
    torch.manual_seed(0)
    return GaussianDerivativePerceptron(1, hidden=(8,), **arguments)


def test_each_expert_learns_from_its_own_kind_of_scans():
    network = make_network(experts=2)
    data = VoxelData(epochs=40)
    data.learned = make_voxels(network, data.kinds, count=4000)
    network.fit(data)
    assert data.needed == list(data.kinds)
    assert len(data.loss) == 1
    features = data.learned.features
    with torch.inference_mode():
        of_synthetic, of_labelled = network(torch.from_numpy(features)).numpy().T > 0
    assert (of_synthetic == (features[:, 0] < 0)).mean() > 0.9
    assert (of_labelled == (features[:, 0] > 0)).mean() > 0.9


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([ScanKind.SYNTHETIC], [True, False]),
        ([ScanKind.SYNTHETIC, ScanKind.UNLABELLED], [True, False]),
        ([ScanKind.LABELLED, ScanKind.UNLABELLED], [False, True]),
        (list(ScanKind), [True, True]),
    ],
)
def test_an_expert_without_its_kind_of_scans_stays_as_it_is(kinds, expected):
    network = make_network(experts=2)
    before = [expert[0].weight.clone() for expert in network.experts]
    data = VoxelData(make_voxels(network, kinds), kinds=kinds)
    network.fit(data)
    changed = [
        not torch.equal(expert[0].weight, weight)
        for expert, weight in zip(network.experts, before, strict=True)
    ]
    assert changed == expected
    assert ScanKind.UNLABELLED not in data.needed


@pytest.mark.parametrize("experts", [1, 2])
def test_all_experts_learn_from_unlabelled_scans(experts):
    target = torch.tensor([[0, 1, kind] for kind in ScanKind])
    taught = make_network(experts=experts)._choose_experts(target)
    expected = {1: [[True]] * 3, 2: [[True, False], [False, True], [True, True]]}
    assert taught.tolist() == expected[experts]


def test_features_are_scaled_and_the_atlas_is_that_of_the_training():
    network = make_network()
    voxels = make_voxels(network, [ScanKind.SYNTHETIC])
    voxels = Voxels(3 * voxels.features + 5, voxels.target)
    voxels.features[:, 1] = 7.0  # of no spread
    network.fit(VoxelData(voxels, kinds=[ScanKind.SYNTHETIC]))
    assert (network.atlas == 0.125).all()
    np.testing.assert_allclose(network.middle, voxels.features.mean(0), rtol=1e-4)
    np.testing.assert_allclose(network.spread[2:], voxels.features.std(0)[2:], rtol=1e-2)
    assert network.spread[1] == pytest.approx(1e-3)


def test_a_trained_network_keeps_its_atlas_and_the_scale_of_its_features():
    start = make_network()
    start.atlas.fill_(0.25)
    start.spread.fill_(3.0)
    data = VoxelData(make_voxels(start, [ScanKind.SYNTHETIC]), start=start)
    network = GaussianDerivativePerceptron.build(data, channels_in=1, hidden=(8,))
    for key, value in network.state_dict().items():
        assert torch.equal(value, start.state_dict()[key])
    network.fit(data)
    assert (network.atlas == 0.25).all()
    assert (network.spread == 3.0).all()
    assert not torch.equal(network.experts[0][0].weight, start.experts[0][0].weight)


def test_the_loss_does_not_depend_on_how_many_voxels_scans_have():
    losses = []
    for weight in (1, 50):
        network = make_network()
        voxels = make_voxels(network, [ScanKind.SYNTHETIC])
        voxels.target[:, 1] *= weight
        data = VoxelData(voxels, kinds=[ScanKind.SYNTHETIC])
        network.fit(data)
        losses += data.loss
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_prior_is_the_mean_of_the_kinds():
    network = make_network(experts=2)
    rows = [[1, 1, 0], [0, 3, 0], [1, 1, 1], [0, 1, 1]]
    features = np.random.default_rng(0).normal(size=(4, network.count)).astype(np.float32)
    network.fit(VoxelData(Voxels(features, np.array(rows, np.float32))))
    assert float(network.prior) == pytest.approx((0.25 + 0.5) / 2)


@pytest.mark.parametrize(
    "kinds", [[ScanKind.SYNTHETIC], [*ScanKind], [ScanKind.LABELLED, ScanKind.UNLABELLED]]
)
def test_scans_that_do_not_tell_the_prior_leave_it(kinds):
    """One of two experts did not see them, or the lesions of some are not outlined."""
    network = make_network(experts=2)
    network.prior.fill_(0.0625)
    network.fit(VoxelData(make_voxels(network, kinds), kinds=kinds))
    assert network.prior == 0.0625


@pytest.mark.parametrize(
    ("kinds", "people", "experts", "share"),
    [
        ([ScanKind.SYNTHETIC], 0, 1, 0),
        ([ScanKind.SYNTHETIC, ScanKind.LABELLED], 10, 2, 0.5),
        ([*ScanKind], 2, 2, 0.1667),
    ],
)
def test_a_network_has_an_expert_for_each_kind_of_scans(kinds, people, experts, share):
    data = VoxelData(kinds=kinds, labelled_participants=people, stage=2)
    network = GaussianDerivativePerceptron.build(data, channels_in=2, hidden=(4,))
    assert network.arguments == {
        "channels_in": 2,
        "hidden": (4,),
        "cascaded": True,
        "experts": experts,
        "share": share,
    }
    assert (len(network.experts), network.share, network.cascaded) == (experts, share, True)


@pytest.mark.parametrize(("people", "share"), [(1, 0.4), (30, 0.75)])
def test_the_share_of_labelled_scans_does_not_shrink(people, share):
    start = make_network(experts=2, share=0.4)
    data = VoxelData(kinds=[ScanKind.LABELLED], labelled_participants=people, start=start)
    network = GaussianDerivativePerceptron.build(data, channels_in=1, hidden=(8,))
    assert (len(network.experts), network.share) == (2, share)
