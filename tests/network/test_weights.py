"""Weights come back as they went, and nothing else is ever loaded in their place."""

import json

import pytest
import torch

from cascade_bids.errors import StartError, UsageError
from cascade_bids.network.architectures import PatchNetwork, UNet
from cascade_bids.network.weights import (
    FIND_LESIONS,
    check_weights,
    load_card,
    load_network,
    save_method,
    weights_id,
)

CPU = torch.device("cpu")
ARGUMENTS = {"channels_in": 1, "widths": [2, 3], "hidden": 4}
ENTRY = {"architecture": "PatchNetwork", "arguments": ARGUMENTS, "candidates": {}}


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return [PatchNetwork(**ARGUMENTS) for _ in range(2)]


@pytest.fixture
def folder(networks, tmp_path):
    """Weights of a cascade of two stages."""
    save_method("toy", [(n, ENTRY) for n in networks], {"contrasts": ["FLAIR"]}, tmp_path / "w")
    return tmp_path / "w"


def change_card(folder, **changes):
    path = folder / "toy.json"
    card = json.loads(path.read_text())
    card["stages"][0].update(changes)
    path.write_text(json.dumps(card))


@pytest.mark.parametrize("stage", [0, 1])
def test_each_stage_comes_back_ready_for_inference(folder, networks, stage):
    loaded = load_network("toy", stage, device=CPU, folder=folder)
    assert isinstance(loaded, PatchNetwork)
    assert not loaded.training
    expected = networks[stage].state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


def test_the_card_says_all(folder):
    card = load_card("toy", folder)
    assert card["name"] == "toy"
    assert card["contrasts"] == ["FLAIR"]
    assert [s["file"] for s in card["stages"]] == [f"toy-stage{n}.safetensors" for n in (1, 2)]
    assert all(stage.items() >= ENTRY.items() for stage in card["stages"])


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"candidates": {"flair_above_z": 1.0}}])
def test_other_weights_or_another_use_of_them_have_another_name(folder, changes):
    before = weights_id("toy", folder)
    change_card(folder, file="elsewhere.safetensors")
    assert weights_id("toy", folder) == before
    change_card(folder, **changes)
    assert weights_id("toy", folder) != before


def test_one_stage_has_no_number(tmp_path):
    entry = {"architecture": "UNet", "arguments": {"widths": [2, 3]}}
    card = save_method("brain", [(UNet(widths=[2, 3]), entry)], {}, tmp_path)
    assert card == tmp_path / "brain.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["brain.json", "brain.safetensors"]
    assert isinstance(load_network("brain", device=CPU, folder=tmp_path), UNet)


def test_same_weights_give_the_same_bytes(folder, networks, tmp_path):
    save_method("toy", [(n, ENTRY) for n in networks], {"contrasts": ["FLAIR"]}, tmp_path / "v")
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["toy-stage1.safetensors", "toy-stage2.safetensors", "toy.json"]
    assert all((folder / n).read_bytes() == (tmp_path / "v" / n).read_bytes() for n in names)


def test_a_new_training_replaces_the_old(folder, networks):
    save_method("toy", [(n, ENTRY) for n in reversed(networks)], {}, folder)
    check_weights("toy", folder)
    loaded = load_network("toy", 0, device=CPU, folder=folder)
    first = next(networks[1].parameters())
    assert torch.equal(next(loaded.parameters()), first)


def test_whole_weights_pass_the_check(folder):
    check_weights("toy", folder)


@pytest.mark.parametrize("position", [0, 8, -1], ids=["length", "header", "last weight"])
def test_tampered_weights_are_refused(folder, position):
    path = folder / "toy-stage2.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    load_network("toy", 0, device=CPU, folder=folder)  # the other stage is whole
    for refused in (
        lambda: check_weights("toy", folder),
        lambda: load_network("toy", 1, device=CPU, folder=folder),
    ):
        with pytest.raises(StartError, match=r"toy-stage2\.safetensors are not those of their"):
            refused()


def test_absent_weights_are_named(folder):
    (folder / "toy-stage1.safetensors").unlink()
    with pytest.raises(StartError, match=r"cannot read .*toy-stage1\.safetensors: No such file"):
        check_weights("toy", folder)


def test_an_unknown_method_lists_what_there_is(folder):
    (folder / "other.json").write_text("{}")
    for refused in (load_card, check_weights):
        with pytest.raises(UsageError, match=r"no method named 'toys' .* there are: other, toy$"):
            refused("toys", folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {**ARGUMENTS, "hidden": 5}},
        {"arguments": {**ARGUMENTS, "depth": 3}},
        {"architecture": "UNet", "arguments": {"channels_in": 1}},
        {"architecture": "Transformer"},
    ],
    ids=["other size", "unknown argument", "other architecture", "unknown architecture"],
)
def test_weights_that_do_not_fit_their_card_are_refused(folder, changes):
    change_card(folder, **changes)
    with pytest.raises(StartError, match=r"toy-stage1\.safetensors do not fit their card"):
        load_network("toy", 0, device=CPU, folder=folder)


def test_a_damaged_card_is_named(folder):
    path = folder / "toy.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(StartError, match=r"toy\.json is damaged"):
        load_card("toy", folder)


GOOD = {
    "task": FIND_LESIONS,
    "contrasts": ["FLAIR"],
    "combination": "mean",
    "threshold": 0.2,
    "min_lesion_mm3": 3.0,
    "confidence": [1.0, 2.0, -0.5],
}


@pytest.fixture
def card(networks, tmp_path):
    return save_method("toy", [(n, ENTRY) for n in networks], GOOD, tmp_path / "good")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", "low"),
        ("threshold", 1.7),
        ("threshold", 0),
        ("threshold", True),
        ("min_lesion_mm3", -1),
        ("combination", "sum"),
        ("contrasts", ["T1w"]),
        ("temperature", 0),
        ("peak", None),
        ("load_factor", "wide"),
        ("confidence", [1.0, 2.0]),
        ("confidence", 3.0),
    ],
)
def test_a_card_that_makes_no_sense_is_refused_by_name(card, name, value):
    assert load_card(str(card), task=FIND_LESIONS)["threshold"] == 0.2
    card.write_text(json.dumps({**json.loads(card.read_text()), name: value}))
    with pytest.raises(StartError, match=rf"toy\.json: {name} is .*, and must be"):
        load_card(str(card), task=FIND_LESIONS)


@pytest.mark.parametrize("name", ["threshold", "stages"])
def test_a_card_that_lacks_something_is_refused_by_name(card, name):
    entries = json.loads(card.read_text())
    del entries[name]
    card.write_text(json.dumps(entries))
    with pytest.raises(StartError, match=rf"toy\.json has no {name}"):
        load_card(str(card), task=FIND_LESIONS)


def test_a_stage_that_lacks_something_is_refused_by_number(card):
    entries = json.loads(card.read_text())
    del entries["stages"][1]["sha256"]
    card.write_text(json.dumps(entries))
    with pytest.raises(StartError, match="no sha256 of stage 2"):
        load_card(str(card))


def test_a_card_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no card .*toy\.json"):
        load_card(str(tmp_path / "toy.json"))
