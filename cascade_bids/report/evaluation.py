"""The report of an evaluation: summary, box plots, agreement of the loads, curves and tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from cascade_bids.files import write_text
from cascade_bids.report.page import read_dictionary, render
from cascade_bids.report.plots import COLOURS, embed, plain, plotly_script
from cascade_bids.report.tables import cell, column_headers, scan_names, title

OVERLAPS = ("dsc", "ppv", "sensitivity", "ltpr", "lfpr", "lf1", "msseg2016_f1")
"""Measures from 0 to 1 that share an axis."""

DISTANCES = (("hd95_mm",), ("assd_mm", "asd_mm"))
"""Measures in mm, grouped by axis, since the first is far larger."""

DIGITS = {
    "reference_lesions": 0,
    "predicted_lesions": 0,
    "volume_difference_percent": 1,
    "miccai2008_score": 1,
    "isbi2015_normalised": 1,
    **dict.fromkeys(
        (*OVERLAPS, "voxel_f1", "msseg2016_sensitivity", "msseg2016_ppv", "isbi2015_score"), 3
    ),
    **dict.fromkeys(("average_precision", "lesion_roc_auc"), 3),
}
"""Decimals of the columns that are not shown with two."""


def data_dictionary() -> dict[str, dict[str, str]]:
    """Return the BIDS data dictionary of ``evaluation.tsv``, in the order of its columns."""
    return read_dictionary("evaluation.json")


def write_evaluation_report(out: Path, table: pd.DataFrame, cohort: Mapping[str, Any]) -> None:
    """Write ``evaluation.html``, a single file that works offline.

    Parameters
    ----------
    out
        Path of the page, in the folder of ``evaluation.tsv`` that it links to.
    table
        One row per scan and prediction, with columns of `data_dictionary`; NaN where a value is
        missing.
    cohort
        The content of ``cohort.json``.

    Raises
    ------
    CascadeBidsError
        If the page cannot be written.
    """
    described = {name: about for name, about in data_dictionary().items() if name in table}
    names = list(cohort["predictions"])
    # A column that the table has for two predictions only is added for one as well.
    full = table.assign(scan=scan_names(table), prediction=table.get("prediction", names[0]))
    # Distances to an empty mask are so large that all others would be indistinguishable.
    measurable = full[(full["predicted_lesions"] > 0) == (full["reference_lesions"] > 0)]
    page = render(
        "evaluation.html.j2",
        version=cohort["version"],
        cohort=cohort,
        colours=dict(zip(names, COLOURS, strict=False)),
        numbers={name: _numbers(part) for name, part in cohort["predictions"].items()},
        plotly_js=plotly_script(),
        overlaps=embed(
            _boxes(full, [OVERLAPS], "", names).update_yaxes(range=[-0.03, 1.03]), "overlaps"
        ),
        distances=embed(_boxes(measurable, DISTANCES, "Distance (mm)", names), "distances"),
        not_drawn=len(full) - len(measurable),
        loads=embed(_loads(full, cohort), "loads"),
        curves=_curves(cohort),
        measures=[
            {"title": title(about), "description": about["Description"], "values": values}
            for name, about in described.items()
            if (values := _summaries(name, cohort))
        ],
        tests=_tests(cohort, described),
        columns=column_headers(table, described),
        rows=[
            [
                cell(
                    row[name],
                    is_number=pd.api.types.is_numeric_dtype(table[name]),
                    digits=DIGITS.get(name, 2),
                )
                for name in described
            ]
            for _, row in table.iterrows()
        ],
    )
    write_text(out, page)


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _numbers(prediction: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Choose the numbers of a prediction for the top of the page, with their labels."""
    measures = (
        ("mean DSC", "dsc"),
        ("mean LTPR", "ltpr"),
        ("mean LFPR", "lfpr"),
        ("ISBI-2015 score", "isbi2015_score"),
        ("ISBI-2015, normalised", "isbi2015_normalised"),
        ("MICCAI-2008 score", "miccai2008_score"),
    )
    numbers = [
        (label, _number(prediction["measures"][name]["mean"], DIGITS[name]))
        for label, name in measures
    ]
    return [*numbers, ("correlation of the loads", _number(prediction["loads"]["correlation"], 3))]


def _summaries(measure: str, cohort: Mapping[str, Any]) -> list[dict[str, str]]:
    """Format the summary of a measure for each prediction; empty if it is not summarised."""
    digits = DIGITS.get(measure, 2)
    return [
        {
            key: str(value) if key == "n" else _number(value, digits)
            for key, value in prediction["measures"][measure].items()
        }
        for prediction in cohort["predictions"].values()
        if measure in prediction["measures"]
    ]


def _tests(
    cohort: Mapping[str, Any], described: Mapping[str, Mapping[str, str]]
) -> list[dict[str, str]] | None:
    if cohort["comparison"] is None:
        return None
    tests = []
    for name, test in cohort["comparison"].items():
        digits = DIGITS.get(name, 2)
        row = {"title": title(described[name]), "n": str(test["n"])}
        row |= {k: _number(test[k], digits) for k in ("mean_first", "mean_second")}
        change = test["mean_difference"]
        row["mean_difference"] = "n/a" if change is None else f"{change:+.{digits}f}"
        row |= {k: _p_value(test[k]) for k in ("t_test_p", "wilcoxon_p")}
        tests.append(row)
    return tests


