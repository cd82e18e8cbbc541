"""Plotly figures of one style that work offline, on light and dark backgrounds."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

COLOURS = ("#2f7fc1", "#d97a1c")
"""A blue and an orange that contrast with white, with black and with each other."""

FEWEST_FOR_BOX = 5
"""Smallest number of values for which box plots are drawn, and not only the single values."""


def plotly_script() -> Markup:
    """Return the script element that draws the figures of a page."""
    return Markup(f"<script>{get_plotlyjs()}</script>")


def plain(figure: go.Figure, *, height: int) -> go.Figure:
    """Apply a plain style without background colours, which the page sets itself.

    Parameters
    ----------
    figure
        The figure, changed in place.
    height
        Height, pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        The same figure.
    """
    return figure.update_layout(
        template="none",
        showlegend=False,
        height=height,
        margin={"l": 60, "r": 20, "t": 10, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
    )


def distributions(table: pd.DataFrame, titles: Mapping[str, str], names: pd.Series) -> go.Figure:
    """Draw every value of some columns as a dot, with box plots if there are enough rows.

    Parameters
    ----------
    table
        The table; missing values are left out.
    titles
        Columns, and the title of the axis of each.
    names
        What a dot is called, for each row.

    Returns
    -------
    plotly.graph_objects.Figure
        A column below the other.
    """
    figure = make_subplots(rows=len(titles), vertical_spacing=0.3)
    box = len(table) >= FEWEST_FOR_BOX
    for row, (column, title) in enumerate(titles.items(), start=1):
        shown = table[column].notna()
        values = table[column][shown]
        spread = box or values.duplicated().any()
        figure.add_trace(
            go.Box(
                x=values.tolist(),
                text=names[shown].tolist(),
                name="",
                boxpoints="all",
                jitter=0.5 if spread else 0,
                pointpos=-1.6 if box else 0,
                marker={"color": COLOURS[0], "size": 7, "opacity": 0.7},
                line={"color": COLOURS[0] if box else "rgba(0,0,0,0)", "width": 1.5},
                fillcolor="rgba(47,127,193,0.15)" if box else "rgba(0,0,0,0)",
                hoveron="points",
                hovertemplate="%{text}: %{x}<extra></extra>",
            ),
            row=row,
            col=1,
        )
        most = max(values, default=0) or 1
        whole = pd.api.types.is_integer_dtype(values) and most <= 20
        figure.update_xaxes(
            title_text=title,
            # A dot at 0 is not to be cut.
            range=[-0.02 * most, 1.05 * most],
            dtick=1 if whole else None,
            row=row,
            col=1,
        )
    figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False)
    return plain(figure, height=220 * len(titles))


def embed(figure: go.Figure, name: str) -> Markup:
    """Convert a figure to HTML.

    Parameters
    ----------
    figure
        The figure.
    name
        Its id on the page.

    Returns
    -------
    markupsafe.Markup
        A ``div`` for a page with `plotly_script`.
    """
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage"]]}
    # With a fixed id instead of a random one, the same table gives the same page.
    text = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config)
    return Markup(text)
