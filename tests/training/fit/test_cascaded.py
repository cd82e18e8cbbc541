"""Batches of a later stage hold what the stages before say, and only candidates count."""

import pytest
import torch
from torch import nn

from cascade_bids.errors import UsageError
from cascade_bids.models.network import CandidateRule
from cascade_bids.models.predict import Stage
from cascade_bids.training.fit.cascaded import CascadedBatches


class Bright(nn.Module):
    """Takes what is bright in the first channel for a lesion."""

    gains_from_bfloat16 = False

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return 100 * (x[:, :1] - self.level)


class Two:
    """Two batches, and one to validate on."""

    def train(self, epoch):
        for number in range(2):
            rng = torch.Generator().manual_seed(10 * epoch + number)
            inputs = torch.randn(2, 3, 4, 4, 4, generator=rng)
            yield inputs, torch.ones(2, 2, 4, 4, 4)

    def validate(self):
        return self.train(0)


def test_later_stages_see_what_the_first_says_and_learn_its_candidates():
    batches = CascadedBatches(
        Two(), [Stage(Bright(), CandidateRule())], CandidateRule(previous_above=0.05)
    )
    for found, plain in zip(batches.train(3), Two().train(3), strict=True):
        (inputs, target), (before, _) = found, plain
        assert torch.equal(inputs[:, :3], before)
        torch.testing.assert_close(inputs[:, 3:] > 0.5, before[:, :1] > 1)
        assert torch.equal(target[:, 1:] > 0, inputs[:, 3:] > 0.05)
        assert (target[:, :1] == 1).all()
        assert not inputs.is_inference()
    assert len(list(batches.validate())) == 2


def test_a_stage_without_candidates_is_told():
    nothing = CascadedBatches(
        Two(), [Stage(Bright(), CandidateRule())], CandidateRule(previous_above=2)
    )
    with pytest.raises(UsageError, match="takes nothing for a lesion"):
        list(nothing.train(0))
