"""Cohort statistics: summaries, agreement of the loads, and comparison of two methods."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cascade_bids.metrics.challenges import isbi2015_normalised, isbi2015_score
from cascade_bids.metrics.curves import (
    LESION_THRESHOLDS,
    VOXEL_THRESHOLDS,
    CurveCounts,
    average_precision,
    lesion_roc,
    lesion_roc_area,
    precision_recall,
)

MEASURES = (
    "dsc",
    "ppv",
    "sensitivity",
    "voxel_f1",
    "ltpr",
    "lfpr",
    "lf1",
    "msseg2016_sensitivity",
    "msseg2016_ppv",
    "msseg2016_f1",
    "hd95_mm",
    "assd_mm",
    "asd_mm",
    "volume_difference_percent",
    "miccai2008_score",
    "isbi2015_score",
    "isbi2015_normalised",
    "average_precision",
    "lesion_roc_auc",
)
"""Columns of the table of scans that are summarised."""

TESTED = tuple(
    name
    for name in MEASURES
    # The first equals the Dice coefficient; the others contain the correlation over the cohort.
    if name not in ("voxel_f1", "isbi2015_score", "isbi2015_normalised")
)
"""Measures by which two methods are compared."""


def add_isbi2015(table: pd.DataFrame) -> pd.DataFrame:
    """Add the ISBI-2015 scores, which include the volume correlation over the cohort.

    Parameters
    ----------
    table
        Scans of one method, with the columns of `scores.score_scan`.

    Returns
    -------
    DataFrame
        The table with ``isbi2015_score`` and ``isbi2015_normalised``; their means over the scans
        are the challenge's scores of the cohort. NaN if the correlation is not defined.
    """
    correlation = volume_agreement(table)["correlation"]
    names = ["dsc", "ppv", "ltpr", "lfpr"]
    scores = [
        isbi2015_score(**dict(zip(names, scan, strict=True)), volume_correlation=correlation)
        for scan in table[names].to_numpy(dtype=float).tolist()
    ]
    return table.assign(
        isbi2015_score=scores, isbi2015_normalised=[isbi2015_normalised(s) for s in scores]
    )


def volume_agreement(table: pd.DataFrame) -> dict[str, float]:
    """Compare predicted and reference loads over the cohort.

    The correlation is Pearson's [1]_. The bias is the mean of the differences predicted −
    reference, and the limits of agreement lie 1.96 standard deviations of the differences (with
    n − 1) from it [2]_.

    Parameters
    ----------
    table
        Scans of one method with ``predicted_load_ml`` and ``reference_load_ml``.

    Returns
    -------
    dict
        ``correlation``, ``bias_ml``, ``sd_ml``, ``lower_limit_ml`` and ``upper_limit_ml``. The
        correlation is NaN for fewer than two scans or if all predicted or all reference loads are
        equal; standard deviation and limits are NaN for fewer than two scans.

    References
    ----------
    .. [1] Carass et al. Longitudinal multiple sclerosis lesion segmentation: resource and
       challenge. NeuroImage 2017;148:77-102. doi 10.1016/j.neuroimage.2016.12.064
    .. [2] Bland, Altman. Statistical methods for assessing agreement between two methods of
       clinical measurement. Lancet 1986;1:307-310. doi 10.1016/S0140-6736(86)90837-8
    """
    predicted, reference = table["predicted_load_ml"], table["reference_load_ml"]
    difference = predicted - reference
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    correlation = math.nan
    if predicted.nunique() > 1 and reference.nunique() > 1:
        correlation = float(stats.pearsonr(predicted, reference).statistic)
    return {
        "correlation": correlation,
        "bias_ml": bias,
        "sd_ml": sd,
        "lower_limit_ml": bias - 1.96 * sd,
        "upper_limit_ml": bias + 1.96 * sd,
    }


def summarise(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Summarise each measure over the scans in which it is defined.

    Parameters
    ----------
    table
        Scans of one method with the columns `MEASURES`.

    Returns
    -------
    dict of str to dict
        For each measure ``n``, ``mean``, ``sd`` (with n − 1), ``median``, ``q1``, ``q3``, ``min``
        and ``max``; NaN where there are too few scans.
    """
    # DataFrame.describe would change the last digit of some means, deviations and medians.
    summary = {}
    for name in MEASURES:
        values = table[name].dropna()
        summary[name] = {
            "n": len(values),
            "mean": float(values.mean()),
            "sd": float(values.std(ddof=1)),
            "median": float(values.median()),
            "q1": float(values.quantile(0.25)),
            "q3": float(values.quantile(0.75)),
            "min": float(values.min()),
            "max": float(values.max()),
        }
    return summary


