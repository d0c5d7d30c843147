"""The picture of a fit: its band is that of the linear model, and its residuals are those of the data."""

import numpy as np
import pytest
import scipy.stats

import descend
from descend.errors import OptionError

X = np.linspace(1.0, 5.0, 12)
Y = 1.0 + 0.7 * X + 0.1 * np.sin(11.0 * X)
DESIGN = np.stack([np.ones_like(X), X], axis=1)


def traces(figure):
    """The traces by their names; the lower edge of the band has none."""
    return {trace.name or "edge": trace for trace in figure.data}


def line(x, a, b):
    """A straight line."""
    return a + b * x


@pytest.mark.parametrize("door", ["curve_fit", "least_squares"])
def test_the_band_is_that_of_a_linear_model(door):
    """Its half width is t · s · √(xᵀ(XᵀX)⁻¹x) at every x, whichever door the fit came through."""
    if door == "curve_fit":
        figure = descend.plots.fitted(descend.curve_fit(line, X, Y), points=5, level=0.9)
    else:
        result = descend.least_squares(lambda p: p["b"] * X + p["a"] - Y, {"b": 0.0, "a": 0.0})
        model = lambda x, p: p["a"] + p["b"] * x  # noqa: E731
        figure = descend.plots.fitted(result, X, Y, model=model, points=5, level=0.9)
    best, (squares,), *_ = np.linalg.lstsq(DESIGN, Y)
    rows = np.stack([np.ones(5), np.linspace(1.0, 5.0, 5)], axis=1)
    inverse = np.linalg.inv(DESIGN.T @ DESIGN)
    half = scipy.stats.t(10).ppf(0.95) * np.sqrt(squares / 10 * np.einsum("ij,jk,ik->i", rows, inverse, rows))
    drawn = traces(figure)
    np.testing.assert_allclose(drawn["fit"].y, rows @ best, atol=1e-7)
    np.testing.assert_allclose(drawn["band 90 %"].y, rows @ best + half, atol=1e-6)
    np.testing.assert_allclose(drawn["edge"].y, rows @ best - half, atol=1e-6)
    np.testing.assert_allclose(drawn["residuals"].y, Y - DESIGN @ best, atol=1e-7)
    assert list(drawn["quantiles"].y) == sorted(drawn["residuals"].y)


def test_errors_of_the_data_are_bars_and_scale_the_residuals():
    """They are those of the fit, unless others are given."""
    sigma = np.linspace(0.1, 0.3, 12)
    fit = descend.curve_fit(line, X, Y, sigma=sigma)
    drawn = traces(descend.plots.fitted(fit))
    np.testing.assert_allclose(drawn["data"].error_y.array, sigma)
    np.testing.assert_allclose(drawn["residuals"].y, (Y - line(X, *fit.popt)) / sigma)


def test_there_is_no_band_where_the_data_do_not_tell():
    """The curve is drawn without it."""
    result = descend.least_squares(lambda p: p["b"] * X + p["a"] + p["c"] - Y, {"b": 0.0, "a": 0.0, "c": 0.0})
    with pytest.warns(RuntimeWarning, match="do not tell a, c"):
        figure = descend.plots.fitted(result, X, Y, model=lambda x, p: p["a"] + p["c"] + p["b"] * x)
    assert "edge" not in traces(figure)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x": X}, "with its data and model"),
        ({"x": X, "y": Y[1:], "model": line}, "one number of x for each y"),
        ({"x": X, "y": Y, "model": line, "sigma": -1.0}, "a positive number is needed"),
        ({"x": X, "y": Y, "model": line, "level": 2}, "between 0 and 1"),
    ],
)
def test_what_can_not_be_drawn_is_said(arguments, said):
    """The message names what is missing or does not fit."""
    result = descend.least_squares(lambda p: p[0] + p[1] * X - Y, np.zeros(2))
    with pytest.raises(OptionError, match=said):
        descend.plots.fitted(result, **arguments)
