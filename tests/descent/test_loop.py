"""What ends a descent by a rule, and what it gives back then."""

import numpy as np
import pytest
from tests.objectives.functions import slope, square

import descend
from descend import Reason
from descend.errors import ObjectiveError


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(gtol=1e-3), Reason.GRADIENT),
        (dict(tol=1e-3), Reason.GRADIENT),
        (dict(ftol=1e-6), Reason.VALUE),
        (dict(xtol=1e-4), Reason.STEP),
        (dict(target=0.01), Reason.TARGET),
        (dict(max_steps=7), Reason.MAX_STEPS),
        (dict(max_evals=7), Reason.MAX_EVALS),
        (dict(max_seconds=0.05, gtol=0.0), Reason.MAX_SECONDS),
        (dict(callback=lambda p: p.nit == 4), Reason.CALLBACK),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else None,
)
def test_each_criterion_ends_a_descent(options, reason):
    """Each criterion ends it alone, is named, and only those that say something about the minimum are a success."""
    result = descend.minimize(
        lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, method=descend.GD(lr=0.01), **options
    )
    assert result.reason is reason
    assert result.success == (reason in (Reason.GRADIENT, Reason.VALUE, Reason.STEP, Reason.TARGET))
    assert result["success"] == result.success
    assert (result.status == 0) == result.success
    assert result.message.startswith("Converged" if result.success else "Stopped")


def test_tolerances_hold_where_they_are_claimed():
    """At the end of each: the largest gradient entry, the last change, the last step are within what was asked."""
    path = descend.minimize(
        lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, method=descend.GD(lr=0.1), gtol=1e-3, history="path"
    )
    assert max(abs(path.jac)) <= 1e-3 < max(abs(2 * path.history.path[-1]))
    value = descend.minimize(
        lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, method=descend.GD(lr=0.1), ftol=1e-3
    )
    assert value.history.loss[-1] - value.fun <= 1e-3 < value.history.loss[-2] - value.history.loss[-1]


def test_a_budget_alone_is_spent_to_the_last_step():
    """max_steps without a tolerance: exactly that many, however small the gradient has become; the message says so."""
    result = descend.minimize(square, 3.0, jac=slope, method=descend.GD(lr=0.1), max_steps=100)
    assert result.nit == len(result.history.loss) == 100
    assert "no tolerance" in result.message


def test_without_any_criterion_it_stops_when_converged():
    """The default is a gradient tolerance of 1e-5."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=0.1))
    assert result.reason is Reason.GRADIENT
    assert abs(result.jac) <= 1e-5


def test_max_evals_is_never_exceeded():
    """Also where one gradient by finite differences takes several evaluations."""
    for budget in range(4, 30):
        calls = []

        def fun(x, calls=calls):
            calls.append(1)
            return float(x @ x)

        result = descend.minimize(fun, np.ones(3), method=descend.GD(lr=0.1), max_evals=budget)
        assert len(calls) == result.nfev <= budget
        assert budget - result.nfev < 4


def test_zero_steps_evaluate_the_start():
    """max_steps=0 is an evaluation of x0 and nothing else."""
    result = descend.minimize(square, 1.0, jac=slope, max_steps=0)
    assert (result.x, result.fun, result.nit, result.nfev) == (1.0, 4.0, 0, 1)


def test_a_divergent_descent_says_so_and_returns_its_best_point():
    """lr 1.1 on (θ−3)² overshoots for ever: reason, advice, and the start as the best point."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=1.1), max_steps=10_000)
    assert result.reason is Reason.DIVERGED
    assert (result.x, result.fun) == (0.0, 9.0)
    assert "learning rate" in result.message
    assert len(result.history.loss) == result.nit


def test_a_schedule_or_rule_that_fails_keeps_the_descent():
    """A schedule that leaves its range at step 5, a callback that raises: the result so far is on the exception."""
    with pytest.raises(ObjectiveError, match=r"cannot make step 6: RuleError: GD\(lr=-1\.0\)") as caught:
        descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=lambda t: 0.1 if t < 5 else -1.0), max_steps=9)
    assert len(caught.value.result.history.loss) == 6
    with pytest.raises(ObjectiveError, match="callback raised ZeroDivisionError") as caught:
        descend.minimize(square, 0.0, jac=slope, method="gd", callback=lambda p: 0 // (3 - p.nit), max_steps=9)
    assert caught.value.result.nit == 3
