"""Pictures of descents: the loss by step, a trajectory over contours, a range test."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import optree
import plotly.graph_objects as go

from descend.checks import count
from descend.descent.history import History
from descend.descent.result import Result
from descend.errors import OptionError
from descend.intervals import Interval
from descend.objectives.calls import as_loss
from descend.parameters.memory import Array, Memory
from descend.plots.styles import MUTED, PAPER, Style, blank, drawn, line_in, logarithmic, make_logarithmic, style, text
from descend.problems import Problem
from descend.training.lr_range_test import RangeTest

__all__ = ["loss", "path", "range_test"]

Box = tuple[tuple[float, float], tuple[float, float]]


def loss(results: Result | History | Mapping[str, Result | History]) -> Any:
    """Loss against step, of one descent or of several under their labels.

    Parameters
    ----------
    results
        A result or a history; or a dict of label → result or history.

    Returns
    -------
    plotly.graph_objects.Figure
        One line a descent: x the step, y the loss at the point it was taken from. The axis is logarithmic unless a
        loss is negative; a loss of zero, which it cannot show, is left out.

    Raises
    ------
    OptionError
        Something else was given, or a descent was run with ``history=False``.

    Examples
    --------
    >>> import descend
    >>> runs = {
    ...     name: descend.minimize(lambda x: x * x, 1.0, method=rule, max_steps=5)
    ...     for name, rule in {"slow": descend.GD(lr=0.01), "fast": descend.GD(lr=0.4)}.items()
    ... }
    >>> [line.name for line in descend.plots.loss(runs).data]
    ['slow', 'fast']
    """
    histories = {label: _history(label, item) for label, item in _labelled(results).items()}
    every = np.concatenate([h.loss for h in histories.values()])
    log = logarithmic(every)
    figure = blank("Step", "Loss")
    for i, (label, history) in enumerate(histories.items()):
        y = [None if not math.isfinite(v) or (log and v <= 0) else v for v in history.loss.tolist()]
        hover = "%{y:.6g} at step %{x}"
        figure.add_trace(line_in(style(i), x=history.step.tolist(), y=y, name=text(label), hovertemplate=hover))
    if log:
        make_logarithmic(figure, [v for line in figure.data for v in line.y])
    figure.update_layout(showlegend=_are_several(results))
    return figure


def path(
    function: Problem | Callable[..., Any],
    results: Result | Mapping[str, Result],
    *,
    box: Box | None = None,
    points: int = 120,
) -> Any:
    """The contours of a function of two variables, and the paths of descents over them.

    Parameters
    ----------
    function
        ``function(x)`` as it was given to `minimize`, or a `Problem` with two parameters; one with data is drawn
        over all its training data.
    results
        A result of ``minimize(…, history="path")``, or a dict of label → result. Their parameters are two numbers in
        any container.
    box
        ``((x low, x high), (y low, y high))``. Default: around the paths, as long as they are no higher than they
        began.
    points
        Grid points along each side; the function is evaluated ``points ** 2`` times.

    Returns
    -------
    plotly.graph_objects.Figure
        A contour (z has shape ``(points, points)``, the logarithm of the height above the lowest point) and a line a
        descent, from an open circle to a star.

    Raises
    ------
    OptionError
        There is no path in a result, it does not have two parameters, or `box` or `points` make no sense.

    Examples
    --------
    >>> import descend
    >>> def bowl(p):
    ...     return p[0] ** 2 + 10 * p[1] ** 2
    >>> runs = {
    ...     rule.name: descend.minimize(bowl, [4.0, 1.0], method=rule, max_steps=50, history="path")
    ...     for rule in (descend.GD(lr=0.05), descend.Momentum(lr=0.02))
    ... }
    >>> figure = descend.plots.path(bowl, runs, points=30)
    >>> figure.data[0].z.shape, [line.name for line in figure.data[1:] if line.showlegend]
    ((30, 30), ['gd', 'momentum'])
    """
    points = count("points", points, at_least=2, remedy="try 120")
    trajectories = {label: _trajectory(label, item) for label, item in _labelled(results).items()}
    (left, right), (low, high) = _box(trajectories.values()) if box is None else _checked_box(box)
    x, y = np.linspace(left, right, points), np.linspace(low, high, points)
    figure = blank("First parameter", "Second parameter")
    figure.add_trace(_contour(x, y, _heights(function, next(iter(trajectories.values())).start, x, y)))
    for i, (label, trajectory) in enumerate(trajectories.items()):
        line_style, (across, up) = style(i), trajectory.places.T.tolist()
        line = line_in(
            line_style, x=across, y=up, name=text(label), legendgroup=str(i), showlegend=_are_several(results)
        )
        line.update(line={"width": 1.75}, marker={"size": 4, "maxdisplayed": 0})
        line.update(customdata=trajectory.losses, hovertemplate="(%{x:.4g}, %{y:.4g}): %{customdata:.6g}")
        figure.add_trace(line)
        ends = {"symbol": ["circle-open", "star"], "size": [12, 14], "color": line_style.colour, "opacity": 1}
        ends["line"] = {"color": [line_style.colour, PAPER], "width": [2, 1]}
        trace = go.Scatter(x=[across[0], across[-1]], y=[up[0], up[-1]], mode="markers", marker=ends)
        figure.add_trace(trace.update(legendgroup=str(i), showlegend=False, hoverinfo="skip"))
    figure.update_xaxes(range=[left, right])
    figure.update_yaxes(range=[low, high])
    figure.update_layout(height=520)
    return figure


def range_test(found: RangeTest) -> Any:
    """The sweeps of a range test, and the two learning rates that were found.

    Parameters
    ----------
    found
        What `descend.find_lr` returned.

    Returns
    -------
    plotly.graph_objects.Figure
        x the learning rate, y the smoothed loss: a thin line for each seed, the median of those that have come so far,
        and a vertical line for `steepest` and for `largest_stable` with its interval shaded.

    Examples
    --------
    >>> import descend
    >>> found = descend.find_lr(descend.problems.load("booth"), descend.GD)
    >>> [line.name for line in descend.plots.range_test(found).data if line.showlegend is not False]
    ['one seed', 'median of seeds', 'steepest', 'largest stable']
    """
    if not isinstance(found, RangeTest):
        raise OptionError(f"found={found!r}: give what descend.find_lr returned")
    figure = blank("Learning rate", "Smoothed loss of the batches")
    rates = max((sweep.learning_rates for sweep in found.sweeps), key=len)
    losses = np.full((len(found.sweeps), len(rates)), math.nan)
    for row, sweep in zip(losses, found.sweeps, strict=True):
        row[: len(sweep.smoothed)] = sweep.smoothed
    x = rates.tolist()
    for i, row in enumerate(losses):
        figure.add_trace(_sweep_line(x, row, found.sweeps[i].seed, first=i == 0))
    middle = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else math.nan for c in losses.T])
    median = drawn(middle, log=False)
    figure.add_trace(line_in(style(0), x=x, y=median, name="median of seeds", hovertemplate="%{y:.6g} at %{x:.3g}"))
    shown = losses[np.isfinite(losses)]
    heights = [float(shown.min()), float(shown.max())] if shown.size else [0.0, 1.0]
    for i, (name, limit) in enumerate((("steepest", found.steepest), ("largest stable", found.largest_stable)), 1):
        if math.isfinite(limit.median):
            _add_limit(figure, style(i), name, limit, heights)
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.2})
    return figure


def _sweep_line(x: list[float], losses: Array, seed: int, *, first: bool) -> Any:
    """The smoothed losses of one seed's sweep, as a thin line; the first one stands for all in the legend."""
    return go.Scatter(
        x=x,
        y=drawn(losses, log=False),
        mode="lines",
        line={"color": MUTED, "width": 1},
        opacity=0.45,
        name="one seed",
        legendgroup="seeds",
        showlegend=first,
        hovertemplate=f"%{{y:.6g}} at %{{x:.3g}}, seed {seed}<extra></extra>",
    )


