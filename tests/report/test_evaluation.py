"""The page of an evaluation: self-contained, complete, honest about what is missing."""

import re

import numpy as np
import pandas as pd
import pytest

from cascade_bids.report.evaluation import data_dictionary, write_evaluation_report

from .test_cohort import _Page, _plots

SUMMARY = ("dsc", "ltpr", "lfpr", "isbi2015_score", "isbi2015_normalised", "miccai2008_score")


def _table(scans, prediction=None):
    """Rows with made-up numbers that rise from scan to scan."""
    table = pd.DataFrame({"participant_id": scans})
    if prediction is not None:
        table["prediction"] = prediction
    for name in data_dictionary():
        if name not in table and not name.endswith(("_id", "_file", "prediction")):
            table[name] = np.linspace(0.25, 0.5, len(scans))
    table["reference_lesions"], table["predicted_lesions"] = 4, 3
    return table


def _prediction(scans, curves=True):
    measure = {"n": scans, "mean": 0.5, "sd": 0.125, "median": 0.5}
    measure |= {"q1": 0.375, "q3": 0.625, "min": 0.25, "max": 0.75}
    loads = dict.fromkeys(("bias_ml", "sd_ml", "lower_limit_ml", "upper_limit_ml"), 0.25)
    return {
        "path": "/data/<method>",
        "scans": scans,
        "measures": {name: dict(measure) for name in (*SUMMARY, "hd95_mm")},
        "loads": {"correlation": 0.875, **loads},
        "curves": {
            "scans": scans,
            "average_precision": 0.625,
            "lesion_roc_auc": 0.75,
            "precision_recall": {"threshold": [1.0], "recall": [0.5], "precision": [0.5]},
            "lesion_roc": {"lfpr": [0.0, 1.0], "ltpr": [0.5, 0.5]},
        }
        if curves
        else None,
    }


def _cohort(**predictions):
    return {
        "version": "0.1.0",
        "reference": "/data/manual",
        "predictions": predictions,
        "comparison": None,
        "failures": [],
        "notes": [],
    }


def _write(folder, table, cohort):
    out = folder / "evaluation.html"
    write_evaluation_report(out, table, cohort)
    return _Page(out.read_text(encoding="utf-8"))


def test_summary_and_table(tmp_path):
    page = _write(tmp_path, _table(["sub-1", "sub-2"]), _cohort(mine=_prediction(2)))
    for words in (
        "mine: 2 scans of /data/<method>",
        "mean DSC 0.500",
        "correlation of the loads 0.875",
        "HD95 (mm) 2 0.50 0.12 0.50 0.38 to 0.62 0.25 to 0.75",
        "Average precision Lesion ROC AUC ● mine 2 0.625 0.750",
        "sub-2 0.50",
        "For research use only",
    ):
        assert words in page.text
    assert "Not scored" not in page.text
    assert "against the other" not in page.text
    assert page.links == ["evaluation.tsv", "evaluation.json", "cohort.json"]


def test_page_needs_nothing_from_outside(tmp_path):
    page = _write(tmp_path, _table(["sub-1"]), _cohort(mine=_prediction(1)))
    assert page.resources == ["data:,"]
    assert not re.search(r"@import|url\(", "".join(page.styles))
    assert any(len(script) > 1_000_000 for script in page.scripts)  # plotly itself


def test_failures_and_notes_stand_at_the_top(tmp_path):
    cohort = _cohort(mine=_prediction(1))
    cohort |= {"failures": ["sub-9 failed: <b>."], "notes": ["sub-8 has no reference."]}
    page = _write(tmp_path, _table(["sub-1"]), cohort)
    assert page.text.index("sub-9 failed: <b>.") < page.text.index("sub-8 has no reference.")
    assert page.text.index("sub-8 has no reference.") < page.text.index("mean DSC")


def test_without_maps_there_are_no_curves(tmp_path):
    page = _write(tmp_path, _table(["sub-1"]), _cohort(mine=_prediction(1, curves=False)))
    assert "Over all thresholds" not in page.text
    assert len(_plots(page)) == 3


def test_two_predictions_are_told_apart_and_tested(tmp_path):
    table = pd.concat([_table(["sub-1"], "first"), _table(["sub-1"], "second")])
    cohort = _cohort(first=_prediction(1), second=_prediction(1, curves=False))
    test = {"n": 7, "mean_first": 0.25, "mean_second": 0.5, "mean_difference": 0.25}
    cohort["comparison"] = {
        "dsc": {**test, "t_test_p": 0.0001, "wilcoxon_p": 0.03125},
        "hd95_mm": {**test, "mean_difference": -0.25, "t_test_p": None, "wilcoxon_p": 1.0},
    }
    page = _write(tmp_path, table, cohort)
    assert "DSC 7 0.250 0.500 +0.250 < 0.001 0.031" in page.text
    assert "HD95 (mm) 7 0.25 0.50 -0.25 n/a 1.000" in page.text
    for plot in _plots(page)[:3]:
        assert '"name":"first"' in plot
        assert '"name":"second"' in plot
    assert '"name":"second"' not in _plots(page)[3]  # it has no map


@pytest.mark.parametrize("empty", ["reference_lesions", "predicted_lesions"])
def test_distance_to_an_empty_mask_is_told_not_drawn(tmp_path, empty):
    table = _table(["sub-1", "sub-2", "sub-3"])
    table.loc[2, empty] = 0
    page = _write(tmp_path, table, _cohort(mine=_prediction(3)))
    overlaps, distances = _plots(page)[:2]
    assert '"sub-3"' in overlaps
    assert '"sub-3"' not in distances
    assert "in 1 case, not drawn here" in page.text


def test_missing_values_are_shown_as_such(tmp_path):
    table = _table(["sub-1"])
    table["isbi2015_score"] = np.nan
    prediction = _prediction(1)
    prediction["measures"]["isbi2015_score"] = {"n": 0, **dict.fromkeys(("mean", "sd", "median"))}
    prediction["measures"]["isbi2015_score"] |= dict.fromkeys(("q1", "q3", "min", "max"))
    prediction["loads"] = dict.fromkeys(prediction["loads"])
    page = _write(tmp_path, table, _cohort(mine=prediction))
    assert "ISBI-2015 score n/a" in page.text
    assert "correlation of the loads n/a" in page.text
    assert "nan" not in page.text


def test_data_dictionary_explains_every_column():
    for name, about in data_dictionary().items():
        assert {"LongName", "Description"} <= set(about) <= {"LongName", "Description", "Units"}
        units = {"ml": "mL", "mm": "mm", "percent": "%"}.get(name.rpartition("_")[2])
        assert about.get("Units") == units
