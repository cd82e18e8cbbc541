"""Settings of a training, and whether they fit together."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cascade_bids.config import PreprocessConfig, ResourceConfig
from cascade_bids.errors import UsageError
from cascade_bids.models.card import MethodCard, ModelCard
from cascade_bids.models.network import LesionNetwork
from cascade_bids.models.predict import Stage, load_stages
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.fit.loop import Schedule
from cascade_bids.training.recipes import Recipe, find_recipe


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training."""

    datasets: tuple[LabelledDataset, ...]
    """What to learn from; no two have the same name."""
    method: str
    """Name of a recipe."""
    contrasts: tuple[str, ...]
    """Channels of the networks, in this order."""
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
    label_maps_dir: Path | None = None
    """Label maps of heads, for a method that learns from synthetic or painted scans."""
    start_from: MethodCard | None = None
    """Card of the method whose weights the networks start with."""
    unlabelled_dir: Path | None = None
    """Raw scans that nobody labelled, for a method that learns from scans that are changed."""
    healthy_dir: Path | None = None
    """T1w of healthy heads with MUSE labels, for the same."""

    @property
    def has_synthetic(self) -> bool:
        """Whether there is anything to make synthetic scans from."""
        return self.label_maps_dir is not None or self.healthy_dir is not None

    def find_recipe(self) -> Recipe:
        """Return the recipe of the method, for as many networks as `seeds` says.

        Raises
        ------
        UsageError
            When there is no such method, or the other options, or the method to start from, don't
            fit it.
        """
        recipe = find_recipe(self.method)
        for option, folder in (
            ("--label-maps", self.label_maps_dir),
            ("--healthy", self.healthy_dir),
        ):
            if folder is not None and not (recipe.learns_from_synthetic or recipe.paints):
                raise UsageError(
                    f"{option}: {self.method} learns from real scans only; leave it out"
                )
        if self.unlabelled_dir is not None and not recipe.learns_from_synthetic:
            raise UsageError(f"--unlabelled: {self.method} needs labelled scans; leave it out")
        self._check_start(recipe)
        if recipe.learns_from_synthetic and "T1w" not in self.contrasts:
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
        if not recipe.architecture.goes_on:
            raise UsageError(
                f"--start-from: {self.method} learns from scratch; leave it out, or adapt a method "
                "with cascade-bids finetune"
            )
        card = _find_member(self.start_from, recipe.architecture)
        # A network at the end that stays as it is does not count.
        found = (card.count_stages(recipe.architecture), card.contrasts)
        expected = (len(recipe.stages), self.contrasts)
        if found != expected:
            raise UsageError(
                f"--start-from {card.name}: {found[0]} stages of {self.method} on "
                f"{', '.join(found[1])}, where {expected[0]} on {', '.join(expected[1])} are needed"
            )

    def load_start(self, device: torch.device) -> list[Stage]:
        """Load the stages that the training starts with; none from scratch."""
        if self.start_from is None:
            return []
        kind = find_recipe(self.method).architecture
        return load_stages(_find_member(self.start_from, kind), device=device, checked=True)


def _find_member(card: MethodCard, kind: type[LesionNetwork]) -> MethodCard:
    """Return the first member of a method that has networks of a kind; else the whole."""
    return next((own for own in card.split() if own.count_stages(kind)), card)


def known_before(config: TrainConfig, recipe: Recipe) -> list[ModelCard]:
    """Return the cards of the weights that a training by a recipe begins or ends with."""
    cards: list[ModelCard] = []
    if recipe.ending is not None:
        cards.append(recipe.ending.card())
    if config.start_from is not None:
        cards.append(config.start_from)
    return cards


def stage_schedules(recipe: Recipe, config: TrainConfig) -> list[Schedule]:
    """Return the schedule of each stage, with its share of the minutes."""
    whole, minutes = recipe.schedule, config.max_minutes
    efforts = [stage.effort for stage in recipe.stages]
    return [
        replace(
            whole,
            max_epochs=max(1, round(effort * whole.max_epochs)),
            learning_rate=effort * whole.learning_rate,
            max_minutes=None if minutes is None else minutes * effort / sum(efforts),
        )
        for effort in efforts
    ]
