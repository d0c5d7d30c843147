"""`minimize` with fixed and tied parameters: the minimum over the free ones, whatever the gradient comes from."""

import numpy as np
import pytest
import scipy.optimize

import descend
from descend.errors import OptionError, StateError

X = np.linspace(0.0, 2.0, 30)
Y = 3.0 * np.exp(-1.3 * X) + 0.5 + 0.01 * np.sin(37.0 * X)
START = {"a": 1.0, "k": 1.0, "c": 0.0}


def loss(p, lib=np, x=X, y=Y):
    """A sum of squares of an exponential with an offset."""
    return lib.sum((p["a"] * lib.exp(-p["k"] * x) + p["c"] - y) ** 2)


def slope(p):
    """Its gradient."""
    e = np.exp(-p["k"] * X)
    r = p["a"] * e + p["c"] - Y
    return {"a": 2 * np.sum(r * e), "k": -2 * np.sum(r * p["a"] * X * e), "c": 2 * np.sum(r)}


ROLES = {
    "fixed": ({"fixed": {"c": 0.5}}, lambda a, k: 0.5),
    "tied": ({"tied": {"c": lambda p: p["k"] ** 0.5 / 2}}, lambda a, k: k**0.5 / 2),
}


@pytest.mark.parametrize("jac", [slope, "3-point", "cs", "torch", "jax"])
@pytest.mark.parametrize("role", ROLES)
def test_the_minimum_over_the_free_ones(role, jac):
    """It is that of SciPy for the function with the rest put in by hand."""
    options, offset = ROLES[role]
    lib = np
    fun = loss
    if isinstance(jac, str) and jac in ("torch", "jax"):
        lib = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[jac])
        x, y = (X, Y) if jac == "jax" else map(lib.tensor, (X, Y))
        fun = lambda p: loss(p, lib, x, y)  # noqa: E731
    found = descend.minimize(fun, START, jac=jac, gtol=1e-8, check_gradient=jac is slope, **options)
    right = scipy.optimize.least_squares(
        lambda v: v[0] * np.exp(-v[1] * X) + offset(*v) - Y, [1.0, 1.0], xtol=1e-12, ftol=1e-12, gtol=1e-12
    ).x
    np.testing.assert_allclose([found.x["a"], found.x["k"]], right, rtol=1e-6)
    assert found.x["c"] == pytest.approx(offset(*right))
    assert found.jac["c"] == 0.0


def test_all_starts_hold_the_same_value():
    """What is held where it starts is held at x0's value from every start, together under vmap or one by one."""
    pytest.importorskip("jax")
    import jax.numpy as jnp

    runs = descend.minimize(
        lambda p: loss(p, jnp), START, jac="jax", fixed=["c"], tied={"a": lambda p: 3 * p["k"]},
        starts=[{"a": 1.0, "k": 2.0, "c": 9.0}],
    ).runs  # fmt: skip
    assert [run.x["c"] for run in runs] == [0.0, 0.0]
    assert runs[0].x["k"] == pytest.approx(runs[1].x["k"], rel=1e-6)
    assert runs[0].x["a"] == 3 * runs[0].x["k"]


def test_a_descent_goes_on_exactly():
    """From a state with the same values fixed; other values are another descent, and refused."""
    options = {"jac": slope, "fixed": {"c": 0.5}}
    half = descend.minimize(loss, START, max_steps=3, **options)
    rest = descend.minimize(loss, START, max_steps=6, state=half.state, **options)
    assert rest.x == descend.minimize(loss, START, max_steps=6, **options).x
    with pytest.raises(StateError, match="other values"):
        descend.minimize(loss, START, jac=slope, fixed={"c": 0.6}, state=half.state)


@pytest.mark.parametrize("method", [descend.Adam(lr=0.1), descend.LBFGS()])
def test_rules_and_callbacks_see_the_whole(method):
    """A point of the callback, of the path and of the end is built as the start, with what is fixed in it."""
    points = []
    found = descend.minimize(
        loss, START, jac=slope, method=method, fixed=["c"], max_steps=5, history="path", callback=points.append
    )
    assert {point.x["c"] for point in points} == {0.0} == {p["c"] for p in found.history.path}
    assert set(found.x_last) == set(START) == set(points[0].jac)


def test_rows_are_refused():
    """A function of rows would get no rows of what is fixed."""
    with pytest.raises(OptionError, match="vectorized=True is for functions of rows"):
        descend.minimize(loss, START, fixed=["c"], starts=[START], vectorized=True)
