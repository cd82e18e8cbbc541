"""The cascade of nicMSlesions."""

from cascade_bids.models.architectures.nicmslesions import (
    NICMSLESIONS_CANDIDATES,
    NicmslesionsNetwork,
)
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.fit.loop import Schedule, constant
from cascade_bids.training.fit.patches import axial_flips
from cascade_bids.training.recipes.recipe import Recipe, StageRecipe

_LEARN = (CandidateRule(flair_above_z=0.5), CandidateRule(previous_above=0.5))

RECIPES = {
    "nicmslesions": Recipe(
        source="Valverde et al., NeuroImage: Clinical 2019, doi 10.1016/j.nicl.2018.101638",
        architecture=NicmslesionsNetwork,
        stages=tuple(
            StageRecipe(learn, use)
            for learn, use in zip(_LEARN, NICMSLESIONS_CANDIDATES, strict=True)
        ),
        # By the code of the authors.
        schedule=Schedule(
            max_epochs=400, patience=50, optimiser="Adadelta", learning_rate=1.0, decay=constant
        ),
        batch_size=128,
        augment=axial_flips,
    )
}
