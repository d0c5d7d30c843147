"""Finite differences: right at any scale, honest about their error, within bounds and budgets."""

import math

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

import descend
from descend.errors import ObjectiveError
from descend.objectives.objective import Objective
from descend.parameters.memory import Memory

SCHEMES = ["differences", "2-point", "3-point"]


def gradient(fun, x, jac="differences", steps=(None, None), **attributes):
    """A gradient by differences, and what its objective says of its error."""
    objective = Objective(fun, jac, Memory(np.array(x)), steps=steps)
    for name, value in attributes.items():
        setattr(objective, name, value)
    grad = objective.memory.like()
    objective(grad)
    return grad[0], objective


def scaled(sizes):
    """Rosenbrock's function of parameters of these sizes, and its gradient."""
    sizes = np.array(sizes)
    return lambda x: rosen(x / sizes), lambda x: rosen_der(x / sizes) / sizes


FUNCTIONS = {
    "usual": (*scaled([1.0, 1.0]), [-1.2, 1.0]),
    "5e-4": (*scaled([5e-4, 5e-4]), [-6e-4, 5e-4]),
    "1e-9 beside 1e6": (*scaled([1e-9, 1e6]), [-1.2e-9, 1e6]),
    "from zero": (*scaled([1e-9, 1e-9]), [0.0, 0.0]),
    "far from zero": (lambda x: np.cosh(x[0] - 1e6), lambda x: np.sinh(x - 1e6), [1e6 - 2]),
    "1e10 + f": (lambda x: 1e10 + rosen(x), rosen_der, [-1.2, 1.0]),
    "six decimals": (lambda x: round(rosen(x), 6), rosen_der, [-1.2, 1.0]),
    "three decimals": (lambda x: round(rosen(x), 3), rosen_der, [-1.2, 1.0]),
    "in float32": (lambda x: float(np.float32(rosen(x.astype(np.float32)))), rosen_der, [-1.2, 1.0]),
    "noisy": (lambda x: rosen(x) + 1e-7 * math.sin(1e9 * x[0] + 7e8 * x[1]), rosen_der, [-1.2, 1.0]),
    "linear": (lambda x: 3 * x[0] - 2 * x[1], lambda x: np.array([3.0, -2.0]), [0.0, 5.0]),
    "at a minimum": (rosen, rosen_der, [1.0, 1.0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_is_right_at_any_scale_and_tells_its_error(name):
    """Against closed forms: to four digits at least, and no further off than by what it says itself."""
    fun, jac, x = FUNCTIONS[name]
    found, objective = gradient(fun, x)
    exact = jac(np.array(x))
    off = np.abs(found - exact)
    largest = np.max(np.abs(exact * np.where(np.array(x) == 0.0, 1e-9, x)), initial=0.0)
    assert np.all(off <= np.maximum(4 * objective.gradient_error, 1e-9 * np.abs(exact)))
    assert np.all(off <= np.maximum(1e-4 * np.abs(exact), 4 * objective.gradient_error))
    assert np.all(objective.gradient_error * np.abs(x) <= max(2e-2 * largest, 1e-5))


@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_scipys_schemes_have_steps_for_each_parameter(jac):
    """Also where the loss does not change within the usual step."""
    for name in ("usual", "5e-4", "1e-9 beside 1e6", "1e10 + f"):
        fun, exact, x = FUNCTIONS[name]
        assert gradient(fun, x, jac)[0] == pytest.approx(exact(np.array(x)), rel=0.1 if name == "1e10 + f" else 1e-5)
    small = gradient(lambda x: float(np.float32(x[0]) ** 2), [1.0], jac)[0]
    assert small == pytest.approx([2.0], rel=1e-2)


def test_the_default_keeps_five_digits_of_gradients_along_a_descent():
    """Forward differences, corrected by a curvature that is known, and central ones where these are lost."""
    objective = Objective(rosen, None, Memory(np.array([-1.2, 1.0])))
    found = descend.minimize(rosen, [-1.2, 1.0], jac=rosen_der, method=descend.LBFGS(), history="path", gtol=1e-5)
    path = found.history.path
    grad = objective.memory.like()
    for x in path:
        objective.memory.vectors[0][:] = x
        objective(grad)
        exact = rosen_der(x)
        assert grad[0] == pytest.approx(exact, abs=max(1e-5 * np.max(np.abs(exact)), 1e-7))
    assert objective.nfev < 4.5 * len(path)


def test_refined_differences_are_central():
    objective = Objective(rosen, "differences", Memory(np.array([-1.2, 1.0])))
    grad = objective.memory.like()
    for x in ([-1.2, 1.0], [-1.1, 1.1], [-1.0, 1.0]):
        objective.memory.vectors[0][:] = x
        objective(grad)
    assert objective.cost == 3
    before = np.abs(grad[0] - rosen_der(np.array(x)))
    assert objective.refine()
    assert objective.cost == 5
    objective(grad)
    assert np.max(np.abs(grad[0] - rosen_der(np.array(x)))) <= np.max(before)
    assert not objective.refine()
    assert not Objective(rosen, "2-point", Memory(np.zeros(2))).refine()
    assert not Objective(rosen, rosen_der, Memory(np.zeros(2))).refine()


def test_what_is_not_seen_is_told():
    """A step that is given and changes nothing has an error beyond all bounds, but for a parameter that is not used."""
    found, objective = gradient(lambda x: round(rosen(x[:2]), 6), [-1.2, 1.0, 7.0], "2-point", (1e-12, None))
    assert found.tolist() == [0.0, 0.0, 0.0]
    assert objective.gradient_error[:2].tolist() == [np.inf, np.inf]
    assert objective.gradient_error[2] < 1e-10
    plateau, objective = gradient(lambda x: float(np.round(x[0]) ** 2 + x[1] ** 2), [5.0, 3.0])
    assert plateau[0] != 0.0 or objective.gradient_error[0] > 1e-3
    assert Objective(rosen, rosen_der, Memory(np.zeros(2))).gradient_error is None


@pytest.mark.parametrize("jac", SCHEMES)
def test_budgets_are_kept_by_differences_that_look_further(jac):
    """Where losses are coarse or not finite around the point, and at any budget that pays for a gradient."""
    for fun in (rosen, FUNCTIONS["three decimals"][0], lambda x: rosen(x) if x[0] <= -1.2 else math.nan):
        for budget in range(7, 60):
            calls = []

            def counted(x, fun=fun, calls=calls):
                calls.append(1)
                return fun(x)

            result = descend.minimize(counted, np.array([-1.2, 1.0]), jac=jac, max_evals=budget)
            assert len(calls) == result.nfev <= budget


@pytest.mark.parametrize("jac", SCHEMES)
def test_the_other_side_serves_where_one_is_not_finite(jac):
    """NaN or infinite above the point, below it, or both."""
    above = gradient(lambda x: math.log(x[0]) if x[0] <= 2.0 else math.nan, [2.0], jac)[0]
    below = gradient(lambda x: math.log(x[0]) if x[0] >= 2.0 else math.inf, [2.0], jac)[0]
    assert [above[0], below[0]] == pytest.approx([0.5, 0.5], rel=1e-3)
    assert np.isnan(gradient(lambda x: 1.0 if x[0] == 2.0 else math.nan, [2.0], jac)[0][0])


def test_complex_steps_are_exact_at_small_parameters():
    fun = lambda x: (1 - x[0] / 1e-9) ** 2 + 100 * (x[1] / 1e-9 - (x[0] / 1e-9) ** 2) ** 2  # noqa: E731
    found = gradient(fun, [-1.2e-9, 1e-9], "cs")[0]
    assert found == pytest.approx(rosen_der(np.array([-1.2, 1.0])) / 1e-9, rel=1e-12)


def test_given_steps_are_kept_to():
    """finite_diff_rel_step and SciPy's eps."""
    seen = []

    def fun(x):
        seen.append(x.copy())
        return float(x @ x)

    for options, steps in (
        ({"finite_diff_rel_step": 1e-3}, [2e-3, -4e-3]),
        ({"finite_diff_abs_step": [1e-3, 1e-4]}, [1e-3, 1e-4]),
        ({"options": {"eps": 1e-5}}, [1e-5, 1e-5]),
    ):
        seen.clear()
        descend.minimize(fun, np.array([2.0, -4.0]), max_steps=0, **options)
        assert np.max(np.abs(np.array(seen[1:]) - seen[0]), axis=0) == pytest.approx(np.abs(steps))


def test_finite_differences_keep_to_bounds():
    """Also at a bound, where one step would lead out, and where a parameter has no room at all."""

    def fun(x):
        assert np.all((x >= 0) & (x <= 1))
        assert x[1] == 0.5
        return float(np.sum((x - 3) ** 2))

    for jac in SCHEMES:
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


def test_a_result_says_by_which_differences():
    """Chosen by the descent, or as asked for; nothing of gradients that are given."""
    why = {
        None: "; gradients by forward and central differences",
        "2-point": "; gradients by forward differences",
        "3-point": "; gradients by central differences",
        "cs": "; gradients by complex differences",
        rosen_der: "a whole gradient",
    }
    for jac, expected in why.items():
        result = descend.minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, np.zeros(2), jac=jac)
        assert result.why.endswith(expected)


@pytest.mark.parametrize("method", ["bfgs", "lbfgs", "cg"])
def test_a_descent_that_hits_the_minimum_has_converged(method):
    """Where differences are zero, they are refined, and still zero."""
    for x0 in (0.0, np.zeros(3)):
        result = descend.minimize(lambda x: np.sum((x - 3) ** 2), x0, method=method)
        assert result.success
        assert result.x == pytest.approx(3.0, abs=1e-7)
