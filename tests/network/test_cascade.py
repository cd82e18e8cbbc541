"""Each stage is asked only about what the one before it found."""

import json

import numpy as np
import pytest
import torch

from cascade_bids.errors import ScanError, StartError, UsageError
from cascade_bids.network.architectures import PatchNetwork, UNet
from cascade_bids.network.cascade import (
    CandidateRule,
    Stage,
    combine,
    fill_missing,
    load_stages,
    run_cascade,
    scale_temperature,
    stack_contrasts,
)
from cascade_bids.network.dense import evaluate_patches
from cascade_bids.network.ensembles import join_methods
from cascade_bids.network.segmenters import LesionUNet
from cascade_bids.network.weights import save_method

SHAPE = (14, 15, 13)
CONTRASTS = ("FLAIR", "T1w")
CPU = torch.device("cpu")


def make_network(seed):
    torch.manual_seed(seed)
    return PatchNetwork(2, widths=(4, 6), hidden=8).eval()


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    images = {c: rng.normal(size=SHAPE).astype(np.float32) for c in CONTRASTS}
    brain = np.zeros(SHAPE, bool)
    brain[2:12, 3:13, 1:11] = True
    return images, brain


def test_rules_combine():
    flair = np.array([[[0.4, 0.6, 0.6, 0.6]]], np.float32)
    brain = np.array([[[True, True, True, False]]])
    previous = np.array([[[0.9, 0.9, 0.5, 0.9]]], np.float32)

    def chosen(**rule):
        return CandidateRule(**rule).select(flair, brain, previous).ravel().tolist()

    assert chosen() == [True, True, True, False]
    assert chosen(flair_above_z=0.5) == [False, True, True, False]
    assert chosen(previous_above=0.5) == [True, True, False, False]
    assert chosen(flair_above_z=0.5, previous_above=0.5) == [False, True, False, False]


def test_a_rule_takes_masks_of_numbers_and_leaves_them_alone():
    brain = np.array([[[0, 1, 1]]], np.uint8)
    flair = np.array([[[1, 1, -1]]], np.float32)
    chosen = CandidateRule(flair_above_z=0).select(flair, brain, np.zeros_like(flair))
    assert chosen.dtype == bool
    assert chosen.ravel().tolist() == [False, True, False]
    assert brain.ravel().tolist() == [0, 1, 1]


def test_one_stage_is_zero_outside_its_candidates(scan):
    images, brain = scan
    network = make_network(0)
    stages = [Stage(network, CandidateRule(flair_above_z=0.3))]
    found = run_cascade(stages, images, brain, CONTRASTS).probability
    candidates = brain & (images["FLAIR"] > 0.3)
    assert found.dtype == np.float32
    assert not found[~candidates].any()
    assert (found[candidates] > 0).all()


