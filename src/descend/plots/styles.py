"""The style of every picture: colours of curves, dashes, markers, layout, axes. They stand here and nowhere else.

The colour of a curve is one of `COLOURS`, in the order of the entries. They are Okabe and Ito's, which people with any
colour vision can tell apart, and each line has a dash and a marker of its own: nothing is said by colour alone.
"""

from __future__ import annotations

import dataclasses
import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from descend.parameters.memory import Array

__all__ = ["Style", "blank", "drawn", "line_in", "logarithmic", "make_logarithmic", "style", "text"]

INK, MUTED, GRID, PAPER = "#1b1f24", "#59636e", "#e4e7eb", "#ffffff"
DARK = {INK: "#ecebe6", MUTED: "#9aa4af", GRID: "#2b3138", PAPER: "#14171b"}
"""The neutral colours on a dark page; the others are readable on both."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", INK, "#F0E442")
"""Okabe and Ito (2008), yellow last as it is faint on white; ink stands for their black."""
DASHES = ("solid", "9px,4px", "2px,3px", "9px,3px,2px,3px", "15px,4px", "5px,3px")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "x")

CONVERGED = 1e-12
"""A smaller value is drawn here on a logarithmic axis: it has converged, and the rest is rounding."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclasses.dataclass(frozen=True)
class Style:
    """The style of an entry's line in every picture: colour, dash and marker, as Plotly spells them."""

    colour: str
    dash: str
    marker: str


def style(index: int) -> Style:
    """The style of entry number `index`, from 0; no two of the first 56 share colour and marker.

    >>> style(0)
    Style(colour='#0072B2', dash='solid', marker='circle')
    """
    return Style(COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)])


def blank(x: str, y: str) -> Any:
    """An empty figure with titled axes, in the layout of all pictures."""
    axis = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "tickcolor": MUTED,
        "tickfont": {"color": MUTED},
        "title": {"font": {"color": MUTED, "size": 13}, "standoff": 10},
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
        "exponentformat": "e",
    }
    figure = go.Figure()
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        margin={"l": 12, "r": 12, "t": 12, "b": 12},
        height=420,
        hovermode="closest",
        hoverlabel={"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK}},
        legend={"font": {"color": INK}, "itemsizing": "trace", "tracegroupgap": 2},
        xaxis={**axis, "showgrid": False, "showline": True},
        yaxis=axis,
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def make_logarithmic(figure: Any, shown: Sequence[float | None]) -> None:
    """Give the figure a logarithmic y axis: ticks at 1, 2, 5 for few decades, at powers of ten for many."""
    values = [v for v in shown if v is not None] or [1.0]
    low, high = math.log10(min(values)), math.log10(max(values))
    figure.update_yaxes(type="log")
    if high - low < 2.5:
        figure.update_yaxes(dtick="D2", tickformat="~g")
        return
    every = max(1, math.ceil((high - low) / 8))
    powers = [k for k in range(math.floor(low), math.ceil(high) + 1) if k % every == 0]
    names = [f"{10.0**k:g}" if abs(k) <= 3 else f"1e{k}" for k in powers]
    figure.update_yaxes(tickvals=[10.0**k for k in powers], ticktext=names)


def line_in(line_style: Style, **more: Any) -> Any:
    """A line in a style; the marker is repeated a few times along it."""
    return go.Scatter(
        mode="lines+markers",
        line={"color": line_style.colour, "dash": line_style.dash, "width": 2.25},
        marker={"color": line_style.colour, "symbol": line_style.marker, "size": 7, "maxdisplayed": 8},
        **more,
    )


def text(label: str, width: int = 26) -> str:
    """A label as Plotly prints it: broken into lines, with its markup escaped."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(label, width)) or " "


def logarithmic(values: Array) -> bool:
    """Whether a logarithmic axis can show the values: none negative (but for rounding), one large enough."""
    finite = values[np.isfinite(values)]
    return bool(finite.size) and bool(finite.min() >= -CONVERGED) and bool(finite.max() > CONVERGED)


def drawn(values: Array, log: bool) -> list[float | None]:
    """Values as Plotly takes them: None for a miss, which is a gap; on a logarithmic axis none below `CONVERGED`."""
    lowest = CONVERGED if log else -math.inf
    return [max(v, lowest) if math.isfinite(v) else None for v in values.tolist()]
