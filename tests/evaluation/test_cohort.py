"""What is said of all scans together, and of two methods."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cascade_bids.evaluation import evaluate
from cascade_bids.evaluation.cohort import MEASURES, TESTED, compare, volume_agreement
from cascade_bids.metrics.challenges import isbi2015_score


def _table(pred, ref, **columns):
    return pd.DataFrame({"predicted_load_ml": pred, "reference_load_ml": ref, **columns})


def test_agreement_of_loads_is_pearson_and_bland_altman():
    found = volume_agreement(_table([2.0, 4.0, 9.0], [1.0, 4.0, 7.0]))
    assert found["correlation"] == pytest.approx(stats.pearsonr([2, 4, 9], [1, 4, 7])[0])
    assert (found["bias_ml"], found["sd_ml"]) == pytest.approx((1, 1))
    assert (found["lower_limit_ml"], found["upper_limit_ml"]) == pytest.approx((-0.96, 2.96))


def test_agreement_that_is_not_defined_is_missing():
    one = volume_agreement(_table([2.0], [1.0]))
    assert one["bias_ml"] == 1
    assert np.isnan([one["correlation"], one["sd_ml"], one["upper_limit_ml"]]).all()
    constant = volume_agreement(_table([2.0, 2.0], [1.0, 3.0]))
    assert np.isnan(constant["correlation"])
    assert constant["sd_ml"] == pytest.approx(np.sqrt(2))


def _measured(values, index="abcdef"):
    return pd.DataFrame(dict.fromkeys(TESTED, values), index=list(index)[: len(values)])


def test_comparison_is_that_of_scipy_over_common_scans():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 6))
    tested = compare(_measured(first), _measured(second[:5], "bcdef"))["dsc"]
    assert tested["n"] == 5
    assert tested["mean_difference"] == pytest.approx(second[:5].mean() - first[1:].mean())
    assert tested["t_test_p"] == pytest.approx(stats.ttest_rel(first[1:], second[:5]).pvalue)
    assert tested["wilcoxon_p"] == pytest.approx(stats.wilcoxon(first[1:], second[:5]).pvalue)


def test_comparison_leaves_missing_values_out():
    tested = compare(_measured([0.1, np.nan, 0.5, 0.3]), _measured([0.2, 0.4, np.nan, 0.6]))["dsc"]
    assert tested["n"] == 2
    assert tested["mean_first"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([0.1, 0.2, 0.3], (1, 1)),
        ([0.2, 0.3, 0.4], (np.nan, 0.25)),
        ([0.2], (np.nan, np.nan)),
    ],
)
def test_comparison_without_spread(second, expected):
    tested = compare(_measured([0.1, 0.2, 0.3]), _measured(second))["dsc"]
    found = (tested["t_test_p"], tested["wilcoxon_p"])
    assert found == pytest.approx(expected, nan_ok=True)


def test_cohort_sums_up_what_the_table_holds(tmp_path, reference, prediction):
    result = evaluate(prediction, reference, tmp_path / "out")
    cohort = json.loads((tmp_path / "out" / "cohort.json").read_text())
    assert cohort == result.cohort
    assert list(cohort["predictions"]) == ["method"]
    part = cohort["predictions"]["method"]
    assert set(part["measures"]) == set(MEASURES)
    table = result.table
    assert part["measures"]["dsc"]["mean"] == pytest.approx(table["dsc"].mean())
    assert part["measures"]["hd95_mm"]["q3"] == pytest.approx(table["hd95_mm"].quantile(0.75))
    means = table[["dsc", "ppv", "ltpr", "lfpr"]].mean()
    score = isbi2015_score(**means, volume_correlation=part["loads"]["correlation"])
    assert part["measures"]["isbi2015_score"]["mean"] == pytest.approx(score)
    # The maps are the masks times 0.9, so the curve has one point.
    curves = part["curves"]
    assert curves["scans"] == 3
    inside = (table["dsc"] * (table["predicted_load_ml"] + table["reference_load_ml"]) / 2).sum()
    recall = inside / table["reference_load_ml"].sum()
    precision = inside / table["predicted_load_ml"].sum()
    assert curves["average_precision"] == pytest.approx(recall * precision)
    assert cohort["comparison"] is None
