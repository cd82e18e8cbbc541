"""A method is adapted to a scanner."""

import json
from dataclasses import replace

import pytest
import torch

from cascade_bids.network.architectures import NicmslesionsNetwork, PatchNetwork
from cascade_bids.network.cascade import Stage, load_stages
from cascade_bids.training import cascade, finetune
from cascade_bids.training.finetune import Adapting
from cascade_bids.training.recipes import find_recipe

from .labelled import command

CPU = torch.device("cpu")


def test_a_method_is_adapted_to_one_scan(labelled, tmp_path):
    options = ("--method", "nicmslesions", "--name", "base", "--participant-label", "03")
    assert command("train", labelled, tmp_path, *options).code == 0
    base = tmp_path / "out" / "base.json"
    one = ("--participant-label", "01", "-w", tmp_path / "work2")
    done = command("finetune", labelled, tmp_path, "--from", base, "--name", "ours", *one)
    assert done.code == 0, done.text
    card = json.loads((tmp_path / "out" / "ours.json").read_text())
    assert card["adapted_from"] == "base"
    assert card["training_scans"] == ["sub-01"]
    assert card["dense_layers_trained"] == [1, 1]
    before, after = (
        load_stages(str(tmp_path / "out" / f"{name}.json"), device=CPU) for name in ("base", "ours")
    )
    for old, new in zip(before, after, strict=True):
        states = old.network.state_dict(), new.network.state_dict()
        moved = {
            key.split(".")[1] for key in states[0] if not torch.equal(*(s[key] for s in states))
        }
        assert moved == {"d3", "prelu_d3", "out"}


def test_an_adaptation_does_not_go_on_from_another_source(labelled, tmp_path, monkeypatch):
    """Two methods of one name, whose weights differ."""
    monkeypatch.setattr(finetune, "draw_voxels", lambda *_: [])
    monkeypatch.setattr(finetune, "fit_patches", lambda *_, **__: None)
    recipe = replace(find_recipe("nicmslesions"), threshold=0.4, min_lesion_mm3=5.0)

    def adapt(seed: int):
        torch.manual_seed(seed)
        stages = [Stage(NicmslesionsNetwork(2), stage.use) for stage in recipe.stages]
        folder = tmp_path / f"source{seed}"
        card = cascade.save_cascade("base", stages, recipe, {}, ("FLAIR", "T1w"), folder)
        one = ("--participant-label", "01", "--name", "ours")
        return command("finetune", labelled, tmp_path, "--from", card, *one)

    assert adapt(0).code == adapt(0).code == 0
    adapted = json.loads((tmp_path / "out" / "ours.json").read_text())
    assert (adapted["threshold"], adapted["min_lesion_mm3"]) == (0.4, 5)
    done = adapt(1)
    assert done.code == 2
    assert "belongs to a training with other source" in done.text


def test_networks_on_crops_cannot_be_adapted(labelled, tmp_path):
    options = ("--method", "allnet-base", "--name", "a", "--seeds", "1")
    assert command("train", labelled, tmp_path, *options, "--participant-label", "01").code == 0
    source = ("--from", tmp_path / "out" / "a.json", "--name", "b", "-w", tmp_path / "work2")
    done = command("finetune", labelled, tmp_path, *source)
    assert done.code == 2
    assert "only the dense layers of networks on patches are" in done.text
    assert not (tmp_path / "work2").exists()


@pytest.mark.parametrize(
    ("network", "layers", "learning"),
    [
        (NicmslesionsNetwork, 1, {"d3", "prelu_d3", "out"}),
        (NicmslesionsNetwork, 3, {"d1", "prelu_d1", "d2", "prelu_d2", "d3", "prelu_d3", "out"}),
        (PatchNetwork, 1, {"9", "12"}),
    ],
)
def test_only_the_last_layers_learn_and_norms_stand_still(network, layers, learning):
    model = Adapting(network(channels_in=2), layers)
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
