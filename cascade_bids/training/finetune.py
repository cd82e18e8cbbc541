"""One-shot adaptation: train the last layers of a method anew on as little as one labelled scan.

Valverde et al. 2019, doi 10.1016/j.nicl.2018.101638.
"""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cascade_bids.errors import UsageError
from cascade_bids.network.architectures import ARCHITECTURES, PatchClassifier
from cascade_bids.network.cascade import Stage, load_stages
from cascade_bids.network.weights import load_card
from cascade_bids.training.cascade import save_cascade
from cascade_bids.training.config import TrainConfig, stage_schedules
from cascade_bids.training.patches import draw_voxels, fit_patches
from cascade_bids.training.progress import show_training
from cascade_bids.training.recipes import RECIPES, Recipe
from cascade_bids.training.train import start_training

log = logging.getLogger(__name__)

FEW_SAMPLES, MANY_SAMPLES = 10_000, 100_000
"""Below the first number of patches one dense layer is trained, below the second two."""


class Adapting(nn.Module):
    """A patch network of which only the last layers learn.

    Parameters
    ----------
    network
        The trained network; its other parameters are frozen.
    layers
        How many dense layers before the output learn, at least 1.

    Notes
    -----
    The frozen layers stay in evaluation mode: their batch norms keep the statistics that they were
    trained with, which a few patches of one scan would spoil.
    """

    def __init__(self, network: PatchClassifier, layers: int) -> None:
        super().__init__()
        self.network = network
        network.requires_grad_(False)
        names = [name for name, _ in network.layers.named_children()]
        learning = {name for group in network.dense_layers[:layers] for name in group}
        learning.add(names[-1])
        first = min(names.index(name) for name in learning)
        # The dropout in front of the first layer that learns belongs to its training.
        if isinstance(network.layers[first - 1], nn.Dropout | nn.Dropout3d):
            first -= 1
        self._frozen = list(network.layers)[:first]
        for module in list(network.layers)[first:]:
            module.requires_grad_(True)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, C, S, S, S) to logits (N, 2)."""
        return self.network(patches)

    def train(self, mode: bool = True) -> "Adapting":
        """Switch only the learning layers to training mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def finetune(config: TrainConfig, source: str, name: str, out_dir: Path) -> Path:
    """Adapt a method to the scanner of a few labelled scans, and write weights and card.

    Parameters
    ----------
    config
        What to learn from; its method and contrasts are those of the source.
    source
        Name or card of the method to start from.
    name
        What the adapted method is called.
    out_dir
        Where weights and card go.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When the source has no dense layers to adapt, or there is nothing to learn from.
    StartError
        When a scan cannot be prepared.
    """
    card = load_card(source)
    # The rules for its probabilities are the source's: they may be imported or chosen anew.
    rules = {name: card[name] for name in ("combination", "threshold", "min_lesion_mm3")}
    recipe = replace(recipe_of(card["stages"][0]["architecture"]), **rules)
    device, cases, _ = start_training(config, recipe, source=source)
    schedules = stage_schedules(recipe, config)
    stages: list[Stage] = []
    counts = []
    with show_training("", len(card["stages"])):
        for number, stage in enumerate(load_stages(source, device=device), start=1):
            folder, network = config.work_dir / "adapted" / f"stage{number}", stage.network
            if not isinstance(network, PatchClassifier):
                raise TypeError(f"{type(network).__name__} does not classify patches")
            learn, size = recipe.stages[number - 1].learn, network.patch_size
            drawn = draw_voxels(cases, learn, folder, recipe.combination, stages, size)
            halves = [half for voxels in drawn for half in (voxels.learned, voxels.checked)]
            samples = 2 * sum(len(half.lesions) for half in halves)
            layers = min(count_layers(samples), len(network.dense_layers))
            log.info("stage %d: %d samples, %d dense layers learn", number, samples, layers)
            seed = config.preprocess.random_seed + number
            torch.manual_seed(seed)
            fit_patches(
                Adapting(network, layers),
                drawn,
                recipe,
                folder,
                schedule=schedules[number - 1],
                seed=seed,
            )
            counts.append(layers)
            stages.append(stage)
    facts = {
        "adapted_from": card["name"],
        "dense_layers_trained": counts,
        "seed": config.preprocess.random_seed,
        "training_scans": [case.label for case in cases],
    }
    return save_cascade(name, stages, recipe, facts, card["contrasts"], out_dir)


def count_layers(samples: int) -> int:
    """Say how many dense layers so many patches can teach.

    Examples
    --------
    >>> [count_layers(samples) for samples in (900, 20_000, 400_000)]
    [1, 2, 3]
    """
    return 1 + (samples >= FEW_SAMPLES) + (samples >= MANY_SAMPLES)


def recipe_of(architecture: str) -> Recipe:
    """Find the published recipe that an architecture belongs to.

    Raises
    ------
    UsageError
        When there is none, or its networks have no dense layers to train anew.
    """
    recipe = next((r for r in RECIPES.values() if r.architecture == architecture), None)
    if recipe is None or not issubclass(ARCHITECTURES[architecture], PatchClassifier):
        raise UsageError(
            f"a method of {architecture} networks can't be adapted, since only the dense layers of "
            "networks on patches are; train one from scratch instead (cascade-bids train)"
        )
    return recipe
