"""A new kind of network is one class and one recipe; nothing else need know of it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade_bids.models import predict
from cascade_bids.models.card import MethodCard
from cascade_bids.models.network import CandidateRule, LesionMaps, TrainableNetwork, Volume
from cascade_bids.models.predict import predict_lesions
from cascade_bids.models.registry import register
from cascade_bids.models.training_data import TrainingData
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.recipes import RECIPES, Recipe, StageRecipe

from ...tiny_heads import run, stand_ins, stats
from .labelled import command

pytestmark = pytest.mark.slow


@register("ToyNetwork")
class ToyNetwork(TrainableNetwork):
    """A logistic regression on the contrasts of a voxel."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.channels_in = channels_in
        self.layer = nn.Conv3d(channels_in, 1, 1)

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        return f"{len(card.stages)} toys"

    def forward(self, crops: Tensor) -> Tensor:
        return self.layer(crops)

    def predict(self, volume: Volume, candidates: np.ndarray, previous: np.ndarray) -> LesionMaps:
        with torch.inference_mode():
            found = torch.sigmoid(self(volume.channels[None])[0, 0]).numpy()
        return LesionMaps(np.where(candidates, found, np.float32(0)))

    def fit(self, data: TrainingData) -> None:
        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return F.binary_cross_entropy_with_logits(logits, target[:, :1], target[:, 2:])

        data.train(self, data.crops((16, 16, 16)), loss)


BRAIN = CandidateRule()
LIKELY = CandidateRule(previous_above=0.2)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(
        source="nobody",
        architecture=ToyNetwork,
        stages=(StageRecipe(BRAIN, BRAIN), StageRecipe(LIKELY, LIKELY)),
        schedule=Schedule(max_epochs=60, patience=60, learning_rate=0.1),
        batch_size=2,
    )
    monkeypatch.setitem(RECIPES, "toy", recipe)


def test_a_toy_is_trained_and_run_end_to_end(labelled, tmp_path, monkeypatch):
    options = ("--method", "toy", "--name", "mytoy", "--participant-label", "01", "03")
    done = command("train", labelled, tmp_path, *options)
    assert done.code == 0, done.text
    card = tmp_path / "out" / "mytoy.json"
    stages = json.loads(card.read_text())["stages"]
    assert [stage["architecture"] for stage in stages] == ["ToyNetwork", "ToyNetwork"]
    assert stages[0]["arguments"] == {"channels_in": 2}
    assert stages[1]["candidates"] == {"previous_above": 0.2}
    with stand_ins():
        monkeypatch.setattr(predict, "predict_lesions", predict_lesions)
        one = ("--participant-label", "02", "--method", card)
        done = run(labelled, tmp_path / "derivatives", "--skip-bids-validation", *one)
    assert done.code == 0, done.text
    told = stats(done.out, "sub-02_ses-1")
    assert told is not None
    # The lesion of a tiny head is by far the brightest in its brain.
    assert told["method"] == "mytoy"
    assert told["count"] >= 1
    assert "2 toys" in (done.out / "logs" / "CITATION.md").read_text()


def test_a_toy_is_cross_validated(labelled, tmp_path):
    done = command("crossval", labelled, tmp_path, "--method", "toy")
    assert done.code == 0, done.text
    table = pd.read_csv(tmp_path / "out" / "bids" / "evaluation.tsv", sep="\t")
    assert sorted(set(table["participant_id"])) == ["sub-01", "sub-02", "sub-03"]
    assert 0.3 < table["dsc"].min() <= table["dsc"].max() <= 1
    for label in ("01", "02", "03"):
        weights = tmp_path / "work" / "folds" / f"bids_sub-{label}" / "weights"
        card = json.loads((weights / "toy.json").read_text())
        assert all(f"sub-{label}" not in scan for scan in card["training_scans"])
