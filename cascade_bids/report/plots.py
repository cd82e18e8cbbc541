"""Plotly figures that look alike and work without internet, on light and dark paper."""

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

COLOURS = ("#2f7fc1", "#d97a1c")
"""A blue and an orange that stand out on white and on black paper, and from each other."""


def plotly_script() -> Markup:
    """Give the script that draws the figures of a page, for its head."""
    return Markup(f"<script>{get_plotlyjs()}</script>")


def plain(figure: go.Figure, *, height: int) -> go.Figure:
    """Take colours away that the page sets itself, for light and dark paper."""
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
    """Turn a figure into HTML; its name is its id on the page."""
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage"]]}
    # A fixed id instead of a random one: the same table gives the same page.
    text = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config)
    return Markup(text)
