"""Evaluation of predicted against reference masks: scores of every scan and of the cohort."""

from cascade_bids.evaluation.run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
