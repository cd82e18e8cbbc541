"""Weights come back as they went, and nothing else is ever loaded in their place."""

import json

import pytest
import torch

from cascade_bids.errors import StartError, UsageError
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.card import WEIGHTS_DIR, load_card, load_model_card
from cascade_bids.models.weights import check_weights, load_network, save_method

from .toy_method import ARGUMENTS, ENTRIES, STAGE, change_stage, make_networks, save_toy

CPU = torch.device("cpu")


@pytest.fixture
def networks():
    return make_networks()


@pytest.fixture
def path(tmp_path):
    """Card of a cascade of two stages."""
    return save_toy(tmp_path / "w")


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("checked", [False, True])
def test_each_stage_comes_back_ready_for_inference(path, networks, number, checked):
    loaded = load_network(load_card(str(path)).stages[number], device=CPU, checked=checked)
    assert isinstance(loaded, Valverde2017Network)
    assert not loaded.training
    assert loaded.arguments == ARGUMENTS
    assert same_weights(loaded, networks[number])
    assert not same_weights(loaded, networks[1 - number])


def test_the_card_states_all_that_was_given(path):
    entries = json.loads(path.read_text())
    assert entries["name"] == "toy"
    assert entries.items() >= ENTRIES.items()
    assert [s["file"] for s in entries["stages"]] == [f"toy-stage{n}.safetensors" for n in (1, 2)]
    assert all(stage.items() >= STAGE.items() for stage in entries["stages"])


def test_one_stage_has_no_number(tmp_path):
    entry = {"architecture": "UNet", "arguments": {"widths": [2, 3]}}
    path = save_method("brain", [(UNet(widths=[2, 3]), entry)], {}, tmp_path)
    assert path == tmp_path / "brain.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["brain.json", "brain.safetensors"]
    card = load_model_card("brain", tmp_path)
    assert isinstance(load_network(card.stages[0], device=CPU), UNet)


def test_same_weights_give_the_same_bytes(path, tmp_path):
    again = save_toy(tmp_path / "v")
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["toy-stage1.safetensors", "toy-stage2.safetensors", "toy.json"]
    assert all((path.parent / n).read_bytes() == (again.parent / n).read_bytes() for n in names)


def test_a_new_training_replaces_the_old(path, networks):
    save_method("toy", [(one, STAGE) for one in reversed(networks)], ENTRIES, path.parent)
    card = load_card(str(path))
    check_weights(card)
    assert same_weights(load_network(card.stages[0], device=CPU), networks[1])


def test_whole_weights_pass_the_check(path):
    check_weights(load_card(str(path)))


def test_weights_that_come_with_the_program_pass_the_check():
    for path in WEIGHTS_DIR.glob("*.json"):
        check_weights(load_model_card(str(path)))


@pytest.mark.parametrize("position", [0, 8, -1], ids=["length", "header", "last weight"])
def test_tampered_weights_are_refused(path, position):
    card = load_card(str(path))
    first, second = card.stages
    content = bytearray(second.weights.read_bytes())
    content[position] ^= 1
    second.weights.write_bytes(content)
    load_network(first, device=CPU)  # the other stage is whole
    for refused in (lambda: check_weights(card), lambda: load_network(second, device=CPU)):
        with pytest.raises(StartError, match=r"toy-stage2\.safetensors are not those of their"):
            refused()


def test_weights_that_changed_since_the_check_are_refused_if_they_are_broken(path):
    """Where the file was checked in this run it is not hashed again, but still read with care."""
    stage = load_card(str(path)).stages[0]
    stage.weights.write_bytes(stage.weights.read_bytes()[:-1])
    with pytest.raises(StartError, match=r"toy-stage1\.safetensors do not fit their card"):
        load_network(stage, device=CPU, checked=True)


def test_the_check_in_a_run_before_spares_the_hash(path, networks):
    change_stage(path, sha256="0" * 64)
    stage = load_card(str(path)).stages[0]
    with pytest.raises(StartError, match="not those of their card"):
        load_network(stage, device=CPU)
    assert same_weights(load_network(stage, device=CPU, checked=True), networks[0])


def test_absent_weights_are_named(path):
    card = load_card(str(path))
    card.stages[0].weights.unlink()
    for refused in (
        lambda: check_weights(card),
        lambda: load_network(card.stages[0], device=CPU),
        lambda: load_network(card.stages[0], device=CPU, checked=True),
    ):
        with pytest.raises(
            StartError, match=r"cannot read .*toy-stage1\.safetensors: No such file.*; copy the"
        ):
            refused()


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {**ARGUMENTS, "hidden": 5}},
        {"arguments": {**ARGUMENTS, "depth": 3}},
        {"architecture": "NicmslesionsNetwork", "arguments": {"channels_in": 1}},
    ],
    ids=["other size", "unknown argument", "other architecture"],
)
def test_weights_that_do_not_fit_their_card_are_refused(path, changes):
    change_stage(path, **changes)
    stage = load_card(str(path)).stages[0]
    with pytest.raises(StartError, match=r"toy-stage1\.safetensors do not fit their card"):
        load_network(stage, device=CPU)


def test_weights_of_another_task_do_not_fit_either(path):
    change_stage(path, architecture="UNet", arguments={"channels_in": 1})
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries | {"task": "brain extraction"}))
    with pytest.raises(StartError, match=r"toy-stage1\.safetensors do not fit their card"):
        load_network(load_model_card(str(path)).stages[0], device=CPU)


@pytest.mark.parametrize("name", ["../mine", "", "a/b", ".hidden", "mine\n"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="can't be called"):
        save_method(name, [], {}, tmp_path / "out")
    assert not list(tmp_path.iterdir())
