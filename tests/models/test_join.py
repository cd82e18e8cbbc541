"""Several methods become one, whose networks and participants are those of all."""

import json

import pytest
import torch

from cascade_bids.errors import StartError, UsageError
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.card import FIND_LESIONS, load_card
from cascade_bids.models.join import join_methods
from cascade_bids.models.members import Member
from cascade_bids.models.predict import load_stages
from cascade_bids.models.weights import save_method

CONTRASTS = ["FLAIR", "T1w"]
CPU = torch.device("cpu")
ARGUMENTS = {"channels_in": 2, "widths": [4, 6], "hidden": 8}
ENTRY = {"architecture": "PatchNetwork", "arguments": ARGUMENTS, "candidates": {}}


def make_network(seed):
    torch.manual_seed(seed)
    return Valverde2017Network(**ARGUMENTS).eval()


@pytest.fixture
def save(tmp_path):
    """Save method ``m…``, whose network has a seed of its own."""

    def saved(number, *, stages=1, **changes):
        entries = {
            "task": FIND_LESIONS,
            "contrasts": CONTRASTS,
            "combination": "last",
            "threshold": 0.3,
            "min_lesion_mm3": 5.0,
            "load_factor": 3.0,
            "confidence": [0.1, 0.2, 0.3],
            "cross_validation": {"dice": 0.5},
            "seed": number,
            "training_scans": [f"sub-{number}"],
            "learned_before": [f"sub-{number + 5}"],
            "heads": ["head01"],
        }
        networks = [(make_network(number), ENTRY)] * stages
        return str(save_method(f"m{number}", networks, entries | changes, tmp_path))

    return saved


def test_a_joined_method_has_the_networks_of_all(save, tmp_path):
    path = join_methods([save(0), save(1)], "both", tmp_path)
    card = load_card(str(path))
    assert (card.name, card.members) == ("both", (Member("m0", 1, "last"), Member("m1", 1, "last")))
    for stage, seed in zip(load_stages(card, device=CPU), (0, 1), strict=True):
        expected = make_network(seed).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in stage.network.state_dict().items())


def test_a_joined_method_has_learned_from_all_participants(save, tmp_path):
    card = load_card(str(join_methods([save(0), save(1)], "both", tmp_path)))
    assert card.learned_from["training_scans"] == ("sub-0", "sub-1")
    assert card.learned_from["learned_before"] == ("sub-5", "sub-6")
    assert card.learned_from["heads"] == ("head01",)
    assert card.participants == {"sub-0", "sub-1", "sub-5", "sub-6"}


def test_a_joined_method_has_the_operating_point_of_the_first_alone(save, tmp_path):
    other = save(1, threshold=0.6, temperature=2.0)
    path = join_methods([save(0, temperature=1.5), other], "both", tmp_path)
    card = load_card(str(path))
    assert (card.operating_point.threshold, card.temperature) == (0.3, 1.5)
    # Nobody checked these of all together.
    unknown = {"load_factor", "confidence", "cross_validation", "seed"}
    assert not unknown & json.loads(path.read_text()).keys()
    assert (card.load_factor, card.confidence) == (None, None)


def test_members_may_have_other_stages_and_sources(save, tmp_path):
    both = str(join_methods([save(0, source="a"), save(1, source="b")], "both", tmp_path))
    longer = save(2, stages=2, combination="mean", source="a")
    card = load_card(str(join_methods([both, longer], "all", tmp_path)))
    assert [(m.name, m.stages, m.combination, m.weight) for m in card.members] == [
        ("m0", 1, "last", 1),
        ("m1", 1, "last", 1),
        ("m2", 2, "mean", 1),
    ]
    assert card.source == "a; b"
    alone = card.split()
    assert [own.members for own in alone] == [(member,) for member in card.members]
    assert tuple(stage for own in alone for stage in own.stages) == card.stages


def test_methods_that_do_not_fit_are_refused(save, tmp_path):
    def refused(*methods, match):
        with pytest.raises(UsageError, match=match):
            join_methods(methods, "bad", tmp_path)
        assert not (tmp_path / "bad.json").exists()

    one, other = save(0), save(1)
    refused(one, save(2, contrasts=CONTRASTS[::-1]), match=r"m2\.json does not .*other contrasts")
    refused(one, other, save(3, optional=["T1w"]), match=r"m3\.json does not fit .*other optional;")
    refused(one, match="two methods")
    refused(one, "nothing", match="no method named 'nothing'")


def test_methods_with_damaged_weights_are_not_joined(save, tmp_path):
    methods = [save(0), save(1)]
    (tmp_path / "m1.safetensors").write_bytes(b"other")
    with pytest.raises(StartError, match=r"m1\.safetensors are not those of their card"):
        join_methods(methods, "both", tmp_path)
    assert not (tmp_path / "both.json").exists()
