"""Pictures of fits: data, curve and confidence band, with the residuals and their quantiles below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from descend.checks import count, real
from descend.descent.result import Result
from descend.errors import OptionError, UncertaintyError
from descend.parameters.memory import Array, Memory
from descend.parameters.names import container_order
from descend.plots.styles import INK, MUTED, blank, style
from descend.regression.curve_fit import CurveFit

__all__ = ["fitted"]

STEP = 1e-3
"""The step, in standard errors, by which a model is differenced for its band."""


def fitted(
    result: CurveFit | Result,
    x: Any = None,
    y: Any = None,
    *,
    model: Callable[..., Any] | None = None,
    sigma: Any = None,
    level: float = 0.95,
    points: int = 200,
) -> Any:
    """A fit over its data, with the band of the curve, the residuals below, and their quantiles beside those.

    Parameters
    ----------
    result
        What `descend.curve_fit` returned, which knows its model and data; or what `descend.least_squares` or
        `descend.minimize` did.
    x, y
        The data, one number each; those of the fit by default.
    model
        ``model(x, params)`` returns the curve at an array of `x`, `params` being built as ``result.x``. A
        `descend.curve_fit` has its own.
    sigma
        Standard deviations of `y`, one for all or one each: error bars, and what residuals are divided by. Those of a
        `descend.curve_fit` by default.
    level
        Of the band, which is where the curve lies by the delta method, not where new data would.
    points
        How many points the curve is drawn at.

    Returns
    -------
    plotly.graph_objects.Figure
        Traces "data", "fit", "band" (the upper edge down to the lower one), "residuals" and "quantiles". The quantiles
        of normal residuals lie on the line. There is no band where the data do not tell a parameter.

    Raises
    ------
    OptionError
        There is no model or are no data, or x is not one number for each y.

    Examples
    --------
    >>> import numpy as np
    >>> import descend
    >>> t = np.linspace(0.0, 3.0, 20)
    >>> y = 2.0 * np.exp(-t) + 0.05 * np.sin(40 * t)
    >>> fit = descend.curve_fit(lambda t, a, rate: a * np.exp(-rate * t), t, y)
    >>> [trace.name for trace in descend.plots.fitted(fit).data if trace.name]
    ['data', 'band 95 %', 'fit', 'residuals', 'normal', 'quantiles']
    """
    points = count("points", points, at_least=2, remedy="try 200")
    level = real("level", level, above=0.0, below=1.0, remedy="try 0.95")
    curve, x, y = _data(result, x, y, model)
    if sigma is None and isinstance(result, CurveFit):
        sigma = result.data.sigma
    errors = _errors(sigma, y)
    grid = np.linspace(float(x.min()), float(x.max()), points)
    params = result.result.x if isinstance(result, CurveFit) else result.x
    figure = _panels(sigma is not None)
    marks = {"mode": "markers", "marker": {"color": INK, "size": 6}}
    bars = None if sigma is None else {"type": "data", "array": errors, "color": MUTED, "thickness": 1.2, "width": 0}
    figure.add_trace(go.Scatter(x=x, y=y, name="data", error_y=bars, **marks), row=1, col=1)
    half = _half_width(result, params, lambda p: curve(grid, p), level)
    at = curve(grid, params)
    if half is not None:
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_trace(go.Scatter(x=grid, y=at - half, showlegend=False, **edge), row=1, col=1)
        shade = {"fill": "tonexty", "fillcolor": _faint(style(0).colour)}
        band = go.Scatter(x=grid, y=at + half, name=f"band {100 * level:g} %", **edge, **shade)
        figure.add_trace(band, row=1, col=1)
    line = {"color": style(0).colour, "width": 2.25}
    figure.add_trace(go.Scatter(x=grid, y=at, mode="lines", line=line, name="fit"), row=1, col=1)
    _add_residuals(figure, x, (y - curve(x, params)) / errors, marks)
    return figure


def _panels(scaled: bool) -> Any:
    """An empty figure of three panels: the fit above, residuals below and their quantiles beside those."""
    plain = blank("x", "y").layout.to_plotly_json()
    axes = {name: plain.pop(name) for name in ("xaxis", "yaxis")}
    for axis in axes.values():
        axis.pop("title", None)
    figure = make_subplots(
        rows=2, cols=2, specs=[[{"colspan": 2}, None], [{}, {}]], row_heights=[0.66, 0.34], column_widths=[0.66, 0.34],
        vertical_spacing=0.13, horizontal_spacing=0.13,
    )  # fmt: skip
    figure.update_layout(plain, height=560, legend={"orientation": "h", "y": 1.06, "x": 0})
    figure.update_xaxes(axes["xaxis"])
    figure.update_yaxes(axes["yaxis"])
    title = {"color": MUTED, "size": 13}
    what = "Residual / σ" if scaled else "Residual"
    for (row, column), (across, up) in {
        (1, 1): ("x", "y"),
        (2, 1): ("x", what),
        (2, 2): ("Normal quantile", what),
    }.items():
        figure.update_xaxes(title={"text": across, "font": title}, row=row, col=column)
        figure.update_yaxes(title={"text": up, "font": title}, row=row, col=column)
    return figure


def _add_residuals(figure: Any, x: Array, residuals: Array, marks: dict[str, Any]) -> None:
    """The residuals against x, and in order against the quantiles of a normal distribution."""
    from scipy.stats import norm

    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, row=2, col=1)
    figure.add_trace(go.Scatter(x=x, y=residuals, name="residuals", showlegend=False, **marks), row=2, col=1)
    # The positions of Blom (1958): about the expected order statistics of a normal sample.
    quantiles = norm.ppf((np.arange(1, residuals.size + 1) - 0.375) / (residuals.size + 0.25))
    ends = np.array([quantiles[0], quantiles[-1]])
    line = {"color": MUTED, "width": 1.2, "dash": "4px,4px"}
    straight = residuals.mean() + residuals.std() * ends
    figure.add_trace(
        go.Scatter(x=ends, y=straight, mode="lines", line=line, name="normal", showlegend=False), row=2, col=2
    )
    figure.add_trace(
        go.Scatter(x=quantiles, y=np.sort(residuals), name="quantiles", showlegend=False, **marks), row=2, col=2
    )


def _data(
    result: CurveFit | Result, x: Any, y: Any, model: Callable[..., Any] | None
) -> tuple[Callable[[Array, Any], Array], Array, Array]:
    """The model as a function of x and parameters, and the data."""
    if isinstance(result, CurveFit):
        own = result.model

        def unpacked(at: Any, params: Any) -> Any:
            return own(at, *params)

        call = unpacked if model is None else model
        x, y = result.data.x if x is None else x, result.data.y if y is None else y
    elif isinstance(result, Result):
        if model is None or x is None or y is None:
            raise OptionError("a fit is drawn with its data and model: fitted(result, x, y, model=lambda x, params: …)")
        call = model
    else:
        raise OptionError(f"result={result!r}: give what descend.curve_fit or descend.least_squares returned")
    try:
        across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float).reshape(-1)
    except (TypeError, ValueError) as error:
        raise OptionError(f"x and y are numbers in a picture of a fit: {error}") from None
    if across.ndim != 1 or across.shape != up.shape or not across.size:
        raise OptionError(f"x has shape {across.shape} and y {up.shape}: one number of x for each y is needed")

    def curve(at: Array, params: Any) -> Array:
        found = call(at, params)
        found = np.asarray(found.detach() if hasattr(found, "detach") else found, dtype=float)
        return np.broadcast_to(found, at.shape).copy()

    return curve, across, up


def _errors(sigma: Any, y: Array) -> Array:
    """Standard deviations of the data; ones where none are given."""
    try:
        found = np.broadcast_to(np.asarray(1.0 if sigma is None else sigma, dtype=float), y.shape)
        if np.all(found > 0):
            return found.copy()
    except (TypeError, ValueError):
        pass
    raise OptionError(f"sigma={sigma!r}: a positive number is needed, or one for each of {y.size} data")


def _half_width(result: CurveFit | Result, params: Any, curve: Callable[[Any], Array], level: float) -> Array | None:
    """Half the width of the band at each point; None where the covariance is not there or not finite."""
    try:
        matrix = result.covariance().matrix
        intervals = np.array(list(result.intervals(level).values()))
    except UncertaintyError:
        return None
    errors = np.sqrt(np.diag(matrix))
    used = np.isfinite(errors) & (errors > 0)
    if np.any(np.isinf(errors)) or not used.any():
        return None
    first = int(np.flatnonzero(used)[0])
    quantile = (intervals[first, 1] - intervals[first, 0]) / 2 / errors[first]
    memory = Memory(params)
    order = container_order(memory)
    slopes = np.zeros((len(errors), curve(params).size))
    for i in np.flatnonzero(used):
        step = STEP * errors[i]
        slopes[i] = (curve(_moved(memory, order[i], step)) - curve(_moved(memory, order[i], -step))) / (2 * step)
    known = np.where(np.isfinite(matrix), matrix, 0.0)
    found: Array = quantile * np.sqrt(np.maximum(np.einsum("ip,ij,jp->p", slopes, known, slopes), 0.0))
    return found


def _moved(memory: Memory, place: int, step: float) -> Any:
    """The container with one number changed."""
    flat = np.concatenate(memory.vectors).astype(float)
    flat[place] += step
    parts = np.split(flat, np.cumsum([v.size for v in memory.vectors])[:-1])
    return memory.result([part.astype(v.dtype) for part, v in zip(parts, memory.vectors, strict=True)])


def _faint(colour: str) -> str:
    """A colour of six hex digits, a fifth of it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.2)"
