"""Pictures of descents: losses, trajectories over contours."""

import math

import numpy as np
import plotly.graph_objects as go
import pytest
from tests.plots.drawing import line

import descend
from descend import History, plots
from descend.errors import OptionError


def test_loss_is_the_history():
    """One result: the loss of each step, on a logarithmic axis, with no legend."""
    result = descend.minimize(lambda x: x @ x, [3.0, 4.0], jac=lambda x: 2 * x, method=descend.GD(lr=0.1), max_steps=9)
    figure = plots.loss(result)
    assert isinstance(figure, go.Figure)
    np.testing.assert_allclose(figure.data[0].x, np.arange(9))
    np.testing.assert_allclose(figure.data[0].y, 25 * 0.64 ** np.arange(9))
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.showlegend is False


def test_loss_of_several():
    """A dict gives a line for each label, results and histories alike."""
    runs = {
        str(lr): descend.minimize(lambda x: x * x, 1.0, jac=lambda x: 2 * x, method=descend.GD(lr=lr), max_steps=4)
        for lr in (0.1, 0.2)
    }
    figure = plots.loss({**runs, "third": runs["0.1"].history})
    assert [trace.name for trace in figure.data] == ["0.1", "0.2", "third"]
    assert figure.data[2].y == figure.data[0].y


def test_loss_below_zero_is_linear():
    """A logarithmic axis cannot show what is negative, so there is none."""
    history = History()
    for step, value in enumerate([1.0, 0.0, -1.0]):
        history.record(step, value, 1.0)
    figure = plots.loss(history)
    assert figure.layout.yaxis.type is None
    assert list(figure.data[0].y) == [1.0, 0.0, -1.0]


def test_loss_of_zero_is_a_gap():
    """A logarithmic axis cannot show zero: it is left out, as is what is not finite."""
    history = History()
    for step, value in enumerate([1.0, math.inf, 0.01, 0.0]):
        history.record(step, value, 1.0)
    figure = plots.loss(history)
    assert list(figure.data[0].y) == [1.0, None, 0.01, None]
    assert figure.layout.yaxis.type == "log"


@pytest.mark.parametrize(
    ("results", "words"),
    [({}, "nothing to draw"), ({"a": 3}, "'a' is int"), (None, "NoneType"), ("no history", "history=False")],
)
def test_loss_refuses(results, words):
    """What cannot be drawn is named."""
    if results == "no history":
        results = descend.minimize(lambda x: x * x, 1.0, max_steps=2, history=False)
    with pytest.raises(OptionError, match=words):
        plots.loss(results)


def bowl(p):
    return p[0] ** 2 + 10 * p[1] ** 2


def test_path_and_contours():
    """The contour is the function on the grid; the line is the path, the point after the last step included."""
    result = descend.minimize(bowl, [4.0, 1.0], method=descend.GD(lr=0.05), max_steps=5, history="path")
    figure = plots.path(bowl, result, points=11, box=((-2, 2), (-1, 1)))
    contour, walk, ends = figure.data
    across, up = np.meshgrid(np.linspace(-2, 2, 11), np.linspace(-1, 1, 11))
    np.testing.assert_allclose(contour.customdata, across**2 + 10 * up**2, atol=1e-12)
    np.testing.assert_allclose(contour.z, np.log10(across**2 + 10 * up**2 + 1e-5 * 14), atol=1e-9)
    np.testing.assert_allclose(walk.x, 4 * 0.9 ** np.arange(6), rtol=1e-6)
    assert walk.y[-1] == result.x_last[1]
    assert (ends.x, ends.y) == ((walk.x[0], walk.x[-1]), (walk.y[0], walk.y[-1]))
    assert tuple(figure.layout.xaxis.range) == (-2, 2)


def test_path_in_any_container():
    """Two parameters may be leaves of a dict; the function is given the dict."""
    start = {"a": 1.0, "b": np.array([2.0])}
    options = {"method": descend.GD(lr=0.1), "max_steps": 3, "history": "path"}
    result = descend.minimize(lambda p: p["a"] ** 2 + p["b"][0] ** 2, start, **options)
    figure = plots.path(lambda p: p["a"] ** 2 + p["b"][0] ** 2, {"both": result}, points=5)
    np.testing.assert_allclose(figure.data[1].y, 2 * 0.8 ** np.arange(4), rtol=1e-6)
    assert figure.data[1].name == "both"
    assert float(np.min(figure.data[0].customdata)) >= 0


def test_path_over_a_problem():
    """A problem with two parameters is drawn over all its training data."""
    problem = line()
    A, b = problem.train
    result = descend.minimize(
        lambda w: float(np.mean((A @ w - b) ** 2)), np.zeros(2), method=descend.GD(lr=0.1), max_steps=3, history="path"
    )
    figure = plots.path(problem, result, points=3, box=((0, 2), (-3, -1)))
    assert float(figure.data[0].customdata[1, 1]) == pytest.approx(0.0, abs=1e-20)
    expected = np.mean((A @ np.array([2.0, -3.0]) - b) ** 2)
    assert float(figure.data[0].customdata[0, 2]) == pytest.approx(expected)


def test_path_that_diverges_leaves_the_box():
    """A path that rises above its start does not stretch the picture; what is not finite is a gap in it."""
    rules = {"good": descend.GD(lr=0.05), "bad": descend.GD(lr=0.5)}
    runs = {
        label: descend.minimize(bowl, [4.0, 1.0], method=rule, max_steps=30, history="path")
        for label, rule in rules.items()
    }
    figure = plots.path(bowl, runs, points=4)
    (left, right), (low, high) = figure.layout.xaxis.range, figure.layout.yaxis.range
    assert (-3 < left < 0, 4 < right < 6, -1 < low < 0, 1 < high < 2) == (True, True, True, True)
    hole = plots.path(lambda p: math.nan if p[0] < 0 else bowl(p), runs["good"], points=4, box=((-1, 1), (0, 1)))
    assert np.isnan(np.asarray(hole.data[0].z)[:, :2]).all()
    assert np.isfinite(np.asarray(hole.data[0].z)[:, 2:]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"box": ((1, 0), (0, 1))}, "box="),
        ({"box": 3}, "box="),
        ({"points": 1}, "points=1"),
        ({"points": True}, "points=True"),
    ],
)
def test_path_refuses_options(options, words):
    """An option out of range is named, with its value."""
    result = descend.minimize(bowl, [4.0, 1.0], max_steps=2, history="path")
    with pytest.raises(OptionError, match=words):
        plots.path(bowl, result, **options)


def test_path_needs_a_path_of_two():
    """A descent without a path, and one of three parameters, say what is wrong."""
    with pytest.raises(OptionError, match="history='path'"):
        plots.path(bowl, descend.minimize(bowl, [4.0, 1.0], max_steps=2))
    three = descend.minimize(lambda p: p @ p, [1.0, 2.0, 3.0], max_steps=2, history="path")
    with pytest.raises(OptionError, match="3 parameters"):
        plots.path(lambda p: p @ p, three)


def test_a_label_is_not_markup():
    """What a label holds is text, in whatever drawing it ends up in; a long one is broken into lines."""
    result = descend.minimize(lambda x: x * x, 1.0, max_steps=2)
    figure = plots.loss({"<b>a</b> & <a href='x'>": result, "a name that is rather long, as names go": result})
    assert figure.data[0].name == "&lt;b&gt;a&lt;/b&gt; &amp; &lt;a href=&#x27;x&#x27;&gt;"
    assert "<br>" in figure.data[1].name
