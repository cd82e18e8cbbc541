"""A card states all of a method, cannot be changed, and has a hash of all that it states."""

import hashlib
import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from cascade_bids.errors import StartError, UsageError
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.architectures.cascade import CascadeUNet
from cascade_bids.models.architectures.context import ContextNetwork
from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.card import (
    FIND_LESIONS,
    WEIGHTS_DIR,
    MethodCard,
    ModelCard,
    load_card,
    load_model_card,
    rewrite_card,
)
from cascade_bids.models.members import Member
from cascade_bids.models.network import CandidateRule
from cascade_bids.models.weights import save_method

from .toy_method import STAGE, change, change_stage, save_toy


@pytest.fixture
def path(tmp_path):
    """Card of a method of two stages."""
    return save_toy(tmp_path / "w")


def test_a_card_states_all_of_a_method(path):
    card = load_card("toy", path.parent)
    assert isinstance(card, MethodCard)
    assert (card.name, card.path) == ("toy", path)
    assert card.contrasts == ("FLAIR",)
    assert card.members == (Member(card.name, len(card.stages), "mean"),)
    assert card.confidence == (1.0, 2.0, -0.5)
    assert card.networks == (Valverde2017Network, Valverde2017Network)
    assert card.count_stages(Valverde2017Network) == 2
    assert card.count_stages(UNet) == 0
    for number, stage in enumerate(card.stages, start=1):
        assert stage.entry() == STAGE
        assert stage.candidates == CandidateRule()
        assert stage.weights == path.parent / f"toy-stage{number}.safetensors"
        assert stage.sha256 == hashlib.sha256(stage.weights.read_bytes()).hexdigest()


def test_a_card_may_be_given_by_its_path(path):
    assert load_card(str(path)) == load_card("toy", path.parent)


def test_what_a_card_may_leave_out_has_a_value(tmp_path):
    card = load_card(str(save_toy(tmp_path, confidence=None)))
    assert (card.source, card.optional, card.temperature) == ("", (), 1.0)
    assert (card.takes_anatomy, card.has_spheres) == (False, False)
    assert (card.load_factor, card.confidence) == (None, None)
    # Without a smallest peak of its own, it is the threshold that every lesion voxel reaches.
    assert card.operating_point == OperatingPoint(0.2, 3.0, 0.2)
    assert not any(card.learned_from.values())


def test_what_a_card_states_is_taken(path):
    change(path, optional=["T1w"], temperature=1.5, peak=0.6, load_factor=4)
    change(path, anatomy=True, sphere_head=True, heads=["head01"])
    change(path, training_scans=["sub-01_ses-1", "sub-01_ses-2"], learned_before=["sub-02"])
    change_stage(path, candidates={"flair_above_z": 0.5, "previous_above": 0.1})
    card = load_card(str(path))
    assert (card.optional, card.temperature) == (("T1w",), 1.5)
    assert (card.takes_anatomy, card.has_spheres, card.load_factor) == (True, True, 4)
    assert card.operating_point == OperatingPoint(0.2, 3.0, 0.6)
    assert card.stages[0].candidates == CandidateRule(0.5, 0.1)
    assert card.learned_from["training_scans"] == ("sub-01_ses-1", "sub-01_ses-2")
    assert card.learned_from["heads"] == ("head01",)
    # Label maps are no participants.
    assert card.participants == {"sub-01", "sub-02"}
    change(path, training_scans=["my_data/sub-01_ses-1", "other/sub-01"])
    assert load_card(str(path)).participants == {"my_data/sub-01", "other/sub-01", "sub-02"}


def test_a_card_cannot_be_changed(path):
    card = load_card(str(path))
    for one in (card, card.stages[0], card.operating_point, card.stages[0].candidates):
        for field in fields(one):
            with pytest.raises(FrozenInstanceError):
                setattr(one, field.name, None)
    before = card.sha256
    card.entries()["threshold"] = 0.9
    card.entries()["stages"].clear()
    assert card.sha256 == before
    assert card.entries()["threshold"] == 0.2


def test_a_card_is_read_once(path):
    card = load_card(str(path))
    before = (card.sha256, card.weights_sha256, repr(card))
    path.write_text("{}")
    assert (card.sha256, card.weights_sha256, repr(card)) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"combination": "last"},
        {"threshold": 0.3},
        {"temperature": 1.5},
        {"seed": 1},
        {"peak": 0.6},
        {"min_lesion_mm3": 4.0},
        {"optional": ["T1w"]},
        {"optional": ["T1w"]},
        {"training_scans": ["sub-01"]},
        {"provenance": "elsewhere"},
        {"name": "other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_entry_makes_another_card_of_the_same_weights(path, changes):
    before = load_card(str(path))
    change(path, **changes)
    after = load_card(str(path))
    assert after.sha256 != before.sha256
    assert repr(after) != repr(before)  # by which Nipype tells whether a step must run again
    assert after.weights_sha256 == before.weights_sha256


def test_order_and_layout_of_the_entries_do_not_matter(path):
    before = load_card(str(path))
    entries = json.loads(path.read_text())
    entries["stages"] = [dict(reversed(stage.items())) for stage in entries["stages"]]
    path.write_text(json.dumps(dict(reversed(entries.items())), indent=7))
    after = load_card(str(path))
    assert after.text != before.text
    assert (after.sha256, after.weights_sha256) == (before.sha256, before.weights_sha256)
    assert repr(after) == repr(before)


def test_the_order_of_stages_and_contrasts_matters(path):
    two = [
        {**stage, "arguments": {**stage["arguments"], "channels_in": 2}}
        for stage in json.loads(path.read_text())["stages"]
    ]
    change(path, contrasts=["FLAIR", "T1w"], stages=two)
    before = load_card(str(path))
    change(path, contrasts=["T1w", "FLAIR"])
    assert load_card(str(path)).sha256 != before.sha256
    change(path, stages=json.loads(path.read_text())["stages"][::-1])
    assert load_card(str(path)).weights_sha256 != before.weights_sha256


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"candidates": {"flair_above_z": 1.0}}])
def test_other_weights_or_another_use_of_them_have_another_hash(path, changes):
    before = load_card(str(path)).weights_sha256
    change_stage(path, file="elsewhere.safetensors")
    assert load_card(str(path)).weights_sha256 == before
    change_stage(path, **changes)
    assert load_card(str(path)).weights_sha256 != before