def test_the_second_stage_sees_only_what_the_first_found(scan):
    images, brain = scan
    first, second = make_network(1), make_network(2)
    volume = stack_contrasts(images, CONTRASTS)
    asked = brain & (images["FLAIR"] > 0)
    before = evaluate_patches(first, volume, asked)
    threshold = float(np.median(before[asked]))
    passed = asked & (before > threshold)
    assert 0 < passed.sum() < asked.sum()

    found = run_cascade(
        [
            Stage(first, CandidateRule(flair_above_z=0)),
            Stage(second, CandidateRule(previous_above=threshold)),
        ],
        images,
        brain,
        CONTRASTS,
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
    found = run_cascade(stages, images, brain, CONTRASTS).probability
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
    network = PatchNetwork(8, widths=(4, 6), hidden=8).eval()
    stages = [Stage(network, CandidateRule())]
    found = run_cascade(stages, images, brain, CONTRASTS, anatomy=maps).probability
    volume = torch.from_numpy(np.stack([images["FLAIR"], images["T1w"], *maps]))
    np.testing.assert_allclose(found, evaluate_patches(network, volume, brain), atol=1e-4)


def test_a_missing_contrast_is_named(scan):
    images, brain = scan
    stage = Stage(make_network(0), CandidateRule())
    with pytest.raises(ScanError, match="has no T2w, PDw, which the method was trained with"):
        run_cascade([stage], images, brain, ("FLAIR", "T2w", "PDw"))


def test_what_a_method_can_do_without_is_0(scan):
    images, _ = scan
    filled = fill_missing(images, ("T1w", "T2w"))
    assert filled["T1w"] is images["T1w"]
    assert filled["T2w"].shape == images["FLAIR"].shape
    assert not filled["T2w"].any()


def entry(rule):
    arguments = {"channels_in": 2, "widths": [4, 6], "hidden": 8}
    return {"architecture": "PatchNetwork", "arguments": arguments, "candidates": rule}


def test_a_saved_cascade_finds_the_same(scan, tmp_path):
    images, brain = scan
    networks = [make_network(1), make_network(2)]
    rules = [{"flair_above_z": 0.5}, {"previous_above": 0.5}]
    save_method(
        "toy", list(zip(networks, map(entry, rules), strict=True)), {"task": "test"}, tmp_path
    )
    loaded = load_stages("toy", device=CPU, folder=tmp_path)
    made = [Stage(n, CandidateRule(**r)) for n, r in zip(networks, rules, strict=True)]
    assert [stage.candidates for stage in loaded] == [stage.candidates for stage in made]
    again, before = (run_cascade(s, images, brain, CONTRASTS) for s in (loaded, made))
    np.testing.assert_array_equal(again.probability, before.probability)
    assert again.spheres is None


def test_brain_extraction_is_no_method_that_finds_lesions(tmp_path):
    arguments = {"channels_in": 1, "widths": [2, 3]}
    entry = {"architecture": "UNet", "arguments": arguments}
    save_method("brain", [(UNet(**arguments), entry)], {}, tmp_path)
    with pytest.raises(StartError, match="'brain' is no method that finds lesions"):
        load_stages("brain", device=CPU, folder=tmp_path)


def test_an_unknown_method_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no method named 'nothing'"):
        load_stages("nothing", device=CPU, folder=tmp_path)


def test_most_of_the_votes_decide():
    maps = [np.array([[[0.9, 0.9, 0.2]]], np.float32), np.array([[[0.6, 0.1, 0.4]]], np.float32)]
    maps.append(np.array([[[0.1, 0.3, 1.0]]], np.float32))
    voted = combine(maps, "vote")
    assert voted.dtype == np.float32
    assert ((voted > 0.5) == (np.sum(np.array(maps) > 0.5, axis=0) >= 2)).all()
    np.testing.assert_allclose(combine(maps, "product"), maps[0] * maps[1] * maps[2])
    np.testing.assert_array_equal(combine(maps, "last"), maps[2])


def test_the_mean_is_that_of_the_log_odds():
    odds = np.array([[1, 9, 3, 0, 4], [1, 1, 27, 5, np.inf]], np.float64)
    with np.errstate(invalid="ignore"):
        maps = [np.where(np.isinf(one), 1, one / (1 + one)).astype(np.float32) for one in odds]
    found = combine(maps, "mean")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:3], [0.5, 0.75, 0.9], rtol=1e-5)
    # What one stage rules out is ruled out; what one is sure of, the other may still lower.
    assert found[3] == 0
    assert 0.9 < found[4] < 1
    np.testing.assert_array_equal(combine(maps[:1], "mean"), maps[0])


def test_networks_that_segment_vote_on_lesions_and_spheres(scan):
    images, brain = scan
    stages = []
    for seed in range(3):
        torch.manual_seed(seed)
        arguments = {"anatomy": False, "spheres": True, "window": [8, 8, 8], "widths": [2, 4]}
        stages.append(Stage(LesionUNet(2, **arguments).eval(), CandidateRule()))
    found = run_cascade(stages, images, brain, CONTRASTS, combination="vote")
    alone = [run_cascade([stage], images, brain, CONTRASTS) for stage in stages]
    assert found.spheres is not None
    for name in ("probability", "spheres"):
        votes = [getattr(maps, name) for maps in alone]
        np.testing.assert_array_equal(getattr(found, name), np.median(votes, axis=0))
        assert (getattr(found, name) > 0)[brain].all()
        assert not getattr(found, name)[~brain].any()


