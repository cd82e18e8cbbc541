"""The cascade of the NIC-VICOROB team in the MSSEG 2016 challenge."""

from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.architectures.msseg2016 import Msseg2016Network
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.fit.loop import Schedule, constant
from cascade_bids.training.recipes.recipe import Recipe, StageRecipe

_VERY_BRIGHT = CandidateRule(flair_above_z=1.5)

RECIPES = {
    "msseg2016": Recipe(
        source="Valverde et al., Proceedings of the MICCAI MSSEG challenge 2016",
        architecture=Msseg2016Network,
        stages=(
            StageRecipe(_VERY_BRIGHT, _VERY_BRIGHT),
            StageRecipe(CandidateRule(flair_above_z=1.5, previous_above=0.5), _VERY_BRIGHT),
        ),
        schedule=Schedule(
            max_epochs=2000,
            patience=50,
            optimiser="Adam",
            learning_rate=1e-4,
            decay=constant,
            accumulate=16,
        ),
        batch_size=256,
        combination="product",
        operating_point=OperatingPoint(0.5, 30.0, 0.5),
    )
}
