"""A descent that was stopped and goes on is as one that was not, to the bit."""

import pickle

import numpy as np
import pytest
from tests.methods.cases import EVERY, METHODS, RULES
from tests.objectives.functions import bowl, corner, valley

import descend
from descend import Reason
from descend.errors import StateError


@pytest.mark.parametrize("method", [*METHODS.values(), *RULES.values()], ids=[*METHODS, *RULES])
@pytest.mark.parametrize("at", [0, 1, 4, 11])
def test_stopped_and_continued_is_as_if_it_had_not(method, at, tmp_path):
    """After so many steps, through a file without pickle: the same points to the last bit, the same counts."""
    options = {"jac": True, "method": method, "xtol": 0.0}
    start = np.array([3.0, -2.0, 0.5, 1.9])
    whole = descend.minimize(valley, start, max_steps=25, history="path", **options)
    first = descend.minimize(valley, start, max_steps=at, history="path", **options)
    np.savez(tmp_path / "state.npz", **first.state)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        rest = descend.minimize(valley, start, max_steps=25, history="path", state=dict(state), **options)
    assert np.array_equal(whole.x, rest.x)
    assert (whole.fun, whole.nit, whole.nfev, whole.njev) == (rest.fun, rest.nit, rest.nfev, rest.njev)
    points = [*first.history.path, *rest.history.path]
    assert all(np.array_equal(a, b) for a, b in zip(points, whole.history.path, strict=True))


@EVERY
@pytest.mark.parametrize("most", [3, 7, 16, 29])
def test_stopped_within_a_search_it_begins_that_search_again(method, most):
    """A budget of evaluations that ends between two points: the points are the same, if not their evaluations."""
    options = {"jac": True, "method": method}
    start = np.array([-1.2, 1.0])
    whole = descend.minimize(valley, start, max_steps=15, **options)
    first = descend.minimize(valley, start, max_steps=15, max_evals=most, **options)
    rest = descend.minimize(valley, start, max_steps=15, state=first.state, **options)
    assert np.array_equal(whole.x, rest.x)
    assert whole.nit == rest.nit


@EVERY
def test_ctrl_c_within_a_search_loses_nothing(method):
    """The function is interrupted at a trial: the descent ends where it stood, and goes on from there to the bit."""
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return valley(x)

    start = np.array([-1.2, 1.0])
    first = pickle.loads(pickle.dumps(descend.minimize(fun, start, jac=True, method=method, max_steps=12)))
    assert first.reason is Reason.INTERRUPTED
    rest = descend.minimize(valley, start, jac=True, method=method, max_steps=12, state=first.state)
    whole = descend.minimize(valley, start, jac=True, method=method, max_steps=12)
    assert np.array_equal(whole.x, rest.x)


@pytest.mark.parametrize(
    "method", [descend.Adam(lr=1e-3), descend.LBFGS(), descend.BFGS()], ids=["rule", "lbfgs", "bfgs"]
)
@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (dict(max_steps=3), Reason.MAX_STEPS),
        (dict(max_steps=0), Reason.MAX_STEPS),
        (dict(max_evals=2), Reason.MAX_EVALS),
    ],
    ids=["steps", "none", "evals"],
)
def test_a_state_beyond_the_budget_ends_at_once(method, budget, reason):
    """A state that has spent more than what is asked for: nothing is evaluated, and what it holds comes back."""
    calls = []

    def fun(x):
        calls.append(1)
        return valley(x)

    first = descend.minimize(valley, np.array([-1.2, 1.0]), jac=True, method=method, max_steps=5)
    rest = descend.minimize(fun, np.array([-1.2, 1.0]), jac=True, method=method, state=first.state, **budget)
    assert rest.reason is reason
    assert (len(calls), rest.nfev, rest.fun) == (0, first.nfev, first.fun)
    assert np.array_equal(rest.x, first.x)


def test_a_state_goes_on_with_its_own_method_alone():
    """Another method, another size, another container: an error that says so."""
    state = descend.minimize(bowl, np.zeros(4), jac=True, max_steps=2).state
    with pytest.raises(StateError, match=r"it was taken of BFGS\(search="):
        descend.minimize(bowl, np.zeros(4), jac=True, method="lbfgs", state=state)
    with pytest.raises(StateError, match=r"x.0 has shape \(4,\), \(3,\) is needed"):
        descend.minimize(bowl, np.zeros(3), jac=True, state=state)
    with pytest.raises(StateError, match="KeyError"):
        descend.minimize(bowl, np.zeros(4), jac=True, state={})


def test_a_state_keeps_its_bounds():
    """It goes on within the bounds that it had, and not within others."""
    for method in ("bb", "lbfgs", descend.GD(lr=0.1)):
        free = descend.minimize(corner, np.zeros(3), jac=True, method=method, max_steps=5)
        with pytest.raises(StateError, match="its bounds were others"):
            descend.minimize(corner, np.zeros(3), jac=True, method=method, bounds=(0.0, 1.0), state=free.state)
        kept = descend.minimize(corner, np.zeros(3), jac=True, method=method, bounds=(0.0, 1.0), max_steps=2)
        rest = descend.minimize(
            corner, np.zeros(3), jac=True, method=method, bounds=(0.0, 1.0), state=kept.state, gtol=1e-6
        )
        assert rest.x == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)


@pytest.mark.parametrize("at", [1, 4, 9])
@pytest.mark.parametrize("method", ["lbfgs", "bb", "acceleratedgradient", "adaptivegradient"])
def test_stopped_and_continued_within_bounds_is_as_if_it_had_not(method, at):
    options = dict(jac=True, method=method, bounds=([-0.3, -0.4, 0.0], [1.0, 0.5, 1.7]), history=False)
    whole = descend.minimize(valley, np.array([0.6, 0.2, 1.5]), max_steps=20, **options)
    begun = descend.minimize(valley, np.array([0.6, 0.2, 1.5]), max_steps=at, **options)
    rest = descend.minimize(valley, np.array([0.6, 0.2, 1.5]), max_steps=20, state=begun.state, **options)
    assert rest.nit == whole.nit >= at
    assert rest.nfev == whole.nfev
    assert np.array_equal(rest.x_last, whole.x_last)
    assert np.array_equal(rest.x, whole.x)
