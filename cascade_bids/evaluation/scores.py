"""Scores of one scan."""

import math

from cascade_bids.evaluation.pairs import Volumes
from cascade_bids.metrics.challenges import (
    miccai2008_score,
    msseg2016_detection,
    volume_difference_percent,
)
from cascade_bids.metrics.curves import (
    CurveCounts,
    average_precision,
    count_at_thresholds,
    lesion_roc_area,
)
from cascade_bids.metrics.overlap import count_lesions, dice, positive_predictive_value, sensitivity
from cascade_bids.metrics.surface import surface_distances


def score_scan(volumes: Volumes) -> tuple[dict[str, float], CurveCounts | None]:
    """Compute all measures of agreement of a predicted mask with the reference.

    Parameters
    ----------
    volumes
        The voxels of a scan.

    Returns
    -------
    scores : dict of str to float
        The columns of ``evaluation.tsv`` that do not depend on other scans; NaN where a measure is
        not defined. `cohort.add_isbi2015` adds the ISBI-2015 score, which depends on the cohort.
    counts : CurveCounts or None
        Counts for the curves; None without a probability map.
    """
    pred, ref, spacing_mm = volumes.prediction, volumes.reference, volumes.spacing_mm
    voxel_mm3 = math.prod(spacing_mm)
    pred_ml, ref_ml = (int(mask.sum()) * voxel_mm3 / 1000 for mask in (pred, ref))
    difference_percent = volume_difference_percent(pred_ml, ref_ml)
    lesions = count_lesions(pred, ref)
    detection = msseg2016_detection(pred, ref, voxel_mm3=voxel_mm3)
    distances = surface_distances(pred, ref, spacing_mm)
    overlap = dice(pred, ref)
    scores = {
        "reference_load_ml": ref_ml,
        "predicted_load_ml": pred_ml,
        "volume_difference_ml": pred_ml - ref_ml,
        "volume_difference_percent": (
            difference_percent if math.isfinite(difference_percent) else math.nan
        ),
        "reference_lesions": lesions.reference,
        "predicted_lesions": lesions.predicted,
        "dsc": overlap,
        "ppv": positive_predictive_value(pred, ref),
        "sensitivity": sensitivity(pred, ref),
        # The F1 of voxels is the Dice coefficient.
        "voxel_f1": overlap,
        "ltpr": lesions.ltpr,
        "lfpr": lesions.lfpr,
        "lf1": lesions.lf1,
        "msseg2016_sensitivity": detection.sensitivity,
        "msseg2016_ppv": detection.precision,
        "msseg2016_f1": detection.f1,
        **distances._asdict(),
        "miccai2008_score": miccai2008_score(
            volume_difference_percent=difference_percent,
            assd_mm=distances.assd_mm,
            ltpr=lesions.ltpr,
            lfpr=lesions.lfpr,
        ),
        "average_precision": math.nan,
        "lesion_roc_auc": math.nan,
    }
    if volumes.probability is None:
        return scores, None
    counts = count_at_thresholds(volumes.probability, ref)
    scores["average_precision"] = average_precision(counts)
    scores["lesion_roc_auc"] = lesion_roc_area(counts)
    return scores, counts