def _add_limit(figure: Any, line_style: Style, name: str, limit: Interval, heights: list[float]) -> None:
    """A learning rate as a vertical line, with its interval shaded."""
    ends = {"x": [limit.median] * 2, "y": heights}
    figure.add_trace(line_in(line_style, **ends, name=name, hovertemplate=f"{name}: %{{x:.3g}}<extra></extra>"))
    if limit.low is not None and limit.high is not None and limit.low < limit.high:
        figure.add_shape(
            type="rect",
            x0=limit.low,
            x1=limit.high,
            y0=0,
            y1=1,
            yref="paper",
            fillcolor=line_style.colour,
            opacity=0.15,
            line_width=0,
            layer="below",
        )


def _are_several(results: Any) -> bool:
    """Whether they come with labels; a single result is a mapping, too, of its fields."""
    return isinstance(results, Mapping) and not isinstance(results, Result)


def _labelled(results: Any) -> dict[str, Result | History]:
    items = dict(results) if _are_several(results) else {"loss": results}
    if not items:
        raise OptionError("results={} holds nothing to draw: give a result, or a dict of label → result")
    for label, item in items.items():
        if not isinstance(item, (Result, History)):
            raise OptionError(
                f"{label!r} is {type(item).__name__}: give what descend.minimize or descend.fit returned, its history, "
                "or a dict of label → either"
            )
    return {str(label): item for label, item in items.items()}


