"""Pictures of comparisons: curves of the final runs, the sensitivity to the learning rate, performance profiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from descend.plots.bands import Band, What, bands
from descend.plots.styles import MUTED, Style, blank, drawn, line_in, logarithmic, make_logarithmic, style, text

if TYPE_CHECKING:
    from descend.comparison import Comparison, Sensitivity, Suite

__all__ = ["above_minimum", "curves", "profiles", "sensitivity"]

FAR = 1e3
"""The largest multiple of the loss at the start that a picture shows."""


def curves(comparison: Comparison, what: What = "loss") -> Any:
    """The final runs of a comparison against their cost: the median over seeds, in a band between the quartiles.

    Parameters
    ----------
    comparison
        What `descend.compare` returned.
    what
        ``"loss"``, the validation loss (on a problem without data, the loss, above its minimum where that is known), or
        ``"metric"``, the validation metric.

    Returns
    -------
    plotly.graph_objects.Figure
        A line and a band for each entry, in the table's order. A run that failed counts as the worst from where it
        ended: a line stops where that is so for half the runs. The legend says how many missed.

    Raises
    ------
    OptionError
        `what` is something else.

    Examples
    --------
    >>> import descend
    >>> found = descend.compare("booth", ["gd", "adam"], learning_rates=[0.1], budget=100, tuning_seeds=1,
    ...                         final_seeds=6, jobs=1)
    >>> figure = descend.plots.curves(found)
    >>> [line.name for line in figure.data if line.showlegend]
    ['GD', 'Adam', 'target']
    """
    found = bands(comparison, what)
    shift = above_minimum(comparison, what)
    found = [dataclasses.replace(b, **{k: getattr(b, k) - shift for k in ("low", "median", "high")}) for b in found]
    failed = {row.entry for row in comparison.rows if not row.test.hits}
    shown = [b for b in found if b.entry not in failed] or found
    every = np.concatenate([np.concatenate([b.low, b.median]) for b in shown])
    higher = what == "metric" and comparison.plan.higher_is_better
    log = not higher and logarithmic(every)
    ends = _range(shown, log, higher)
    cost = "Gradient evaluations (examples seen)" if comparison.shape["train"] else "Gradient evaluations"
    figure = blank(cost, _title(comparison, what, shift))
    for band in found:
        figure.add_trace(_filling(band, style(band.entry), log, ends))
    for band in found:
        median = drawn(band.median, log)
        x, y = (band.examples.tolist(), median) if len(median) else ([None], [None])
        missed = f" ({band.misses} of {band.runs} missed)" if band.misses else ""
        figure.add_trace(
            line_in(
                style(band.entry),
                x=x,
                y=y,
                name=text(band.label + missed),
                legendgroup=str(band.entry),
                showlegend=True,
            )
        )
        figure.data[-1].hovertemplate = "%{y:.4~g} after %{x:,}"
    if comparison.target is not None and _has_target(comparison, what):
        at = comparison.target.value - shift
        if ends[0] <= at <= ends[1]:
            figure.add_trace(_target_line([0, comparison.plan.budget], at))
    if log:
        make_logarithmic(figure, ends)
    figure.update_yaxes(range=[math.log10(end) for end in ends] if log else ends)
    figure.update_xaxes(range=[0, comparison.plan.budget * 1.01], tickformat=",")
    return figure


def sensitivity(comparison: Comparison) -> Any:
    """How each entry of a comparison fares at each learning rate, as its tuning runs showed.

    Parameters
    ----------
    comparison
        What `descend.compare` returned.

    Returns
    -------
    plotly.graph_objects.Figure
        A line for each entry: x the learning rate, y the median over the tuning seeds of the best validation metric.
        A ring marks the learning rate that was chosen. The strip below has a cross, with their number, where runs
        failed; a line has a gap where that makes the median a miss.

    Examples
    --------
    >>> import descend
    >>> found = descend.compare("booth", ["gd", "adam"], learning_rates=[0.01, 0.1, 1.0], budget=100,
    ...                         tuning_seeds=1, final_seeds=6, jobs=1)
    >>> figure = descend.plots.sensitivity(found)
    >>> [v is None for v in figure.data[0].y]
    [False, False, True]
    """
    plan = comparison.plan
    shift = above_minimum(comparison, "metric")
    by_entry = {s.entry: s for s in comparison.sensitivity}
    table = [(row, by_entry[row.entry]) for row in comparison.rows]
    heights = {s.entry: np.array([math.nan if v is None else v - shift for v in s.validation]) for _, s in table}
    log = not plan.higher_is_better and logarithmic(np.concatenate(list(heights.values())))
    figure = blank("Learning rate", _title(comparison, "metric", shift))
    for row, found in table:
        y, name = drawn(heights[found.entry], log), text(row.label)
        figure.add_trace(
            line_in(
                style(row.entry), x=found.learning_rates, y=y, name=name, legendgroup=str(row.entry), showlegend=True
            )
        )
        figure.data[-1].update(hovertemplate="%{y:.4~g} at %{x}", marker={"maxdisplayed": 0})
        at = [i for i, point in enumerate(found.hyperparameters) if point in row.chosen]
        if at:
            x = [found.learning_rates[i] for i in at]
            figure.add_trace(_ring(x, [y[i] for i in at], style(row.entry).colour, str(row.entry), name))
    figure.add_trace(_ring([None], [None], MUTED, "chosen", "chosen", showlegend=True))
    rates = sorted({rate for _, s in table for rate in s.learning_rates})
    height = None if comparison.target is None else comparison.target.value - shift
    if height is not None and (height > 0 or not log):
        figure.add_trace(_target_line([rates[0], rates[-1]], height))
    if log:
        make_logarithmic(figure, [v for line in figure.data for v in line.y])
    _strip(figure, [(style(row.entry), row.label, s) for row, s in table if any(s.misses)])
    shown = rates if len(rates) <= 7 else _powers(rates[0], rates[-1])
    pad = 0.04 * (math.log10(rates[-1] / rates[0]) or 1.0)
    figure.update_xaxes(
        type="log",
        tickvals=shown,
        ticktext=[f"{rate:g}" for rate in shown],
        range=[math.log10(rates[0]) - pad, math.log10(rates[-1]) + pad],
    )
    return figure


def _has_target(comparison: Comparison, what: What) -> bool:
    """Whether the target is a value of this figure: of the metric, which may be the loss itself."""
    return what == "metric" or comparison.plan.metric == "loss"


def _target_line(x: Sequence[float], y: float) -> Any:
    """The target as a horizontal line."""
    line = {"color": MUTED, "dash": "dot", "width": 1.5}
    return go.Scatter(
        x=list(x), y=[y, y], mode="lines", line=line, name="target", legendgroup="chosen", showlegend=True,
        hoverinfo="skip",
    )  # fmt: skip


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten from low to high; at least one of them, and the ends where there is none between."""
    powers = [10.0**k for k in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    return powers or [low, high]


def profiles(suite: Suite) -> Any:
    """The performance profiles of several comparisons (Dolan and Moré 2002).

    Parameters
    ----------
    suite
        What `descend.compare_all` returned.

    Returns
    -------
    plotly.graph_objects.Figure
        A stair for each entry: x how many times the cost of the first one, on a logarithmic axis; y the share of the
        problems on which the entry reached the target within that. Higher is better; on the left is who is first, on
        the right who gets there at all.

    Examples
    --------
    >>> import descend
    >>> suite = descend.compare_all(["booth", "beale"], ["gd", "adam"], learning_rates=[0.01, 0.1], budget=100,
    ...                             tuning_seeds=1, final_seeds=6, jobs=1)
    >>> [line.name for line in descend.plots.profiles(suite).data]
    ['GD', 'Adam']
    """
    found = suite.profiles
    raced = [comparison for comparison in suite.comparisons if comparison.target is not None]
    order = {row.label: row.entry for comparison in raced[:1] for row in comparison.rows}
    far = max([2.0, *(ratio for p in found for ratio in p.ratios if math.isfinite(ratio))]) * 1.15
    figure = blank("Cost as a multiple of the fastest", "Share of the problems")
    for profile in sorted(found, key=lambda p: order[p.label]):
        x, y = profile.steps()
        drawn_line = line_in(
            style(order[profile.label]), x=[*x, far], y=[*y, y[-1]], name=text(profile.label), showlegend=True
        )
        drawn_line.line.shape = "hv"
        drawn_line.hovertemplate = "%{y:.0%} within %{x:.3g} times"
        figure.add_trace(drawn_line)
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= far]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{t}×" for t in ticks], range=[-0.01, math.log10(far)])
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    return figure


