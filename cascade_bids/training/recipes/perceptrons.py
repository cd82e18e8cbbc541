"""Perceptrons on Gaussian-derivative features, refined by a U-Net."""

from cascade_bids.models.architectures.context import ContextNetwork, shipped_card
from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.fit.loop import Schedule, cosine
from cascade_bids.training.recipes.recipe import Ending, Recipe, StageRecipe

_NOT_DARK = CandidateRule(flair_above_z=0.2)
_POSSIBLE = CandidateRule(previous_above=0.02)

RECIPES = {
    "perceptrons": Recipe(
        source="cascade_bids, after Valverde et al., NeuroImage 2017, doi "
        "10.1016/j.neuroimage.2017.04.034, and Billot et al., Medical Image Analysis 2023, doi "
        "10.1016/j.media.2023.102789",
        architecture=GaussianDerivativePerceptron,
        stages=(StageRecipe(_NOT_DARK, _NOT_DARK), StageRecipe(_POSSIBLE, _POSSIBLE)),
        schedule=Schedule(
            max_epochs=12,
            patience=12,
            optimiser="AdamW",
            learning_rate=3e-3,
            decay=cosine,
            keep_last=True,
        ),
        batch_size=4096,
        # Lesions are painted into white matter, which the T1w shows; in use it may be missing.
        optional=("T2w", "PDw"),
        calibrated=True,
        combination="mean",
        ending=Ending(shipped_card, ContextNetwork.load_for, CandidateRule(previous_above=0.0)),
    )
}
