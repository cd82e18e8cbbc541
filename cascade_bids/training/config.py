"""What a training was asked to do, and whether that fits together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cascade_bids.config import InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.network.cascade import Stage, load_stages
from cascade_bids.network.weights import FIND_LESIONS, LEARNED_FROM, load_card
from cascade_bids.training.loop import Schedule
from cascade_bids.training.recipes import Recipe, find_recipe


@dataclass(frozen=True)
class TrainConfig:
    """What a training was asked to do."""

    inputs: InputConfig
    """Which scans to learn from."""
    method: str
    """Name of a recipe."""
    contrasts: tuple[str, ...]
    """Channels of the networks, in this order."""
    masks_dir: Path | None
    """Where the lesion masks are; the dataset when None."""
    preprocess: PreprocessConfig
    """How scans are brought to the network grid; its seed is that of the training too."""
    resources: ResourceConfig
    """What the training may use; its own work folder counts, not the one in here."""
    work_dir: Path
    """Keeps cases, checkpoints and curves; the same folder continues a broken training."""
    max_minutes: float | None = None
    """Minutes of training for all networks together; None as long as the recipe says."""
    seeds: int | None = None
    """How many networks vote, of a method whose networks do; None for as many as published."""
    heads_dir: Path | None = None
    """Label maps of heads, for a method that learns from scans that are made up."""
    start_from: str | None = None
    """Method or card whose weights the networks start with."""
    unlabelled_dir: Path | None = None
    """Raw scans that nobody labelled, for a method that learns from scans that are changed."""
    healthy_dir: Path | None = None
    """T1w of healthy heads with MUSE labels, for a method that learns from scans that are made
    up."""

    @property
    def asked_for(self) -> set[str]:
        """Participants who were named, without ``sub-``."""
        return {label.removeprefix("sub-") for label in self.inputs.participant_labels}

    @property
    def makes_up_scans(self) -> bool:
        """Whether there is anything to make up scans from."""
        return self.heads_dir is not None or self.healthy_dir is not None

    def find_recipe(self) -> Recipe:
        """Give the recipe of the method, for as many networks as were asked for.

        Raises
        ------
        UsageError
            When there is no such method, or the other options, or the method to start from, don't
            fit it.
        """
        recipe = find_recipe(self.method)
        for option, folder in (("--heads", self.heads_dir), ("--healthy", self.healthy_dir)):
            if folder is not None and not recipe.from_samples:
                raise UsageError(
                    f"{option}: {self.method} learns from real scans only; leave it out"
                )
        if self.unlabelled_dir is not None and not recipe.from_samples:
            raise UsageError(f"--unlabelled: {self.method} needs labelled scans; leave it out")
        self._check_start(recipe)
        if recipe.from_samples and "T1w" not in self.contrasts:
            raise UsageError(
                f"--contrasts must name T1w, since {self.method} paints lesions into white matter, "
                "which T1w shows; in use it can do without"
            )
        if self.seeds is None:
            return recipe
        if recipe.combination != "vote":
            raise UsageError(f"--seeds: the networks of {self.method} do not vote; leave it out")
        return replace(recipe, stages=recipe.stages[:1] * self.seeds)

    def _check_start(self, recipe: Recipe) -> None:
        if self.start_from is None:
            return
        if not recipe.from_samples:
            raise UsageError(
                f"--start-from: {self.method} learns from scratch; leave it out, or adapt a method "
                "with cascade-bids finetune"
            )
        card = load_card(self.start_from, task=FIND_LESIONS)
        stages: list[dict[str, Any]] = card["stages"]
        expected = (len(recipe.stages), list(self.contrasts), recipe.architecture)
        # A network at the end that stays as it is does not count.
        kind = stages[0]["architecture"]
        count = sum(stage["architecture"] == kind for stage in stages)
        found = (count, list(card["contrasts"]), kind)
        if found != expected:
            raise UsageError(
                f"--start-from {self.start_from}: {found[0]} stages of {found[2]} on "
                f"{', '.join(found[1])}, where {self.method} has {expected[0]} of {expected[2]} on "
                f"{', '.join(self.contrasts)}"
            )

    def load_start(self, device: torch.device) -> list[Stage]:
        """Load the stages that the training starts with; none if it starts from scratch."""
        return [] if self.start_from is None else load_stages(self.start_from, device=device)


def known_before(config: TrainConfig) -> dict[str, set[str]]:
    """Name the participants whom weights know that a training begins or ends with, by card."""
    cards = ["context"] if config.find_recipe().with_context else []
    if config.start_from is not None:
        cards.append(config.start_from)
    return {name: known_participants(load_card(name)) for name in cards}


def known_participants(card: Mapping[str, Any]) -> set[str]:
    """Name the participants whom weights have learned from, themselves or those before them."""
    lists = (card.get(name, []) for name in LEARNED_FROM)
    return {label.split("_")[0] for labels in lists for label in labels}


def stage_schedules(recipe: Recipe, config: TrainConfig) -> list[Schedule]:
    """Share the minutes among the stages."""
    if config.max_minutes is None:
        return [recipe.schedule] * len(recipe.stages)
    minutes = config.max_minutes / len(recipe.stages)
    return [replace(recipe.schedule, max_minutes=minutes)] * len(recipe.stages)
