"""The cascade of Valverde et al. 2017."""

from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.fit.loop import Schedule, constant
from cascade_bids.training.fit.patches import axial_flips
from cascade_bids.training.recipes.recipe import Recipe, StageRecipe

_BRIGHT = CandidateRule(flair_above_z=0.5)
_LIKELY = CandidateRule(previous_above=0.5)

RECIPES = {
    "valverde2017": Recipe(
        source="Valverde et al., NeuroImage 2017, doi 10.1016/j.neuroimage.2017.04.034",
        architecture=Valverde2017Network,
        stages=(StageRecipe(_BRIGHT, _BRIGHT), StageRecipe(_LIKELY, _LIKELY)),
        # By the code of the authors.
        schedule=Schedule(
            max_epochs=400, patience=50, optimiser="Adadelta", learning_rate=1.0, decay=constant
        ),
        batch_size=128,
        augment=axial_flips,
    )
}