def above_minimum(comparison: Comparison, what: What) -> float:
    """The known minimum of a function, which is subtracted from a loss so that its axis can be logarithmic."""
    of_loss = what == "loss" or comparison.plan.metric == "loss"
    known = comparison.optimum is not None and not comparison.shape["train"]
    return float(comparison.optimum or 0.0) if of_loss and known else 0.0


def _title(comparison: Comparison, what: What, shift: float) -> str:
    name = "loss" if what == "loss" else comparison.plan.metric
    if comparison.shape["train"]:
        return f"Validation {text(name)}"
    return "Loss above its minimum" if shift else text(name[:1].upper() + name[1:])


def _range(found: Sequence[Band], log: bool, higher: bool) -> tuple[float, float]:
    """The ends of the axis: all medians, and the band on its good side; on the other it may leave the picture.

    A metric that rises climbs steeply at first. That climb would press all that matters into a thin stripe, so the
    axis begins at the lowest median after a quarter of the evaluations.
    """
    medians = [b.median[len(b.median) // 4 :] if higher else b.median for b in found]
    good = [b.high if higher else b.low for b in found]
    values = [v for v in drawn(np.concatenate([*medians, *good]), log) if v is not None]
    if not values:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if higher:
        low = min([v for v in drawn(np.concatenate(medians), log) if v is not None] or [low])
    if log:
        # What diverges may leave the picture at the top; it would press all that converges into a thin stripe.
        starts = [float(b.median[0]) for b in found if len(b.median) and math.isfinite(b.median[0])]
        high = max(low, min(high, FAR * max(starts, default=math.inf)))
        factor = max((high / low) ** 0.04, 1.05)
        return low / factor, high * factor
    pad = 0.04 * (high - low or 1.0)
    return low - pad, high + pad


def _filling(band: Band, line_style: Style, log: bool, ends: tuple[float, float]) -> Any:
    """The area between the quartiles; a quartile that is a miss lies beyond the end of the axis."""
    beyond = (ends[0] / 10 if log else 2 * ends[0] - ends[1], ends[1] * 10 if log else 2 * ends[1] - ends[0])
    low, high = (np.clip(side, *beyond) for side in (band.low, band.high))
    # Where all runs are misses, there is no area; as misses only ever increase, that is the end of it.
    kept = np.isfinite(band.low) | np.isfinite(band.high)
    x, low, high = band.examples[kept].tolist(), low[kept].tolist(), high[kept].tolist()
    return go.Scatter(
        x=x + x[::-1],
        y=low + high[::-1],
        mode="none",
        fill="toself",
        fillcolor=line_style.colour,
        opacity=0.14,
        hoverinfo="skip",
        legendgroup=str(band.entry),
        showlegend=False,
    )


def _ring(x: list[Any], y: list[Any], colour: str, group: str, name: str, *, showlegend: bool = False) -> Any:
    marker = {"symbol": "circle-open", "size": 17, "color": colour, "line": {"width": 2.5, "color": colour}}
    return go.Scatter(
        x=x, y=y, mode="markers", marker=marker, name=name, legendgroup=group, showlegend=showlegend, hoverinfo="skip"
    )


def _strip(figure: Any, missed: Sequence[tuple[Style, str, Sensitivity]]) -> None:
    """Below the chart, a row for each entry with failed tuning runs: a number of misses at each learning rate."""
    if not missed:
        return
    for place, (line_style, label, found) in enumerate(reversed(missed)):
        figure.add_trace(_crosses(place, line_style, label, found))
    share = min(0.45, 0.06 + 0.045 * len(missed))
    labels = [text(label if len(label) <= 14 else f"{label[:13]}…") for _, label, _ in reversed(missed)]
    figure.update_layout(
        height=420 + 22 * len(missed),
        yaxis={"domain": [share + 0.03, 1]},
        yaxis2={
            "domain": [0, share],
            "range": [-0.6, len(missed) - 0.4],
            "tickvals": list(range(len(missed))),
            "ticktext": labels,
            "tickfont": {"size": 11, "color": MUTED},
            "title": {"text": "Missed", "font": {"size": 13, "color": MUTED}},
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "anchor": "x",
        },
    )
    figure.update_xaxes(anchor="y2")


def _crosses(place: int, line_style: Style, label: str, found: Sensitivity) -> Any:
    """A row of the strip: a cross with its number at each learning rate that missed."""
    at = [(rate, n) for rate, n in zip(found.learning_rates, found.misses, strict=True) if n]
    return go.Scatter(
        x=[rate for rate, _ in at],
        y=[place] * len(at),
        yaxis="y2",
        mode="markers+text",
        cliponaxis=False,
        marker={"symbol": "x-thin", "size": 7, "line": {"width": 2.25, "color": line_style.colour}},
        text=[str(n) for _, n in at],
        textposition="middle right",
        textfont={"size": 11, "color": MUTED},
        hovertemplate="%{text} missed at %{x}",
        name=text(label),
        legendgroup=str(found.entry),
        showlegend=False,
    )
