"""Features mean what they say, in a mirrored head too; networks of them make a cascade."""

import numpy as np
import pytest
import torch

from cascade_bids.network import jets
from cascade_bids.network.cascade import CandidateRule, Stage, run_cascade, run_stages
from cascade_bids.network.jets import JetNetwork, adapt_to_scan, evaluate_jets
from cascade_bids.network.prior import adapt_prior

SHAPE = (30, 32, 28)
MIDDLE = (15, 16, 14)
JET = jets._JET


def brain():
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    return inside


def places():
    return (np.moveaxis(np.indices(SHAPE), 0, -1) - MIDDLE).astype(np.float32)


def describe(image, network=None, previous=None, inside=None, at=MIDDLE):
    inside = brain() if inside is None else inside
    voxels = tuple(np.array([index]) for index in at)
    volume = np.where(inside, image, 0).astype(np.float32)[None]
    network = network or JetNetwork(1)
    return network.describe(volume, volume[0], inside, voxels, places(), previous)[0]


def blob(width, centre=MIDDLE):
    squares = ((np.moveaxis(np.indices(SHAPE), 0, -1) - centre) / width) ** 2
    return np.exp(-squares.sum(-1) / 2)


def test_an_even_image_has_its_value_at_every_width_and_neither_slope_nor_curvature():
    found = describe(np.full(SHAPE, 3.0))
    values = [0, 1, 6, 11, 16, *range(17, JET)]
    np.testing.assert_allclose(found[values], 3.0, rtol=1e-4)
    others = np.delete(found[:JET], values)
    np.testing.assert_allclose(others, 0, atol=1e-3)


