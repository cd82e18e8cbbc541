"""ALL-Net, on its two backbones, and its ablation."""

from cascade_bids.models.architectures.allnet import CropNetwork, LesionTiramisu, LesionUNet
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.fit.loop import Schedule, steps
from cascade_bids.training.recipes.recipe import Recipe, StageRecipe

_BRAIN = CandidateRule()


def _recipe(
    *, anatomy: bool = True, spheres: bool = True, architecture: type[CropNetwork] = LesionUNet
) -> Recipe:
    """Describe ALL-Net, or what is left of it without one of its parts."""
    schedule = Schedule(
        max_epochs=400,
        patience=400,
        optimiser="Adam",
        learning_rate=1e-3,
        decay=steps,
        mixed_precision=True,
    )
    return Recipe(
        source="Zhang et al., NeuroImage: Clinical 2021, doi 10.1016/j.nicl.2021.102854",
        architecture=architecture,
        stages=(StageRecipe(_BRAIN, _BRAIN),) * 5,
        schedule=schedule,
        batch_size=2,
        combination="vote",
        arguments={"anatomy": anatomy, "spheres": spheres, "window": [128, 128, 48]},
    )


RECIPES = {
    "allnet": _recipe(),
    "allnet-tiramisu": _recipe(architecture=LesionTiramisu),
    "allnet-base": _recipe(anatomy=False, spheres=False),
    "allnet-anaconv": _recipe(spheres=False),
    "allnet-lesloss": _recipe(anatomy=False),
}
"""The last three are the ablation."""
