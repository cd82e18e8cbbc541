"""Datasets to learn from."""

from dataclasses import dataclass
from pathlib import Path

from cascade_bids.config import InputConfig


@dataclass(frozen=True)
class LabelledDataset:
    """A dataset whose scans a rater labelled."""

    inputs: InputConfig
    """Which of its scans to learn from."""
    masks_dir: Path
    """Where its lesion masks are."""

    @property
    def source(self) -> str:
        """Its name: that of its folder."""
        return self.inputs.bids_dir.name

    def leaves_out(self, subject: str) -> bool:
        """Return whether others were named, but not this participant."""
        named = {label.removeprefix("sub-") for label in self.inputs.participant_labels}
        return bool(named) and subject not in named