def _history(label: str, item: Result | History) -> History:
    found = item if isinstance(item, History) else item.history
    if found is None:
        raise OptionError(f"{label!r} was run with history=False and has nothing to draw: run it with history=True")
    return found


@dataclasses.dataclass(frozen=True)
class _Trajectory:
    """The places of a descent, of shape (steps + 1, 2), the loss of all but the last, and the start as given."""

    places: Array
    losses: list[float]
    start: Any


def _trajectory(label: str, item: Result | History) -> _Trajectory:
    history = _history(label, item)
    if not history.path or not isinstance(item, Result):
        raise OptionError(f"{label!r} has no path: give the result of descend.minimize(…, history='path')")
    places = [np.concatenate([np.ravel(leaf) for leaf in optree.tree_leaves(p)]) for p in [*history.path, item.x_last]]
    if len(places[0]) != 2:
        raise OptionError(f"{label!r} has {len(places[0])} parameters: contours need a function of two")
    return _Trajectory(np.array(places, dtype=float), history.loss.tolist(), history.path[0])


def _box(trajectories: Iterable[_Trajectory]) -> Box:
    """A box around the trajectories; where one rises above its start, it may leave the box."""
    kept = [t.places[:-1][np.array(t.losses) <= t.losses[0]] for t in trajectories]
    every = np.concatenate(kept)
    low, high = every.min(axis=0), every.max(axis=0)
    margin = 0.15 * np.maximum(high - low, 0.3 * float(np.max(high - low)) or 1.0)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    return (left, right), (bottom, top)


def _checked_box(box: Any) -> Box:
    try:
        (left, right), (low, high) = ((float(a), float(b)) for a, b in box)
    except (TypeError, ValueError):
        left = right = low = high = math.nan
    if not (left < right and low < high and math.isfinite(right - left) and math.isfinite(high - low)):
        raise OptionError(f"box={box!r}: ((x low, x high), (y low, y high)) is needed; try ((-2, 2), (-1, 3))")
    return (left, right), (low, high)


def _heights(function: Problem | Callable[..., Any], start: Any, x: Array, y: Array) -> Array:
    """The function on a grid, shape (len(y), len(x)); NaN where it is not a finite number."""
    memory = Memory(start)
    if isinstance(function, Problem):
        value, data = function.instance(0).value, function.train or ()
    else:
        value, data = _plain_value(function), ()
    places = [(leaf, i) for leaf in (a.reshape(-1) for a in memory.leaves) for i in range(leaf.size)]
    height = np.full((len(y), len(x)), math.nan)
    with np.errstate(all="ignore"):
        for row, column in np.ndindex(height.shape):
            for (leaf, i), number in zip(places, (x[column], y[row]), strict=True):
                leaf[i] = number
            found = value(memory.tree(), *data)
            height[row, column] = found if math.isfinite(found) else math.nan
    return height


def _plain_value(function: Callable[..., Any]) -> Callable[..., float]:
    return lambda params: as_loss(function(params), "function")


def _contour(x: Array, y: Array, height: Array) -> Any:
    finite = height[np.isfinite(height)]
    lowest, span = (float(finite.min()), float(np.ptp(finite))) if finite.size else (0.0, 0.0)
    # A narrow valley shows on a logarithmic scale only; the offset keeps its floor from swallowing all lines.
    z = np.log10(height - lowest + 1e-5 * (span or 1.0))
    return go.Contour(
        x=x.tolist(),
        y=y.tolist(),
        z=z,
        customdata=height,
        hovertemplate="(%{x:.4g}, %{y:.4g}): %{customdata:.6g}<extra></extra>",
        colorscale=[[0, "#b3c2d1"], [1, "#f8f9fb"]],
        ncontours=24,
        line={"color": "#ffffff", "width": 1},
        showscale=False,
        name="contours",
        showlegend=False,
    )