def _p_value(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value, 3)


def _boxes(
    table: pd.DataFrame, groups: Sequence[Sequence[str]], label: str, names: Sequence[str]
) -> go.Figure:
    """Draw box plots of the measures, each group of measures on its own axis."""
    described = data_dictionary()
    figure = make_subplots(
        cols=len(groups), column_widths=[len(group) for group in groups], horizontal_spacing=0.1
    )
    for name, colour in zip(names, COLOURS, strict=False):
        scans = table[table["prediction"] == name]
        for column, group in enumerate(groups, start=1):
            values = pd.concat([scans[measure] for measure in group])
            figure.add_trace(
                go.Box(
                    x=[described[m]["LongName"] for m in group for _ in range(len(scans))],
                    y=[None if pd.isna(value) else value for value in values],
                    text=list(scans["scan"]) * len(group),
                    name=name,
                    offsetgroup=name,
                    boxpoints="all",
                    jitter=0.4,
                    pointpos=0,
                    marker={"color": colour, "size": 5, "opacity": 0.6},
                    line={"color": colour, "width": 1.5},
                    fillcolor="rgba(0,0,0,0)",
                    hoveron="points",
                    hovertemplate="%{text}: %{y:.3f}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    figure.update_layout(boxmode="group", boxgap=0.25, boxgroupgap=0.15)
    figure.update_yaxes(title_text=label, rangemode="tozero")
    return plain(figure, height=380)


def _loads(table: pd.DataFrame, cohort: Mapping[str, Any]) -> go.Figure:
    """Draw predicted against reference load, and their difference against their mean."""
    figure = make_subplots(cols=2, horizontal_spacing=0.12)
    reference, predicted = table["reference_load_ml"], table["predicted_load_ml"]
    most = 1.05 * max(reference.max(), predicted.max())
    thin = {"color": "#888888", "width": 1, "dash": "dot"}
    figure.add_shape(type="line", x0=0, y0=0, x1=most, y1=most, line=thin, row=1, col=1)
    figure.add_hline(y=0, line=thin, row=1, col=2)
    for (name, prediction), colour in zip(cohort["predictions"].items(), COLOURS, strict=False):
        scans = table[table["prediction"] == name]
        mean = (scans["reference_load_ml"] + scans["predicted_load_ml"]) / 2
        for column, x, y in (
            (1, scans["reference_load_ml"], scans["predicted_load_ml"]),
            (2, mean, scans["volume_difference_ml"]),
        ):
            figure.add_trace(
                go.Scatter(
                    x=x.tolist(),
                    y=y.tolist(),
                    text=scans["scan"].tolist(),
                    name=name,
                    mode="markers",
                    marker={"color": colour, "size": 7, "opacity": 0.7},
                    hovertemplate="%{text}: %{x:.2f}, %{y:.2f} ml<extra></extra>",
                ),
                row=1,
                col=column,
            )
        for key, dash in (
            ("bias_ml", "solid"),
            ("lower_limit_ml", "dash"),
            ("upper_limit_ml", "dash"),
        ):
            if (y := prediction["loads"][key]) is not None:
                line = {"color": colour, "width": 1.5, "dash": dash}
                figure.add_hline(y=y, line=line, row=1, col=2)
    figure.update_xaxes(title_text="Reference load (ml)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="Predicted load (ml)", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title_text="Mean of both loads (ml)", rangemode="tozero", row=1, col=2)
    figure.update_yaxes(title_text="Predicted − reference (ml)", row=1, col=2)
    return plain(figure, height=400)


def _curves(cohort: Mapping[str, Any]) -> Markup | None:
    """Draw the curves of the predictions that have probability maps; None if none has."""
    figure = make_subplots(cols=2, horizontal_spacing=0.12)
    for (name, prediction), colour in zip(cohort["predictions"].items(), COLOURS, strict=False):
        curves = prediction["curves"]
        if curves is None:
            continue
        line = {"color": colour, "width": 2}
        points = curves["precision_recall"]
        figure.add_trace(
            go.Scatter(
                x=points["recall"],
                y=points["precision"],
                customdata=points["threshold"],
                name=name,
                mode="lines",
                line=line,
                hovertemplate=(
                    "recall %{x:.3f}, precision %{y:.3f} at %{customdata:.3f}<extra></extra>"
                ),
            ),
            row=1,
            col=1,
        )
        figure.add_trace(
            go.Scatter(
                x=curves["lesion_roc"]["lfpr"],
                y=curves["lesion_roc"]["ltpr"],
                name=name,
                mode="lines+markers",
                line={**line, "shape": "hv"},
                marker={"size": 5},
                hovertemplate="LFPR %{x:.3f}, LTPR %{y:.3f}<extra></extra>",
            ),
            row=1,
            col=2,
        )
    if not figure.data:
        return None
    for column, x, y in ((1, "Recall (sensitivity)", "Precision (PPV)"), (2, "LFPR", "LTPR")):
        figure.update_xaxes(title_text=x, range=[0, 1.01], row=1, col=column)
        figure.update_yaxes(title_text=y, range=[0, 1.02], row=1, col=column)
    return embed(plain(figure, height=400), "curves")
