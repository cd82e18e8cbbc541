"""Plotly figures of one style that work offline, on light and dark backgrounds."""

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

COLOURS = ("#2f7fc1", "#d97a1c")
"""A blue and an orange that contrast with white, with black and with each other."""


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
