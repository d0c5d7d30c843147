"""What ends a descent by a method: criteria, budgets, values that are not finite, searches that find nothing."""

import math
import time
import warnings

import numpy as np
import pytest
import scipy.optimize
from tests.methods.cases import EVERY, METHODS
from tests.objectives.functions import ROSEN, bowl, valley

import descend
from descend import Reason
from descend.errors import ObjectiveError


@EVERY
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gtol": 1e-5}, "gradient"),
        ({"ftol": 1e-9}, "value"),
        ({"xtol": 1e-7}, "step"),
        ({"target": 0.5}, "target"),
        ({"max_steps": 3}, "max_steps"),
        ({"max_evals": 5}, "max_evals"),
        ({"max_seconds": 0.02}, "max_seconds"),
        ({"callback": lambda point: point.nit == 2}, "callback"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_criterion_ends_each_method(method, options, reason):
    """By its name; success only where a criterion was asked for; the best point that was seen comes back."""
    seen = []

    def fun(x):
        seen.append(bowl(x))
        if "max_seconds" in options:
            time.sleep(0.008)
        return seen[-1]

    result = descend.minimize(fun, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, **options)
    assert str(result.reason) == reason
    assert result.success == (reason in ("gradient", "value", "step", "target"))
    assert result.nfev == len(seen)
    assert result.nfev <= options.get("max_evals", math.inf)
    if not result.success:
        assert result.fun == min(f for f, _ in seen)
    assert bowl(result.x)[0] == result.fun
    assert np.array_equal(bowl(result.x)[1], result.jac)


@EVERY
@pytest.mark.parametrize("most", range(1, 40, 3))
def test_max_evals_is_never_exceeded(method, most):
    """Not within a search either; what was best so far is returned."""
    calls = []
    result = descend.minimize(
        lambda x: (calls.append(1), valley(x))[1], np.array([-1.2, 1.0]), jac=True, method=method, max_evals=most
    )
    assert len(calls) == result.nfev <= most
    assert result.fun <= valley(np.array([-1.2, 1.0]))[0]


@EVERY
def test_a_region_that_is_not_finite_is_kept_out_of(method):
    """Σx − log x from [8, 9]: beyond 0 lies NaN, where SciPy's L-BFGS-B, BFGS and CG fail."""

    def fun(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.sum(x - np.log(x))), 1 - 1 / x

    result = descend.minimize(fun, np.array([8.0, 9.0]), jac=True, method=method, gtol=1e-6, max_steps=5_000)
    assert result.success
    assert result.x == pytest.approx(1.0, abs=1e-4)


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_when_everything_ahead_is_not_finite_it_says_so(method, bad):
    """Finite at the start alone."""
    start = np.array([1.0, 2.0])

    def fun(x):
        return (float(x @ x) if np.array_equal(x, start) else bad), 2 * x

    result = descend.minimize(fun, start, jac=True, method=method)
    assert result.reason is Reason.NON_FINITE
    assert "not finite at any point tried" in result.message
    assert np.array_equal(result.x, start)
    assert not result.success


@EVERY
def test_a_gradient_that_lies_ends_with_a_reason(method):
    """The gradient points uphill: no lower point is found along it, and the message says what to check."""
    start = np.array([1.0, 2.0])
    result = descend.minimize(lambda x: (float(x @ x), -2 * x), start, jac=True, method=method, max_steps=200)
    if isinstance(method, descend.AdaptiveGradient):  # it does not look at losses
        assert result.reason in (Reason.DIVERGED, Reason.MAX_STEPS, Reason.NON_FINITE)
    else:
        assert result.reason is Reason.LINE_SEARCH
        assert "check_gradient=True" in result.message
    assert result.fun <= start @ start
    assert result.x == pytest.approx(start, rel=1e-5)
    assert not result.success


@EVERY
def test_a_function_that_raises_loses_nothing(method):
    """The error has the descent so far, its best point among it."""
    calls = []

    def fun(x):
        calls.append(bowl(x)[0])
        if len(calls) == 5:
            raise ZeroDivisionError("no more")
        return bowl(x)

    with pytest.raises(ObjectiveError, match="ZeroDivisionError: no more") as caught:
        descend.minimize(fun, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method)
    assert caught.value.result.reason is Reason.FUNCTION_RAISED
    assert caught.value.result.fun == min(calls[:4])


@EVERY
def test_a_start_that_is_the_minimum_is_converged(method):
    """A gradient of zero: success where something was asked for that a step of nothing meets, and else not."""
    for options, reason in (
        ({"gtol": 0.0}, "gradient"), ({"ftol": 1e-9}, "value"), ({"xtol": 1e-9}, "step"),
        ({"max_steps": 10}, "resolution"), ({"target": -1.0}, "line_search"),
    ):  # fmt: skip
        result = descend.minimize(bowl, np.ones(4), jac=True, method=method, **options)
        assert str(result.reason) == reason
        assert result.success == (reason != "line_search")
        assert result.nit == 0
        assert ("zero" in result.message) == (reason not in ("gradient", "resolution"))
    maximum = descend.minimize(
        lambda x: (float(np.sum(x**4 - x**2)), 4 * x**3 - 2 * x), np.zeros(2), jac=True, method=method, target=-0.3
    )
    assert not maximum.success


def test_no_silent_stop_on_small_progress():
    """SciPy's L-BFGS-B reports success on Rosenbrock with a gradient of 5e-5; here the gradient decides."""
    x0 = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
    scipys = scipy.optimize.minimize(**ROSEN, x0=x0, method="L-BFGS-B")
    ours = descend.minimize(**ROSEN, x0=x0)
    assert scipys.success
    assert np.max(np.abs(scipys.jac)) > 1e-5
    assert ours.success
    assert np.max(np.abs(ours.jac)) <= 1e-5


@EVERY
def test_a_mirror_image_is_no_progress(method):
    """x² from 0.5 and |x|: a step to the other side is as high, and no step."""
    result = descend.minimize(lambda x: x**2, 0.5, jac=lambda x: 2 * x, method=method, gtol=1e-8, max_steps=1_000)
    assert result.success
    assert abs(result.x) < 1e-7
    bounded = descend.minimize(lambda x: x**2, 0.5, jac=lambda x: 2 * x, bounds=(-1.0, 1.0), ftol=1e-9)
    assert abs(bounded.x) < 1e-3


@EVERY
@pytest.mark.parametrize("tolerance", ["ftol", "xtol"])
def test_no_convergence_is_claimed_where_no_step_was_made(method, tolerance):
    """Stopped within a search, and gone on with: the point that is found again is not a step of nothing."""
    for most in (4, 6, 9):
        first = descend.minimize(valley, np.array([-1.2, 1.0]), jac=True, method=method, max_evals=most, xtol=1e-12)
        rest = descend.minimize(
            valley, np.array([-1.2, 1.0]), jac=True, method=method, state=first.state, max_steps=first.nit + 1,
            **{tolerance: 1e-9},
        )  # fmt: skip
        assert not rest.success


def test_the_first_step_is_not_taken_for_the_last():
    """From 1e6 a first step of length 1 changes next to nothing."""
    for options in ({"method": "bfgs"}, {"bounds": (0.0, None)}, {}):
        result = descend.minimize(
            lambda x: float(np.sum((x - 3) ** 2)), np.array([1e6]), jac=lambda x: 2 * (x - 3), ftol=1e-5, **options
        )
        assert result.x == pytest.approx(3.0, abs=1e-2)


def test_a_start_that_falls_without_end_is_not_the_best():
    def fun(x):
        with np.errstate(over="ignore"):
            return (float(-np.exp(x[0] ** 4)), -4 * x**3 * np.exp(x[0] ** 4)) if x[0] > 2 else bowl4(x)

    def bowl4(x):
        return float(np.sum((x - 1) ** 2)), 2 * (x - 1)

    with np.errstate(all="ignore"):
        result = descend.minimize(fun, np.array([0.0]), jac=True, starts=[np.array([9.0])], max_steps=50)
    assert result.x == pytest.approx(1.0)


def test_no_warning_escapes():
    """Trials that overflow are judged, not warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS.values():
            descend.minimize(
                lambda x: (float(np.sum(x**4)), 4 * x**3), np.array([1e60, 1.0]), jac=True, method=method, max_steps=30
            )
