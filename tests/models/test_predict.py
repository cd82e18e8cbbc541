"""Each stage classifies only what the one before it found; a method is stages and its card."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec

from cascade_bids.errors import ScanError, StartError
from cascade_bids.models.architectures.allnet import LesionTiramisu, LesionUNet
from cascade_bids.models.architectures.context import ContextNetwork
from cascade_bids.models.architectures.msseg2016 import Msseg2016Network
from cascade_bids.models.architectures.nicmslesions import NicmslesionsNetwork
from cascade_bids.models.architectures.patch_classifier import evaluate_patches
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.card import FIND_LESIONS, load_card, load_model_card
from cascade_bids.models.device import FLOAT32
from cascade_bids.models.members import Member
from cascade_bids.models.network import CandidateRule, LesionMaps, LesionNetwork, Volume
from cascade_bids.models.predict import (
    Stage,
    fill_missing,
    load_stages,
    predict_lesions,
    predict_stages,
    stack_contrasts,
)
from cascade_bids.models.probabilities import scale_temperature
from cascade_bids.models.weights import save_method

SHAPE = (14, 15, 13)
CONTRASTS = ("FLAIR", "T1w")
CPU = torch.device("cpu")


def make_network(seed):
    torch.manual_seed(seed)
    return Valverde2017Network(2, widths=(4, 6), hidden=8).eval()


def predict(stages, images, brain, *, anatomy=None, mirrored=False, precision=FLOAT32, **card):
    """Predict with a method whose card states what is given, and otherwise nothing unusual."""
    members = (Member("toy", len(stages), "last"),)
    card = {"contrasts": CONTRASTS, "members": members, **card}
    card = replace(load_card("valverde2017"), **card)
    return predict_lesions(
        stages,
        card,
        images,
        brain,
        affine=np.eye(4),
        anatomy=anatomy,
        mirrored=mirrored,
        precision=precision,
    )


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    images = {c: rng.normal(size=SHAPE).astype(np.float32) for c in CONTRASTS}
    brain = np.zeros(SHAPE, bool)
    brain[2:12, 3:13, 1:11] = True
    return images, brain


def test_one_stage_is_zero_outside_its_candidates(scan):
    images, brain = scan
    network = make_network(0)
    stages = [Stage(network, CandidateRule(flair_above_z=0.3))]
    found = predict(stages, images, brain).probability
    candidates = brain & (images["FLAIR"] > 0.3)
    assert found.dtype == np.float32
    assert not found[~candidates].any()
    assert (found[candidates] > 0).all()


def test_the_second_stage_sees_only_what_the_first_found(scan):
    images, brain = scan
    first, second = make_network(1), make_network(2)
    volume = stack_contrasts(images, CONTRASTS)
    candidates = brain & (images["FLAIR"] > 0)
    before = evaluate_patches(first, volume, candidates)
    threshold = float(np.median(before[candidates]))
    passed = candidates & (before > threshold)
    assert 0 < passed.sum() < candidates.sum()

    found = predict(
        [
            Stage(first, CandidateRule(flair_above_z=0)),
            Stage(second, CandidateRule(previous_above=threshold)),
        ],
        images,
        brain,
    ).probability
    # The voxel at the median itself may fall to either side by rounding.
    clear = np.abs(before - threshold) > 1e-6
    expected = evaluate_patches(second, volume, passed)
    np.testing.assert_allclose(found[clear], expected[clear], rtol=0, atol=1e-4)


def test_nothing_found_first_is_nothing_found_at_all(scan):
    images, brain = scan
    stages = [
        Stage(make_network(0), CandidateRule(flair_above_z=0)),
        Stage(make_network(1), CandidateRule(previous_above=1)),
    ]
    found = predict(stages, images, brain).probability
    assert found.shape == SHAPE
    assert not found.any()


def test_contrasts_are_stacked_as_the_network_takes_them(scan):
    images, _ = scan
    stacked = stack_contrasts(images, ("T1w", "FLAIR"))
    assert stacked.dtype == torch.float32
    np.testing.assert_array_equal(stacked[0], images["T1w"])
    np.testing.assert_array_equal(stacked[1], images["FLAIR"])


def test_anatomical_maps_follow_the_contrasts(scan):
    images, brain = scan
    maps = np.random.default_rng(1).normal(size=(6, *SHAPE)).astype(np.float32)
    torch.manual_seed(0)
    network = Valverde2017Network(8, widths=(4, 6), hidden=8).eval()
    stages = [Stage(network, CandidateRule())]
    found = predict(stages, images, brain, anatomy=maps).probability
    volume = torch.from_numpy(np.stack([images["FLAIR"], images["T1w"], *maps]))
    np.testing.assert_allclose(found, evaluate_patches(network, volume, brain), atol=1e-4)


def test_a_missing_contrast_is_named(scan):
    images, brain = scan
    stage = Stage(make_network(0), CandidateRule())
    with pytest.raises(ScanError, match="has no T2w, PDw, which the method was trained with"):
        predict([stage], images, brain, contrasts=("FLAIR", "T2w", "PDw"))


def test_what_a_method_can_do_without_is_0(scan):
    images, _ = scan
    filled = fill_missing(images, ("T1w", "T2w"))
    assert filled["T1w"] is images["T1w"]
    assert filled["T2w"].shape == images["FLAIR"].shape
    assert not filled["T2w"].any()
    assert images.keys() == set(CONTRASTS)


def test_an_optional_contrast_may_be_missing(scan):
    images, brain = scan
    stages = [Stage(make_network(0), CandidateRule())]
    flair = images["FLAIR"]
    found = predict(stages, {"FLAIR": flair}, brain, optional=("T1w",)).probability
    expected = predict(stages, {"FLAIR": flair, "T1w": np.zeros_like(flair)}, brain).probability
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ScanError, match="has no T1w"):
        predict(stages, {"FLAIR": flair}, brain)


def test_a_saved_method_finds_the_same(scan, tmp_path):
    images, brain = scan
    networks = [make_network(1), make_network(2)]
    rules = [{"flair_above_z": 0.5}, {"previous_above": 0.5}]
    arguments = {"channels_in": 2, "widths": [4, 6], "hidden": 8}
    entry = {"architecture": "PatchNetwork", "arguments": arguments}
    path = save_method(
        "toy",
        [(n, {**entry, "candidates": rule}) for n, rule in zip(networks, rules, strict=True)],
        {
            "task": FIND_LESIONS,
            "contrasts": list(CONTRASTS),
            "combination": "last",
            "threshold": 0.5,
            "min_lesion_mm3": 0,
        },
        tmp_path,
    )
    card = load_card(str(path))
    loaded = load_stages(card, device=CPU)
    made = [Stage(n, CandidateRule(**r)) for n, r in zip(networks, rules, strict=True)]
    assert [stage.candidates for stage in loaded] == [stage.candidates for stage in made]
    again = predict_lesions(loaded, card, images, brain, affine=np.eye(4))
    before = predict(made, images, brain)
    assert before.probability.any()
    np.testing.assert_array_equal(again.probability, before.probability)
    assert again.spheres is None


def test_what_finds_no_lesions_is_no_stage(tmp_path):
    """Cards of methods name no such networks; see `test_card_checks`."""
    arguments = {"channels_in": 1, "widths": [2, 3]}
    entry = {"architecture": "UNet", "arguments": arguments}
    path = save_method("brain", [(UNet(**arguments), entry)], {"task": "brain"}, tmp_path)
    card = replace(load_card("valverde2017"), path=path, stages=load_model_card(str(path)).stages)
    with pytest.raises(StartError, match=r"brain\.json is not the card of a method that finds les"):
        load_stages(card, device=CPU)


class Recording(LesionNetwork):
    """A network that predicts what it is told, and keeps what it was shown."""

    card_name = "Recording"

    def __init__(self, value, merged=None):
        super().__init__()
        self.value, self.merged = np.float32(value), merged

    @classmethod
    def describe(cls, card):
        return "a stand-in"

    def predict(self, volume, candidates, previous):
        self.shown = candidates, previous
        self.rough = torch.is_autocast_enabled("cpu")
        return LesionMaps(np.where(candidates, self.value, np.float32(0)))

    def merge(self, previous, maps, combination):
        self.given = previous, [one.probability for one in maps]
        if self.merged is None:
            return super().merge(previous, maps, combination)
        return np.where(maps[-1].probability > 0, np.float32(self.merged), np.float32(0))


def test_stages_see_and_merge_what_the_stages_before_left(scan):
    images, brain = scan
    volume = Volume(stack_contrasts(images, CONTRASTS), images["FLAIR"], brain)
    networks = [Recording(0.8), Recording(0.5, merged=0.25), Recording(0.5)]
    rules = [CandidateRule(flair_above_z=0), CandidateRule(), CandidateRule(previous_above=0.2)]
    stages = [Stage(n, rule) for n, rule in zip(networks, rules, strict=True)]
    found = predict_stages(stages, volume, "product").probability
    bright = brain & (images["FLAIR"] > 0)
    first, second, third = networks
    assert not first.shown[1].any()
    np.testing.assert_array_equal(first.shown[0], bright)
    np.testing.assert_array_equal(second.shown[0], brain)
    np.testing.assert_array_equal(second.shown[1], np.float32(0.8) * bright)
    np.testing.assert_array_equal(second.given[0], np.float32(0.8) * bright)
    np.testing.assert_array_equal(third.shown[1], np.float32(0.25) * brain)
    np.testing.assert_array_equal(third.shown[0], brain)
    assert [len(network.given[1]) for network in networks] == [1, 2, 3]
    np.testing.assert_allclose(found, 0.8 * 0.5 * 0.5 * bright, rtol=1e-6)


def test_networks_that_segment_vote_on_lesions_and_spheres(scan):
    images, brain = scan
    stages = []
    for seed in range(3):
        torch.manual_seed(seed)
        arguments = {"anatomy": False, "spheres": True, "window": [8, 8, 8], "widths": [2, 4]}
        stages.append(Stage(LesionUNet(2, **arguments).eval(), CandidateRule()))
    found = predict(stages, images, brain, members=(Member("toy", 3, "vote"),))
    alone = [predict([stage], images, brain) for stage in stages]
    assert found.spheres is not None
    for name in ("probability", "spheres"):
        votes = [getattr(maps, name) for maps in alone]
        np.testing.assert_array_equal(getattr(found, name), np.median(votes, axis=0))
        assert (getattr(found, name) > 0)[brain].all()
        assert not getattr(found, name)[~brain].any()


def test_of_a_head_and_its_mirror_image_the_mean_is_taken(scan):
    images, brain = scan
    stages = [Stage(make_network(0), CandidateRule())]
    mirrored = {c: image[::-1].copy() for c, image in images.items()}
    plain, other = (
        predict(stages, these, inside).probability
        for these, inside in ((images, brain), (mirrored, brain[::-1].copy()))
    )
    both = predict(stages, images, brain, mirrored=True).probability
    np.testing.assert_allclose(both, (plain + other[::-1]) / 2, atol=1e-6)
    again = predict(stages, mirrored, brain[::-1].copy(), mirrored=True).probability
    np.testing.assert_allclose(again[::-1], both, atol=1e-6)


def test_sphere_maps_are_mirrored_back_too(scan):
    images, brain = scan
    torch.manual_seed(0)
    network = LesionUNet(2, anatomy=False, spheres=True, window=[8, 8, 8], widths=[2, 4]).eval()
    stages = [Stage(network, CandidateRule())]
    both = predict(stages, images, brain, mirrored=True)
    turned = {c: image[::-1].copy() for c, image in images.items()}
    again = predict(stages, turned, brain[::-1].copy(), mirrored=True)
    assert np.ptp(both.spheres[brain]) > 0
    np.testing.assert_allclose(again.spheres[::-1], both.spheres, atol=1e-6)
    np.testing.assert_allclose(again.probability[::-1], both.probability, atol=1e-6)


def test_the_temperature_of_the_card_scales_what_is_returned(scan):
    images, brain = scan
    stages = [Stage(make_network(0), CandidateRule())]
    plain, scaled = (predict(stages, images, brain, temperature=t).probability for t in (1.0, 2.0))
    np.testing.assert_allclose(scaled, scale_temperature(plain, 2.0), rtol=1e-5)
    assert not np.allclose(scaled, plain)


def test_of_several_members_the_weighted_mean_is_taken(scan):
    images, brain = scan
    rule = CandidateRule(previous_above=0.4)
    one = [Stage(make_network(0), CandidateRule()), Stage(make_network(1), rule)]
    other = [Stage(make_network(n), CandidateRule()) for n in (5, 6, 7)]
    members = Member("one", 2, "last", 3.0), Member("other", 3, "mean", 1.0)
    alone = [
        predict(stages, images, brain, members=(member,)).probability
        for stages, member in zip((one, other), members, strict=True)
    ]
    both = predict([*one, *other], images, brain, members=members).probability
    np.testing.assert_allclose(both, 0.75 * alone[0] + 0.25 * alone[1], atol=1e-6)


def test_air_around_a_head_changes_nothing(scan):
    images, brain = scan
    torch.manual_seed(0)
    stages = [
        Stage(make_network(1), CandidateRule(flair_above_z=0)),
        Stage(ContextNetwork(2, widths=(4, 8)).eval(), CandidateRule(previous_above=0.1)),
    ]
    images = {c: np.where(brain, image, np.float32(0)) for c, image in images.items()}
    tight = predict(stages, images, brain).probability
    wide = [(11, 3), (0, 20), (9, 10)]
    card = replace(load_card("valverde2017"), contrasts=CONTRASTS)
    moved = from_matvec(np.eye(3), [-before for before, _ in wide])
    found = predict_lesions(
        stages,
        card,
        {c: np.pad(image, wide) for c, image in images.items()},
        np.pad(brain, wide),
        affine=moved,
    ).probability
    assert tight.any()
    np.testing.assert_allclose(found, np.pad(tight, wide), atol=1e-5)


def test_only_networks_that_gain_from_bfloat16_run_in_it(scan):
    images, brain = scan
    one, other = Recording(0.8), Recording(0.5)
    other.gains_from_bfloat16 = True
    stages = [Stage(network, CandidateRule()) for network in (one, other)]
    predict(stages, images, brain)
    assert (one.rough, other.rough) == (False, False)
    predict(stages, images, brain, precision="bfloat16 (AMX)")
    assert (one.rough, other.rough) == (False, True)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        (Valverde2017Network, {"widths": (4, 6), "hidden": 8}),
        (Msseg2016Network, {}),
        (NicmslesionsNetwork, {}),
        (ContextNetwork, {"widths": (4, 8)}),
        (LesionUNet, {"anatomy": False, "spheres": True, "window": (8, 8, 8), "widths": (2, 4)}),
        (
            LesionTiramisu,
            {"anatomy": False, "spheres": False, "window": (8, 8, 8), "layers": (1, 1)},
        ),
    ],
)
def test_in_bfloat16_a_network_finds_about_the_same(scan, architecture, arguments):
    images, brain = scan
    torch.manual_seed(0)
    network = architecture(2, **arguments).eval()
    rule = CandidateRule(flair_above_z=1.5)
    stages = [Stage(Recording(0.5), rule), Stage(network, rule)]
    exact = predict(stages, images, brain)
    rough = predict(stages, images, brain, precision="bfloat16 (AVX512)")
    assert exact.probability.dtype == rough.probability.dtype == np.float32
    assert not np.array_equal(rough.probability, exact.probability)
    np.testing.assert_allclose(rough.probability, exact.probability, rtol=0, atol=0.02)
