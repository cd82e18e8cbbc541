"""Batches of a later stage of a cascade: what the stages before say of each crop goes with it."""

from collections.abc import Iterator, Sequence

import torch

from cascade_bids.errors import UsageError
from cascade_bids.models.device import choose_precision, compute_in
from cascade_bids.models.network import CandidateRule
from cascade_bids.models.predict import Stage
from cascade_bids.models.training_data import Batch, Batches


class CascadedBatches:
    """Batches with the probability after the stages before as the last channel.

    The stages before predict the crop as it was changed, so their mistakes are like those on scans
    that they have not learned from. Only their candidates count: lesions, and what they take for
    one, the hard negatives.

    Parameters
    ----------
    batches
        Of contrasts and brain mask, with target and what counts.
    before
        The stages before, of networks that map such inputs to logits.
    learn
        Which voxels count.
    """

    def __init__(self, batches: Batches, before: Sequence[Stage], learn: CandidateRule) -> None:
        self._batches, self._before, self._learn = batches, before, learn

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Raises
        ------
        UsageError
            When the stages before took nothing for a lesion, so that there is nothing to learn.
        """
        possible = False
        for inputs, target in map(self._add, self._batches.train(epoch)):
            possible |= bool(target[:, 1:].any())
            yield inputs, target
        if not possible:
            raise UsageError(
                "a stage takes nothing for a lesion, so the next has nothing to learn from; train "
                "longer (--max-minutes), or on more scans"
            )

    def validate(self) -> Iterator[Batch]:
        """Yield the batches to validate on."""
        return map(self._add, self._batches.validate())

    def _add(self, batch: Batch) -> Batch:
        inputs, target = batch
        for stage in self._before:
            device = next(stage.network.parameters()).device
            with torch.inference_mode(), compute_in(choose_precision("auto", device.type)):
                previous = torch.sigmoid(stage.network(inputs.to(device)).float()).cpu()
            inputs = torch.cat([inputs, previous], dim=1)
        above = self._learn.previous_above or 0.0
        # Inference tensors cannot be saved for a gradient.
        possible = (inputs[:, -1:] > above).float()
        return inputs.clone(), torch.cat([target[:, :1], target[:, 1:] * possible], dim=1)
