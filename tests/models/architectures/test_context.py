"""The network that sees whole brains, on any grid, with the coordinates of their voxels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_bids.models.architectures.context import (
    COORDINATES,
    ContextNetwork,
    evaluate_context,
    weigh,
)
from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.card import load_card, load_model_card
from cascade_bids.models.network import CandidateRule, Volume
from cascade_bids.models.predict import Stage, predict_lesions, predict_stages
from cascade_bids.models.weights import load_network, save_method
from cascade_bids.preprocess.coordinates import ATLAS_MM, ATLAS_ORIGIN_MM

CPU = torch.device("cpu")
SHAPE = (30, 37, 26)
MIDDLE = (15, 18, 13)


def make(channels=1):
    torch.manual_seed(0)
    return ContextNetwork(channels, widths=(4, 8)).eval()


def brain():
    inside = np.zeros(SHAPE, bool)
    inside[3:-4, 2:-3, 5:-2] = True
    return inside


def coordinates():
    return (np.moveaxis(np.indices(SHAPE), 0, -1) - MIDDLE).astype(np.float32)


def scan():
    noise = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    return torch.from_numpy(noise * brain())


def test_every_voxel_of_a_brain_has_a_probability_and_no_other():
    found = evaluate_context(make(), scan(), brain(), coordinates())
    assert found.shape == SHAPE
    assert found.dtype == np.float32
    assert (found[brain()] > 0).all()
    assert (found[brain()] < 1).all()
    assert not found[~brain()].any()
    assert not evaluate_context(make(), scan(), np.zeros(SHAPE, bool), coordinates()).any()


def test_before_it_learns_hardly_anything_is_a_lesion():
    assert evaluate_context(make(), scan(), brain(), coordinates()).mean() < 0.05


def test_where_a_brain_lies_on_the_grid_does_not_matter():
    here = evaluate_context(make(), scan(), brain(), coordinates())
    wide = [(4, 1), (0, 6), (3, 3)]
    there = evaluate_context(
        make(),
        torch.from_numpy(np.pad(scan().numpy(), [(0, 0), *wide])),
        np.pad(brain(), wide),
        np.pad(coordinates(), [*wide, (0, 0)]),
    )
    np.testing.assert_allclose(there[4:-1, :-6, 3:-3], here, atol=1e-6)


def test_stray_voxels_of_a_mask_change_nothing_in_the_brain():
    dirty = brain()
    dirty[0, 0, 0] = dirty[-1, -1, -1] = True
    found = evaluate_context(make(), scan(), dirty, coordinates())
    np.testing.assert_array_equal(found, evaluate_context(make(), scan(), brain(), coordinates()))


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
    found = evaluate_context(network, scan(), brain(), coordinates())
    highest = np.array(np.unravel_index(found.argmax(), SHAPE)) - MIDDLE
    assert np.abs(highest - (8, 4, 4)).max() <= 2


def test_it_has_the_last_word_with_a_fifth_of_the_weight():
    previous = np.array([0.0, 0.5, 0.5, 0.9, 1.0], np.float32)
    context = np.array([0.9, 0.5, 0.9, 1e-9, 0.5], np.float32)
    found = weigh(previous, context)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:3], [0, 0.5, 9**0.2 / (1 + 9**0.2)], rtol=1e-5)
    # It misses small lesions, so what it rules out may be one all the same.
    assert 0.4 < found[3] < 0.6
    assert 0.5 < found[4] < 1


def test_it_refines_what_the_stages_before_found():
    """Whatever the combination of the method, it is the last word."""
    volume = Volume(scan(), scan()[0].numpy(), brain(), coordinates)
    rng = np.random.default_rng(1)
    candidates = brain() & (rng.random(SHAPE) < 0.5)
    previous = rng.random(SHAPE).astype(np.float32)
    network = make()
    maps = network.predict(volume, candidates, previous)
    expected = weigh(previous, evaluate_context(network, scan(), brain(), coordinates()))
    np.testing.assert_array_equal(maps.probability, np.where(candidates, expected, 0))
    assert maps.probability.dtype == np.float32
    assert maps.spheres is None
    for combination in ("last", "mean", "product"):
        assert network.merge(previous, [maps, maps], combination) is maps.probability


def test_it_ends_a_cascade_and_needs_coordinates():
    stages = [
        Stage(GaussianDerivativePerceptron(1).eval(), CandidateRule(flair_above_z=0.0)),
        Stage(make(), CandidateRule(previous_above=0.0)),
    ]
    image, affine = {"FLAIR": scan()[0].numpy()}, np.eye(4)
    affine[:3, 3] = -np.array(MIDDLE)
    card = replace(load_card("valverde2017"), contrasts=("FLAIR",))
    before = predict_lesions(stages[:1], card, image, brain(), affine=affine).probability
    found = predict_lesions(stages, card, image, brain(), affine=affine)
    assert found.spheres is None
    np.testing.assert_array_equal(found.probability > 0, before > 0)
    # Before it learns it finds everything unlikely.
    candidates = before > 0
    assert candidates.any()
    assert (found.probability[candidates] < before[candidates]).all()
    volume = Volume(scan(), image["FLAIR"], brain())
    with pytest.raises(ValueError, match="affine"):
        predict_stages(stages, volume, "mean")


def test_in_half_precision_on_disk_it_is_the_same_however_often(tmp_path):
    network = make()
    arguments = {"channels_in": 1, "widths": [4, 8]}
    entry = {"architecture": "ContextNetwork", "arguments": arguments}
    whole = evaluate_context(network, scan(), brain(), coordinates())
    card = save_method("once", [(network, entry)], {}, tmp_path)
    other = load_network(load_model_card(str(card)).stages[0], device=CPU)
    assert next(other.parameters()).dtype == torch.float32
    np.testing.assert_allclose(
        evaluate_context(other, scan(), brain(), coordinates()), whole, atol=2e-3
    )
    again = save_method("again", [(other, entry)], {}, tmp_path)
    one, two = (load_model_card(str(path)) for path in (card, again))
    assert one.weights_sha256 == two.weights_sha256
    assert (tmp_path / "once.safetensors").stat().st_size < 3 * sum(
        values.numel() for values in network.state_dict().values()
    )


def test_the_shipped_network_sees_the_contrasts_of_a_method_where_it_knows_them():
    rng = torch.Generator().manual_seed(0)
    flair, t1w = torch.randn(2, 16, 32, 16, generator=rng)
    where = torch.randn(COORDINATES, 16, 32, 16, generator=rng) * 20

    def predict(contrasts, *channels):
        network = ContextNetwork.load_for(contrasts, CPU)
        assert not network.training
        assert network.arguments == {"channels_in": len(contrasts)}
        with torch.inference_mode():
            return network(torch.stack([*channels, *where])[None])

    whole = predict(("FLAIR", "T1w", "T2w"), flair, t1w, torch.zeros_like(flair))
    torch.testing.assert_close(predict(("FLAIR", "T1w"), flair, t1w), whole)
    torch.testing.assert_close(predict(("PDw", "T1w", "FLAIR"), t1w + 1, t1w, flair), whole)
    assert not torch.allclose(predict(("FLAIR",), flair), whole)
