"""The network that sees whole brains: on any grid, with the place in the head, and on mirrored."""

import numpy as np
import pytest
import torch

from cascade_bids.network.cascade import CandidateRule, Stage, run_cascade, run_stages
from cascade_bids.network.context import ContextNetwork, evaluate_context, weigh
from cascade_bids.network.jets import JetNetwork
from cascade_bids.network.place import ATLAS_MM, ATLAS_ORIGIN_MM
from cascade_bids.network.weights import load_network, save_method, weights_id

SHAPE = (30, 37, 26)
MIDDLE = (15, 18, 13)


def make(channels=1):
    torch.manual_seed(0)
    return ContextNetwork(channels, widths=(4, 8)).eval()


def brain():
    inside = np.zeros(SHAPE, bool)
    inside[3:-4, 2:-3, 5:-2] = True
    return inside


def places():
    return (np.moveaxis(np.indices(SHAPE), 0, -1) - MIDDLE).astype(np.float32)


def scan():
    noise = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    return torch.from_numpy(noise * brain())


def test_it_says_something_of_every_voxel_of_a_brain_and_of_no_other():
    found = evaluate_context(make(), scan(), brain(), places())
    assert found.shape == SHAPE
    assert found.dtype == np.float32
    assert (found[brain()] > 0).all()
    assert (found[brain()] < 1).all()
    assert not found[~brain()].any()
    assert not evaluate_context(make(), scan(), np.zeros(SHAPE, bool), places()).any()


def test_before_it_learns_hardly_anything_is_a_lesion():
    assert evaluate_context(make(), scan(), brain(), places()).mean() < 0.05


def test_where_a_brain_lies_on_the_grid_does_not_matter():
    here = evaluate_context(make(), scan(), brain(), places())
    wide = [(4, 1), (0, 6), (3, 3)]
    there = evaluate_context(
        make(),
        torch.from_numpy(np.pad(scan().numpy(), [(0, 0), *wide])),
        np.pad(brain(), wide),
        np.pad(places(), [*wide, (0, 0)]),
    )
    np.testing.assert_allclose(there[4:-1, :-6, 3:-3], here, atol=1e-6)


def test_stray_voxels_of_a_mask_change_nothing_in_the_brain():
    dirty = brain()
    dirty[0, 0, 0] = dirty[-1, -1, -1] = True
    found = evaluate_context(make(), scan(), dirty, places())
    np.testing.assert_array_equal(found, evaluate_context(make(), scan(), brain(), places()))


def test_lesions_are_likelier_where_the_atlas_has_them():
    network = make()
    for layer in (network.last[0], network.last[2]):
        torch.nn.init.zeros_(layer.weight)
    # Nothing but the atlas has a part.
    network.last[0].weight.data[0, -1] = 1.0
    network.last[2].weight.data[0, 0] = 1.0
    network.last[0].bias.data.fill_(4.0)
    index = np.rint((np.array((8.0, 4.0, 4.0)) - ATLAS_ORIGIN_MM) / ATLAS_MM).astype(int)
    network.atlas[tuple(index)] = 1.0
    found = evaluate_context(network, scan(), brain(), places())
    highest = np.array(np.unravel_index(found.argmax(), SHAPE)) - MIDDLE
    assert np.abs(highest - (8, 4, 4)).max() <= 2


def test_it_has_the_last_word_with_a_fifth_of_the_weight():
    previous = np.array([0.0, 0.5, 0.5, 0.9, 1.0], np.float32)
    said = np.array([0.9, 0.5, 0.9, 1e-9, 0.5], np.float32)
    found = weigh(previous, said)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:3], [0, 0.5, 9**0.2 / (1 + 9**0.2)], rtol=1e-5)
    # It misses small lesions, so what it rules out may be one all the same.
    assert 0.4 < found[3] < 0.6
    assert 0.5 < found[4] < 1


def test_it_ends_a_cascade_and_needs_to_know_where_it_is():
    stages = [
        Stage(JetNetwork(1).eval(), CandidateRule(flair_above_z=0.0)),
        Stage(make(), CandidateRule(previous_above=0.0)),
    ]
    image, affine = {"FLAIR": scan()[0].numpy()}, np.eye(4)
    affine[:3, 3] = -np.array(MIDDLE)
    closely = run_cascade(stages[:1], image, brain(), ("FLAIR",), affine=affine).probability
    found = run_cascade(stages, image, brain(), ("FLAIR",), affine=affine)
    assert found.spheres is None
    np.testing.assert_array_equal(found.probability > 0, closely > 0)
    # Before it learns it finds everything unlikely.
    asked = closely > 0
    assert (found.probability[asked] < closely[asked]).all()
    with pytest.raises(ValueError, match="affine"):
        run_stages(stages, scan(), image["FLAIR"], brain(), combination="mean")


def test_in_half_precision_on_disk_it_is_the_same_however_often(tmp_path):
    network = make()
    arguments = {"channels_in": 1, "widths": [4, 8]}
    entry = {"architecture": "ContextNetwork", "arguments": arguments}
    whole = evaluate_context(network, scan(), brain(), places())
    card = save_method("once", [(network, entry)], {}, tmp_path)
    other = load_network(str(card), device=torch.device("cpu"))
    assert next(other.parameters()).dtype == torch.float32
    np.testing.assert_allclose(evaluate_context(other, scan(), brain(), places()), whole, atol=2e-3)
    again = save_method("again", [(other, entry)], {}, tmp_path)
    assert weights_id(str(again)) == weights_id(str(card))
    assert (tmp_path / "once.safetensors").stat().st_size < 3 * sum(
        values.numel() for values in network.state_dict().values()
    )
