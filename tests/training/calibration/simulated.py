"""A prediction that is best with one threshold."""

import numpy as np

from cascade_bids.training.calibration.out_of_fold import Prediction

SHAPE = (16, 16, 16)


def simulate_prediction(threshold: float, seed: int) -> Prediction:
    """Simulate a scan whose lesion is found best with one threshold, at which its truth is cut."""
    rng = np.random.default_rng(seed)
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - 7.5, axis=-1)
    probability = np.clip(1 - distance / 9 + rng.normal(0, 0.002, SHAPE), 0.001, 0.999)
    return Prediction(probability.astype(np.float32), probability >= threshold)