def test_a_card_is_rewritten_with_some_entries_changed(path):
    before = json.loads(path.read_text())
    rewrite_card(path, {"temperature": 2.0, "threshold": 0.4})
    assert json.loads(path.read_text()) == {**before, "temperature": 2.0, "threshold": 0.4}
    card = load_card(str(path))
    assert (card.temperature, card.operating_point.threshold) == (2.0, 0.4)


def test_an_unknown_method_lists_what_there_is(path):
    (path.parent / "another.json").write_text(json.dumps({"task": FIND_LESIONS}))
    (path.parent / "other.json").write_text("{}")  # of another task
    for refused, known in ((load_card, "another, toy"), (load_model_card, "another, other, toy")):
        with pytest.raises(UsageError, match=rf"no method named 'toys' .* there are: {known}$"):
            refused("toys", path.parent)


def test_a_card_of_another_task_is_no_method(path):
    change(path, task="brain extraction")
    for name in ("toy", str(path)):
        with pytest.raises(UsageError, match=r"no method named '.*toy.*' in .*; there are: $"):
            load_card(name, path.parent)


def test_a_card_that_is_not_there_is_named(tmp_path):
    for refused in (load_card, load_model_card):
        with pytest.raises(UsageError, match=r"there is no card .*toy\.json"):
            refused(str(tmp_path / "toy.json"))


def test_a_damaged_card_is_named(path):
    path.write_text(path.read_text()[:-20])
    with pytest.raises(StartError, match=r"toy\.json is damaged .*; copy the card and all its"):
        load_card("toy", path.parent)
    path.write_text("[]")
    with pytest.raises(StartError, match=r"toy\.json is no card of a method"):
        load_card("toy", path.parent)


def test_a_model_of_another_task_has_a_card_too(tmp_path):
    entry = {"architecture": "UNet", "arguments": {"widths": [2, 3]}}
    entries = {"task": "brain extraction", "contrasts": "any one", "spacing_mm": 2.0}
    path = save_method("brain", [(UNet(widths=[2, 3]), entry)], entries, tmp_path)
    card = load_model_card(str(path))
    assert type(card) is ModelCard
    assert (card.name, card.task, card.contrasts) == ("brain", "brain extraction", ())
    assert card.stages[0].architecture is UNet
    assert card.stages[0].candidates is None
    assert card.stages[0].entry() == entry
    with pytest.raises(UsageError, match="no method named"):
        load_card(str(path))


def test_of_a_method_both_loaders_give_the_same(path):
    assert load_model_card(str(path)) == load_card(str(path))


SHIPPED = sorted(WEIGHTS_DIR.glob("*.json"))
FOLDS = sorted(
    (Path(__file__).parents[2] / "benchmarks" / "folds").glob("*/weights/perceptrons.json")
)


@pytest.mark.parametrize("path", [*SHIPPED, *FOLDS], ids=lambda path: f"{path.parent}/{path.name}")
def test_cards_that_come_with_the_program_load_and_keep_the_hash_of_their_weights(path):
    """By that hash, version 0.1 told methods apart, in reports and in folders of trainings."""
    card = load_model_card(str(path))
    entries = json.loads(path.read_text())
    stages = [{**stage, "file": None} for stage in entries["stages"]]
    expected = hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()
    assert card.weights_sha256 == expected
    assert card.is_shipped == (path in SHIPPED)
    assert card.name == path.stem
    assert card.entries() == entries


def test_what_comes_with_the_program_is_complete():
    assert [path.stem for path in SHIPPED] == [
        "brain",
        "cascade",
        "context",
        "ensemble",
        "perceptrons",
        "valverde2017",
    ]
    assert len(FOLDS) == 2
    assert load_card("cascade").networks == (CascadeUNet,) * 2
    assert load_card("perceptrons").networks == (
        GaussianDerivativePerceptron,
        GaussianDerivativePerceptron,
        ContextNetwork,
    )
    ensemble = load_card("ensemble")
    assert [own.stages for own in ensemble.split()] == [
        load_card(name).stages for name in ("cascade", "perceptrons")
    ]
    assert load_card("valverde2017").networks == (Valverde2017Network,) * 2
    with pytest.raises(
        UsageError, match=r"there are: cascade, ensemble, perceptrons, valverde2017$"
    ):
        load_card("brain")