def describe_curves(counts: list[CurveCounts]) -> dict[str, Any] | None:
    """Compute the curves of the cohort, with the voxels and lesions of all scans pooled.

    Parameters
    ----------
    counts
        Counts of the scans that have a probability map.

    Returns
    -------
    dict or None
        ``scans`` (their number), ``average_precision``, ``lesion_roc_auc``, and the points of
        ``precision_recall`` and ``lesion_roc``; None without any scan or reference lesion.
    """
    if not counts:
        return None
    pooled = sum(counts[1:], counts[0])
    if not pooled.reference_voxels:
        return None
    recall, precision = precision_recall(pooled)
    lfpr, ltpr = lesion_roc(pooled)
    return {
        "scans": len(counts),
        "average_precision": average_precision(pooled),
        "lesion_roc_auc": lesion_roc_area(pooled),
        "precision_recall": {
            "threshold": _points(VOXEL_THRESHOLDS[::-1]),
            "recall": _points(recall),
            "precision": _points(precision),
        },
        "lesion_roc": {
            "thresholds_used": _points(LESION_THRESHOLDS),
            "lfpr": _points(lfpr),
            "ltpr": _points(ltpr),
        },
    }


def compare(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Test whether two methods differ, scan by scan.

    Parameters
    ----------
    first, second
        Scans of each method, with the columns `TESTED`, indexed by the scan. Scans and values that
        only one method has are excluded.

    Returns
    -------
    dict of str to dict
        For each measure ``n``, ``mean_first``, ``mean_second``, ``mean_difference`` (second −
        first), and the two-sided p-values ``t_test_p`` (paired t-test) and ``wilcoxon_p`` (Wilcoxon
        signed-rank test [1]_; differences of 0 are not ranked). They are not corrected for the
        number of measures. Both are 1 if no scan differs and NaN for fewer than two scans;
        that of the t-test is also NaN if all scans differ by the same amount.

    References
    ----------
    .. [1] Wilcoxon. Individual comparisons by ranking methods. Biometrics Bulletin
       1945;1(6):80-83. doi 10.2307/3001968
    """
    tests = {}
    for name in TESTED:
        both = pd.concat([first[name], second[name]], axis=1, join="inner").dropna().to_numpy()
        t_test_p, wilcoxon_p = _p_values(both[:, 1] - both[:, 0])
        means = both.mean(axis=0) if len(both) else np.full(2, math.nan)
        tests[name] = {
            "n": len(both),
            "mean_first": float(means[0]),
            "mean_second": float(means[1]),
            "mean_difference": float(means[1] - means[0]),
            "t_test_p": t_test_p,
            "wilcoxon_p": wilcoxon_p,
        }
    return tests


def _p_values(difference: np.ndarray) -> tuple[float, float]:
    if len(difference) < 2:
        return math.nan, math.nan
    if not difference.any():
        return 1.0, 1.0
    # Differences that are equal apart from rounding have no standard error.
    spread = np.ptp(difference) > 1e-12 * np.abs(difference).max()
    t_test = float(stats.ttest_1samp(difference, 0).pvalue) if spread else math.nan
    return t_test, float(stats.wilcoxon(difference).pvalue)


def _points(values: np.ndarray) -> list[float]:
    return [float(value) for value in values.round(6)]