def test_the_mirrored_head_is_asked_about_too(scan):
    images, brain = scan
    stages = [Stage(make_network(0), CandidateRule())]
    mirrored = {c: image[::-1].copy() for c, image in images.items()}
    plain, other = (
        run_cascade(stages, these, inside, CONTRASTS).probability
        for these, inside in ((images, brain), (mirrored, brain[::-1].copy()))
    )
    both = run_cascade(stages, images, brain, CONTRASTS, mirrored=True).probability
    np.testing.assert_allclose(both, (plain + other[::-1]) / 2, atol=1e-6)
    again = run_cascade(stages, mirrored, brain[::-1].copy(), CONTRASTS, mirrored=True).probability
    np.testing.assert_allclose(again[::-1], both, atol=1e-6)


def test_a_temperature_scales_what_is_given_out(scan):
    images, brain = scan
    stages = [Stage(make_network(0), CandidateRule())]
    plain, scaled = (
        run_cascade(stages, images, brain, CONTRASTS, temperature=t).probability for t in (1.0, 2.0)
    )
    np.testing.assert_allclose(scaled, scale_temperature(plain, 2.0), rtol=1e-5)
    assert not np.allclose(scaled, plain)


def test_several_cascades_are_asked_and_their_mean_is_taken(scan):
    images, brain = scan
    rule = CandidateRule(previous_above=0.4)
    pairs = [
        [Stage(make_network(n), CandidateRule()), Stage(make_network(n + 1), rule)] for n in (0, 5)
    ]
    alone = [run_cascade(pair, images, brain, CONTRASTS).probability for pair in pairs]
    both = run_cascade([*pairs[0], *pairs[1]], images, brain, CONTRASTS, cascades=2).probability
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, atol=1e-6)


def test_methods_are_joined_if_they_fit(tmp_path):
    rules = {"candidates": {}, "architecture": "PatchNetwork"}
    entry = {**rules, "arguments": {"channels_in": 2, "widths": [4, 6], "hidden": 8}}
    facts = {
        "task": "lesion segmentation",
        "contrasts": list(CONTRASTS),
        "combination": "last",
        "threshold": 0.3,
        "min_lesion_mm3": 5.0,
        "load_factor": 3.0,
        "confidence": [0.1, 0.2, 0.3],
    }
    cards = []
    for n, contrasts in enumerate((CONTRASTS, CONTRASTS, CONTRASTS[::-1])):
        own = {"training_scans": [f"sub-{n}"], "contrasts": list(contrasts)}
        own["learned_before"] = [f"sub-{n + 5}"]
        cards.append(save_method(f"m{n}", [(make_network(n), entry)], facts | own, tmp_path))
    joined = json.loads(join_methods([str(c) for c in cards[:2]], "both", tmp_path).read_text())
    assert joined["members"] == ["m0", "m1"]
    assert joined["training_scans"] == ["sub-0", "sub-1"]
    assert joined["learned_before"] == ["sub-5", "sub-6"]
    assert not {"load_factor", "confidence"} & joined.keys()  # nobody checked them together
    assert (joined["cascades"], joined["threshold"]) == (2, 0.3)
    first, second = load_stages(str(tmp_path / "both.json"), device=CPU)
    for stage, seed in ((first, 0), (second, 1)):
        expected = make_network(seed).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in stage.network.state_dict().items())
    with pytest.raises(UsageError, match=r"m2\.json does not fit .*m0\.json: other contrasts"):
        join_methods([str(cards[0]), str(cards[2])], "bad", tmp_path)
    with pytest.raises(UsageError, match="being several cascades already"):
        join_methods([str(cards[0]), str(tmp_path / "both.json")], "bad", tmp_path)
    with pytest.raises(UsageError, match="two methods"):
        join_methods([str(cards[0])], "bad", tmp_path)
