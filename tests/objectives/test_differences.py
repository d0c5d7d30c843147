"""Finite differences: within bounds, and in the coarsest number on the way."""

import numpy as np
import pytest

import descend
from descend.errors import ObjectiveError


def test_finite_differences_keep_to_bounds():
    """Also at a bound, where one step would lead out, and where a parameter has no room at all."""

    def fun(x):
        assert np.all((x >= 0) & (x <= 1))
        assert x[1] == 0.5
        return float(np.sum((x - 3) ** 2))

    for jac in ("2-point", "3-point"):
        result = descend.minimize(fun, np.array([1.0, 0.5, 0.0]), jac=jac, bounds=[(0, 1), (0.5, 0.5), (0, 1)])
        assert result.x == pytest.approx([1.0, 0.5, 1.0])
        assert result.success


@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs", None], ids=str)
def test_finite_differences_reach_the_minimum(jac):
    """SciPy's finite differences, the default when nothing is known of the function; every evaluation is counted."""
    calls = []

    def fun(x):
        calls.append(1)
        return (x[0] - 1) ** 2 + 3 * (x[1] + 2) ** 2

    result = descend.minimize(fun, np.zeros(2), jac=jac, method=descend.GD(lr=0.1), gtol=1e-4)
    assert result.success
    assert np.allclose(result.x, [1, -2], atol=1e-3)
    assert result.nfev == len(calls)
    assert result.njev == result.nit + 1


def test_finite_differences_see_the_coarsest_number():
    """Leaves of float32 beside float64, and functions that answer in float32, still give a gradient."""
    import jax.numpy as jnp

    mixed = descend.minimize(
        lambda p: (float(p["a"][0]) - 1) ** 2 + (p["b"][0] - 1) ** 2,
        {"a": np.zeros(1, np.float32), "b": np.zeros(1)},
        method=descend.GD(lr=0.1),
        max_steps=100,
    )
    assert float(mixed.x["a"][0]) == pytest.approx(1, abs=1e-3)
    assert float(mixed.x["b"][0]) == pytest.approx(1, abs=1e-3)
    for fun in (lambda x: jnp.sum((jnp.asarray(x) - 1) ** 2), lambda x: np.float32(np.sum((x - 1) ** 2))):
        result = descend.minimize(fun, np.zeros(2), jac="2-point", method=descend.GD(lr=0.1), max_steps=100)
        assert np.allclose(result.x, 1, atol=1e-3)


def test_complex_steps_need_a_complex_function():
    """A function that drops the imaginary part has no gradient by complex steps, and is told so."""
    with pytest.raises(ObjectiveError, match=r"for a complex x: .*use jac='3-point'"):
        descend.minimize(lambda x: abs(x - 3) ** 2, 0.0, jac="cs")
