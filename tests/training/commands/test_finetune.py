"""A method is adapted to a scanner."""

import json
from dataclasses import replace

import pytest
import torch

from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.architectures.nicmslesions import NicmslesionsNetwork
from cascade_bids.models.architectures.patch_classifier import PatchClassifier, _Adapting
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.card import load_card
from cascade_bids.models.join import join_methods
from cascade_bids.models.predict import Stage, load_stages
from cascade_bids.training.recipes import find_recipe
from cascade_bids.training.stages import save_stages

from .labelled import command

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def save_untrained(name, folder, recipe, seed):
    torch.manual_seed(seed)
    network = recipe.architecture
    arguments = {"channels_in": 2, **recipe.arguments}
    stages = [Stage(network.create(**arguments), stage.use) for stage in recipe.stages]
    return save_stages(name, stages, recipe, {}, ("FLAIR", "T1w"), folder)


def test_a_method_is_adapted_to_one_scan(labelled, tmp_path):
    options = ("--method", "nicmslesions", "--name", "base", "--participant-label", "03")
    assert command("train", labelled, tmp_path, *options).code == 0
    base = tmp_path / "out" / "base.json"
    one = ("--participant-label", "01", "-w", tmp_path / "work2")
    done = command("finetune", labelled, tmp_path, "--from", base, "--name", "ours", *one)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "ours.json").read_text())
    assert card["adapted_from"] == "base"
    assert card["training_scans"] == ["bids/sub-01"]
    assert card["learned_before"] == ["bids/sub-03"]
    assert card["dense_layers_trained"] == [1, 1]
    before, after = (
        load_stages(load_card(str(tmp_path / "out" / f"{name}.json")), device=CPU)
        for name in ("base", "ours")
    )
    for old, new in zip(before, after, strict=True):
        states = old.network.state_dict(), new.network.state_dict()
        moved = {
            key.split(".")[1] for key in states[0] if not torch.equal(*(s[key] for s in states))
        }
        assert moved == {"d3", "prelu_d3", "out"}


def test_an_adaptation_does_not_go_on_from_another_source(labelled, tmp_path, monkeypatch):
    """Two methods of one name, whose weights differ."""
    monkeypatch.setattr(PatchClassifier, "adapt", lambda *_: 1)
    chosen = OperatingPoint(0.4, 5.0, min_peak=0.6)
    recipe = replace(find_recipe("nicmslesions"), operating_point=chosen)

    def adapt(seed: int):
        card = save_untrained("base", tmp_path / f"source{seed}", recipe, seed)
        one = ("--participant-label", "01", "--name", "ours")
        return command("finetune", labelled, tmp_path, "--from", card, *one)

    assert adapt(0).code == adapt(0).code == 0
    adapted = json.loads((tmp_path / "out" / "ours.json").read_text())
    assert [adapted[name] for name in ("threshold", "min_lesion_mm3", "peak")] == [0.4, 5, 0.6]
    done = adapt(1)
    assert done.code == 2
    assert "belongs to a training with other source" in done.text


def test_of_joined_methods_those_are_adapted_that_can_be(labelled, tmp_path, monkeypatch):
    def adapt(self, data):
        torch.nn.init.zeros_(next(self.parameters()))
        return 1

    monkeypatch.setattr(PatchClassifier, "adapt", adapt)
    base = save_untrained("base", tmp_path, find_recipe("nicmslesions"), 0)
    other = find_recipe("allnet-base")
    rigid = save_untrained("rigid", tmp_path, replace(other, stages=other.stages[:1]), 1)
    joined = join_methods([str(rigid), str(base)], "joined", tmp_path)
    source = ("--from", joined, "--name", "ours", "--participant-label", "01")
    done = command("finetune", labelled, tmp_path, *source)
    assert done.code == 0, done.text
    before, after = load_card(str(joined)), load_card(str(tmp_path / "out" / "ours.json"))
    assert after.members == before.members
    kept = [old.sha256 == new.sha256 for old, new in zip(before.stages, after.stages, strict=True)]
    assert kept == [True, False, False]


def test_networks_on_crops_cannot_be_adapted(labelled, tmp_path):
    options = ("--method", "allnet-base", "--name", "a", "--seeds", "1")
    assert command("train", labelled, tmp_path, *options, "--participant-label", "01").code == 0
    source = ("--from", tmp_path / "out" / "a.json", "--name", "b", "-w", tmp_path / "work2")
    done = command("finetune", labelled, tmp_path, *source)
    assert done.code == 2
    assert (
        "only the cascade of 3D CNNs and the dense layers of networks on patches are" in done.text
    )
    assert not (tmp_path / "work2").exists()


def test_a_cascade_is_adapted_as_a_whole_and_gently(labelled, tmp_path):
    options = ("--method", "cascade", "--name", "base", "--participant-label", "03")
    assert command("train", labelled, tmp_path, *options).code == 0
    one = ("--participant-label", "01", "-w", tmp_path / "work2", "--name")
    base = tmp_path / "out" / "base.json"
    done = command("finetune", labelled, tmp_path, "--from", base, *one, "ours")
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "ours.json").read_text())
    assert card["adapted_from"] == "base"
    assert "dense_layers_trained" not in card
    before, after = (
        load_stages(load_card(str(tmp_path / "out" / f"{name}.json")), device=CPU)
        for name in ("base", "ours")
    )
    for old, new in zip(before, after, strict=True):
        states = old.network.state_dict(), new.network.state_dict()
        changes = [float((states[0][key] - states[1][key]).abs().max()) for key in states[0]]
        assert 0 < max(changes) < 0.01


@pytest.mark.parametrize(
    ("network", "layers", "learning"),
    [
        (NicmslesionsNetwork, 1, {"d3", "prelu_d3", "out"}),
        (NicmslesionsNetwork, 3, {"d1", "prelu_d1", "d2", "prelu_d2", "d3", "prelu_d3", "out"}),
        (Valverde2017Network, 1, {"9", "12"}),
    ],
)
def test_only_the_last_layers_learn_and_norms_stand_still(network, layers, learning):
    model = _Adapting(network(channels_in=2), layers)
    model.train()
    found = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert found == learning
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert norms
    assert not any(norm.training for norm in norms)
    dropouts = [
        m.training for m in model.modules() if isinstance(m, torch.nn.Dropout | torch.nn.Dropout3d)
    ]
    assert any(dropouts)
