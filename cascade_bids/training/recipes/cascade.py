"""The default method: a cascade of two 3D CNNs."""

from cascade_bids.models.architectures.cascade import CascadeUNet
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.fit.loop import Schedule, polynomial
from cascade_bids.training.recipes.recipe import Recipe, StageRecipe

_BRAIN = CandidateRule()
_POSSIBLE = CandidateRule(previous_above=0.02)

RECIPES = {
    "cascade": Recipe(
        source="cascade_bids, after Valverde et al., NeuroImage 2017, doi "
        "10.1016/j.neuroimage.2017.04.034",
        architecture=CascadeUNet,
        stages=(
            StageRecipe(_BRAIN, _BRAIN),
            StageRecipe(_POSSIBLE, _POSSIBLE, effort=0.3),
        ),
        schedule=Schedule(
            max_epochs=400,
            patience=400,
            optimiser="AdamW",
            learning_rate=1e-3,
            decay=polynomial,
            mixed_precision=True,
            keep_last=True,
            ema=0.995,
            max_norm=1.0,
        ),
        batch_size=2,
        optional=("T1w", "T2w", "PDw"),
        calibrated=True,
        paints=True,
    )
}
