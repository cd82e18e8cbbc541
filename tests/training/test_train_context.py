"""The training of the network that sees whole brains."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_bids.cli.main import main
from cascade_bids.models.architectures.context import ContextNetwork
from cascade_bids.models.card import load_model_card
from cascade_bids.models.weights import check_weights, load_network
from cascade_bids.training import train_context
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.synthesis import generator, painting
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.train_context import (
    Brain,
    brain_loss,
    change,
    draw_brains,
    fit_brains,
    read_brain,
)

from .tiny_anatomy import make_anatomy, make_donor

CPU = torch.device("cpu")
SIDE = 48


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(generator, "WINDOW", (SIDE,) * 3)
    monkeypatch.setattr(train_context, "WINDOW", (SIDE,) * 3)
    monkeypatch.setattr(painting, "HEALTHY", 0.0)
    monkeypatch.setattr(painting, "STEEP", 0.0)


def draw_brain(seed=0):
    """Make a small brain, with a lesion on the left of the template."""
    rng = np.random.default_rng(seed)
    shape = (20, 30, 16)
    coordinates = np.indices(shape) - np.reshape((10, 15, 8), (3, 1, 1, 1))
    labels = np.zeros((2, *shape), bool)
    labels[1] = True
    labels[0, 2:5, 10:14, 4:8] = True
    channels = rng.normal(size=(3, *shape))
    channels[0] = 3.0 * labels[0] + 1
    channels[2] = 0
    return Brain(channels.astype(np.float16), coordinates.astype(np.float16), labels)


def test_a_brain_comes_into_the_middle_of_the_window_as_it_is():
    brain = draw_brain()
    inputs, labels = change(brain, CPU)
    assert inputs.shape == (6, SIDE, SIDE, SIDE)
    inside = (slice(None), slice(14, 34), slice(9, 39), slice(16, 32))
    np.testing.assert_array_equal(inputs[inside].numpy()[:3], brain.channels.astype(np.float32))
    np.testing.assert_array_equal(labels[inside].numpy(), brain.labels)
    assert labels[1].sum() == brain.labels[1].sum()


def test_what_is_changed_stays_together():
    sides = set()
    for seed in range(12):
        inputs, labels = change(draw_brain(), CPU, torch.Generator().manual_seed(seed))
        lesion = labels[0] > 0
        assert lesion.sum() == 3 * 4 * 4
        # The lesion is bright where it is; what is missing stays so.
        assert inputs[0][lesion].min() > inputs[0][~lesion].max()
        assert not inputs[2].any()
        # A mirrored head has it on the other side, in the window and in the template.
        x = inputs[3]
        assert x[labels[1] > 0].unique().diff().min() == 1
        assert (torch.diff(x, dim=0)[labels[1, 1:] * labels[1, :-1] > 0] == 1).all()
        (side,) = (x[lesion] > 0).unique().tolist()
        sides.add(side)
    assert sides == {True, False}


def test_a_brain_larger_than_the_window_is_cut(monkeypatch):
    monkeypatch.setattr(train_context, "WINDOW", (16, 32, 16))
    for rng in (None, torch.Generator().manual_seed(0)):
        inputs, labels = change(draw_brain(), CPU, rng)
        assert inputs.shape == (6, 16, 32, 16)
        assert labels[1].sum() == 16 * 30 * 16


def test_the_loss_is_0_where_all_is_right_and_counts_the_brain_only():
    _, labels = change(draw_brain(), CPU)
    right = torch.where(labels[:1] > 0, 30.0, -30.0)[None]
    assert float(brain_loss(right, labels[None])) == pytest.approx(0, abs=1e-6)
    outside = torch.where(labels[1:] > 0, right[0], 30.0)[None]
    assert float(brain_loss(outside, labels[None])) == pytest.approx(0, abs=1e-6)
    nothing = torch.full_like(right, -30.0)
    lesions, voxels = (float(part.sum()) for part in labels)
    softness = train_context.SMOOTHING
    expected = 5 * 30 * lesions / voxels + 1 - softness / (lesions + softness)
    assert float(brain_loss(nothing, labels[None])) == pytest.approx(expected, rel=1e-4)


def test_scans_are_drawn_once_and_the_same_for_a_seed(tmp_path, monkeypatch):
    source = ScanGenerator(("FLAIR", "T1w"), (make_anatomy(),), (make_donor(),))
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            paths = draw_brains(source, tmp_path / str(count), 3, 5)
            assert [path.name for path in paths] == ["0.npz", "1.npz", "2.npz"]
    finally:
        torch.set_num_threads(threads)
    for number in range(3):
        one, two = (read_brain(tmp_path / name / f"{number}.npz") for name in "12")
        np.testing.assert_array_equal(one.channels, two.channels)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert one.labels[0].any()
    monkeypatch.setattr(train_context, "keep_brain", None)
    assert draw_brains(source, tmp_path / "2", 3, 5) == paths


def test_it_learns_to_tell_lesions(tmp_path, monkeypatch):
    monkeypatch.setattr(train_context, "BATCHES", 12)
    monkeypatch.setattr(train_context, "BATCH_SIZE", 1)
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", **draw_brain(number)._asdict())
    torch.manual_seed(0)
    network = ContextNetwork(3, widths=(4, 8))
    schedule = Schedule(max_epochs=4, patience=4, learning_rate=1e-2, keep_last=True)
    paths = [tmp_path / f"{number}.npz" for number in range(3)]
    fit_brains(network, paths[:2], paths[2:], tmp_path, schedule=schedule, seed=0)
    inputs, labels = change(draw_brain(2), CPU)
    with torch.inference_mode():
        found = torch.sigmoid(network(inputs[None]))[0, 0]
    assert found[labels[0] > 0].mean() > 5 * found[(labels[0] == 0) & (labels[1] > 0)].mean()


def test_a_training_leaves_weights_and_a_card_that_says_of_whom(tmp_path, monkeypatch, capsys):
    # Of two sessions of one participant both are taken.
    donors = [make_donor(f"data/sub-{label}") for label in ("1", "1", "2")]
    monkeypatch.setattr(train_context, "load_label_maps", lambda *_: [make_anatomy()])
    monkeypatch.setattr(train_context, "load_donors", lambda _: donors)
    changes = {"SCANS": 2, "SCANS_TO_VALIDATE": 1, "BATCHES": 1, "BATCH_SIZE": 1}
    for name, value in changes.items():
        monkeypatch.setattr(train_context, name, value)
    monkeypatch.setattr(train_context, "SCHEDULE", replace(train_context.SCHEDULE, max_epochs=1))
    folders = ("--out", str(tmp_path / "out"), "-w", str(tmp_path / "work"), "--nprocs", "1")
    data = str(tmp_path / "data")
    arguments = ["train-context", data, data, *folders]
    assert main([*arguments, "--without", "sub-2"]) == 0
    assert capsys.readouterr().out.strip().endswith("context.json")
    card = json.loads((tmp_path / "out" / "context.json").read_text())
    assert card["lesion_donors"] == ["data/sub-1"] * 2
    assert card["heads"] == ["head01"]
    written = load_model_card(str(tmp_path / "out" / "context.json"))
    check_weights(written)
    network = load_network(written.stages[0], device=CPU)
    assert network.atlas.any()

    assert main(arguments) == 2
    assert "other donors of lesions" in capsys.readouterr().err
    for left_out, words in (
        (["1", "2"], "leaves out everyone"),
        (["02", "1"], "no lesions of 02 in"),
    ):
        assert main([*arguments, "-w", str(tmp_path / "new"), "--without", *left_out]) == 2
        assert words in capsys.readouterr().err
    inside = ["train-context", data, data, "--out", f"{data}/out", "-w", str(tmp_path / "new")]
    assert main(inside) == 2
    assert not (tmp_path / "data").exists()


def test_the_network_sees_the_contrasts_of_a_method_where_it_knows_them():
    brain = draw_brain()
    inputs, _ = change(brain, CPU)
    flair, t1w, _, *coordinates = inputs
    absent = torch.zeros_like(flair)

    def predict(contrasts, *channels):
        network = ContextNetwork.load_for(contrasts, CPU)
        with torch.inference_mode():
            return network(torch.stack([*channels, *coordinates])[None])

    whole = predict(("FLAIR", "T1w", "T2w"), flair, t1w, absent)
    torch.testing.assert_close(predict(("FLAIR", "T1w"), flair, t1w), whole)
    torch.testing.assert_close(predict(("PDw", "T1w", "FLAIR"), t1w + 1, t1w, flair), whole)
    assert not torch.allclose(predict(("FLAIR",), flair), whole)