def test_a_blob_is_curved_downwards_along_all_axes_and_a_sheet_along_one():
    # Of width 2: middle curvatures, of which a blob has three that are negative.
    curvature = slice(8, 11)
    of_blob = describe(blob(2.0))[curvature]
    assert (of_blob < -0.1).all()
    of_sheet = describe(blob((2.0, 1e6, 1e6)))[curvature]
    assert of_sheet[0] < -0.1
    np.testing.assert_allclose(of_sheet[1:], 0, atol=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slope_is_the_same_in_every_direction(axis):
    ramp = np.indices(SHAPE)[axis] * 0.5
    # In units of the width: half a unit for each millimetre.
    assert describe(ramp)[2] == pytest.approx(0.5, rel=0.02)
    assert describe(ramp)[7] == pytest.approx(1.0, rel=0.05)
    assert describe(-ramp)[2] == pytest.approx(0.5, rel=0.02)


def test_a_mirrored_head_has_the_same_features():
    rng = np.random.default_rng(0)
    image, inside = rng.normal(size=SHAPE), brain()
    inside[:, :, :6] = False
    at = (11, 9, 17)
    mirrored = (SHAPE[0] - 1 - at[0], *at[1:])
    network = JetNetwork(1)
    network.atlas[:] = torch.rand(network.atlas.shape)
    network.atlas[:] = network.atlas + network.atlas.flip(0)
    one = describe(image, network, inside=inside, at=at)
    volume = np.where(inside, image, 0).astype(np.float32)[::-1][None]
    voxels = tuple(np.array([index]) for index in mirrored)
    there = places()[::-1] * np.float32((-1, 1, 1))
    other = network.describe(volume, volume[0], inside[::-1], voxels, there)[0]
    np.testing.assert_allclose(other, one, atol=1e-4)


def test_what_the_other_side_shows_is_told_beside_what_is_here():
    network, here, there = JetNetwork(1), (9, 16, 14), (21, 16, 14)
    alone, both = (
        describe(image, network, at=here)
        for image in (blob(2.0, here), blob(2.0, here) + blob(2.0, there))
    )
    across = slice(19, 21)
    assert (both[across] > alone[across] + 0.08).all()
    assert np.abs(both[:4] - alone[:4]).max() < 0.01


def test_a_spot_within_fluid_turns_as_dark_as_fluid_and_one_in_tissue_as_grey_as_tissue():
    # The left half is as dark as fluid.
    image = np.where(np.indices(SHAPE)[0] < 15, -2.0, 0.0)
    opened = slice(17, 19)
    within = describe(image + 4 * blob(1.5, (8, 16, 14)), at=(8, 16, 14))[opened]
    beside = describe(image + 4 * blob(1.5, (19, 16, 14)), at=(19, 16, 14))[opened]
    assert within[1] == pytest.approx(-2, abs=0.1)
    assert beside[1] == pytest.approx(0, abs=0.1)
    # The small cube fits into both, in part.
    assert (within[0] > within[1]) and (beside[0] > beside[1])


def test_what_lies_outside_the_brain_has_no_part():
    image, inside = np.random.default_rng(0).normal(size=SHAPE), brain()
    inside[18:] = False
    elsewhere = image.copy()
    elsewhere[18:] = 1000
    np.testing.assert_array_equal(
        describe(image, inside=inside), describe(elsewhere, inside=inside)
    )


def test_a_missing_contrast_has_no_features():
    network = JetNetwork(2)
    volume = np.stack([np.where(brain(), blob(3.0), 0), np.zeros(SHAPE)]).astype(np.float32)
    voxels = tuple(np.array([index]) for index in MIDDLE)
    found = network.describe(volume, volume[0], brain(), voxels, places())[0]
    assert len(found) == network.count
    assert not found[JET : 2 * JET].any()
    assert found[:JET].any()


def test_the_atlas_is_read_where_a_voxel_lies():
    network = JetNetwork(1)
    network.atlas[:] = 0.01
    usual = describe(blob(2.0), network)
    index = np.round((np.zeros(3) - jets.ATLAS_ORIGIN_MM) / jets.ATLAS_MM).astype(int)
    network.atlas[tuple(slice(i - 1, i + 2) for i in index)] = 0.5
    often = describe(blob(2.0), network)
    changed = np.flatnonzero(usual != often)
    assert len(changed) == 1
    assert often[changed] == pytest.approx(np.log(0.5 + jets.RARE), rel=1e-4)


def test_a_later_stage_sees_what_the_one_before_says():
    network = JetNetwork(1, cascaded=True)
    sure = np.where(blob(3.0) > 0.5, 0.9, 0.0).astype(np.float32)
    without, given = (
        describe(blob(2.0), network, previous=p) for p in (np.zeros(SHAPE, np.float32), sure)
    )
    assert len(given) == network.count
    np.testing.assert_allclose(without[JET : 2 * JET], 0, atol=1e-3)
    assert given[JET] > 8
    with pytest.raises(ValueError, match="later stage"):
        describe(blob(2.0), network)


def test_only_candidates_are_asked_about():
    torch.manual_seed(0)
    network = JetNetwork(1).eval()
    volume = np.where(brain(), blob(3.0), 0).astype(np.float32)[None]
    candidates = volume[0] > 0.5
    nothing = np.zeros(SHAPE, np.float32)
    found = evaluate_jets(network, volume, volume[0], brain(), candidates, places(), nothing)
    assert ((found > 0) == candidates).all()
    assert (found < 1).all()
    none = np.zeros_like(candidates)
    assert not evaluate_jets(network, volume, volume[0], brain(), none, places(), nothing).any()


def test_only_what_was_asked_about_is_adapted_to_the_scan():
    network = JetNetwork(1)
    said = np.zeros(SHAPE, np.float32)
    said[10:14] = 0.2
    np.testing.assert_array_equal(adapt_to_scan(network, said), said)
    network.prior.fill_(0.5)
    adapted = adapt_to_scan(network, said)
    np.testing.assert_allclose(adapted[10:14], adapt_prior(said[10:14].ravel(), 0.5)[0])
    assert not adapted[14:].any()


def test_the_expert_of_labelled_scans_has_its_share_in_the_mean_of_logits():
    torch.manual_seed(0)
    network = JetNetwork(1, experts=2, share=0.25).eval()
    volume = np.where(brain(), blob(3.0), 0).astype(np.float32)[None]
    args = (volume, volume[0], brain(), volume[0] > 0.9, places(), np.zeros(SHAPE, np.float32))
    both = evaluate_jets(network, *args)
    for expert in network.experts:
        torch.nn.init.constant_(expert[-1].bias, 2.0)
        torch.nn.init.zeros_(expert[-1].weight)
    torch.nn.init.constant_(network.experts[0][-1].bias, 0.2)
    even = evaluate_jets(network, *args)
    assert both[args[3]].std() > 0
    np.testing.assert_allclose(even[args[3]], 1 / (1 + np.exp(-0.65)), rtol=1e-5)


def test_a_cascade_of_them_runs_and_needs_to_know_where_it_is():
    torch.manual_seed(0)
    stages = [
        Stage(JetNetwork(1, cascaded=number > 0).eval(), rule)
        for number, rule in enumerate((CandidateRule(), CandidateRule(previous_above=0.4)))
    ]
    flair = np.where(brain(), blob(3.0), 0).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = -np.array(MIDDLE)
    found = run_cascade(stages, {"FLAIR": flair}, brain(), ("FLAIR",), affine=affine)
    assert found.spheres is None
    assert found.probability.any()
    mirrored = run_cascade(
        stages, {"FLAIR": flair}, brain(), ("FLAIR",), affine=affine, mirrored=True
    )
    # Whatever is asked, a mirrored head gives the same.
    np.testing.assert_allclose(mirrored.probability, found.probability, atol=1e-5)
    with pytest.raises(ValueError, match="affine"):
        run_stages(stages, torch.from_numpy(flair[None]), flair, brain(), combination="last")
