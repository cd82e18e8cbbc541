"""What all networks that find lesions share: candidates, the scan that they see, and merging."""

import numpy as np
import pytest
import torch

from cascade_bids.models.architectures.allnet import LesionUNet
from cascade_bids.models.network import CandidateRule, LesionMaps, LesionNetwork, Volume, mirror
from cascade_bids.models.probabilities import combine


class Constant(LesionNetwork):
    """A network that predicts the same of all candidates."""

    card_name = "Constant"

    @classmethod
    def describe(cls, card):
        return "a constant"

    def predict(self, volume, candidates, previous):
        return LesionMaps(np.where(candidates, np.float32(0.5), np.float32(0)))


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


@pytest.mark.parametrize(
    "entry", [{}, {"flair_above_z": 0.0}, {"previous_above": 0.5}, {"flair_above_z": -1.5}]
)
def test_a_rule_stands_in_a_card_as_it_was_read(entry):
    assert CandidateRule(**entry).to_entry() == entry


def make_volume(**given):
    rng = np.random.default_rng(0)
    channels = torch.from_numpy(rng.normal(size=(2, 5, 4, 3)).astype(np.float32))
    brain = rng.random((5, 4, 3)) < 0.5
    return Volume(channels, channels[1].numpy(), brain, **given)


def test_coordinates_are_computed_once_and_only_where_they_are_needed():
    calls = []

    def locate():
        calls.append(1)
        return np.arange(180, dtype=np.float32).reshape(5, 4, 3, 3)

    volume = make_volume(locate=locate)
    turned = volume.mirror()
    assert not calls
    np.testing.assert_array_equal(turned.coordinates, volume.coordinates[::-1])
    assert turned.coordinates is turned.coordinates
    assert len(calls) == 1


def test_a_mirrored_volume_is_mirrored_in_all_its_parts():
    volume = make_volume()
    turned = volume.mirror()
    np.testing.assert_array_equal(turned.channels, volume.channels.numpy()[:, ::-1])
    np.testing.assert_array_equal(turned.flair, volume.flair[::-1])
    np.testing.assert_array_equal(turned.brain, volume.brain[::-1])
    np.testing.assert_array_equal(turned.mirror().channels, volume.channels)
    np.testing.assert_array_equal(mirror(mirror(volume.flair)), volume.flair)


def test_without_an_affine_there_are_no_coordinates():
    with pytest.raises(ValueError, match="so it needs an affine"):
        _ = make_volume().coordinates


@pytest.mark.parametrize("combination", ["last", "product", "mean", "vote"])
def test_networks_merge_the_maps_of_all_stages(combination):
    maps = [np.random.default_rng(n).random((5, 4, 3)).astype(np.float32) for n in range(3)]
    found = Constant().merge(maps[1], [LesionMaps(one) for one in maps], combination)
    np.testing.assert_array_equal(found, combine(maps, combination))


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (Constant(), "Constant"),
        (LesionUNet(1, False, False, (8, 8, 8), widths=(2, 4)), "LesionUNet"),
    ],
    ids=["not trainable", "trainable"],
)
def test_a_network_without_dense_layers_cannot_be_adapted(network, name):
    assert not network.can_adapt()
    with pytest.raises(ValueError, match=f"{name} can't be adapted"):
        network.adapt(None)
