"""What a result keeps alive: its own vectors and the function, whose errors may be asked for; not its descent."""

import gc
import itertools
import tracemalloc

import numpy as np
import pytest

import descend
from descend.descent.loop import Descent
from descend.errors import ObjectiveError

SIZE = 20_000
CURVES = np.linspace(1.0, 30.0, SIZE)


@pytest.fixture(autouse=True, scope="module")
def _what_was_there_before():
    """Objects of other tests and libraries are left out of what the collector walks through, which takes long."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Loss:
    """A bent bowl; `at` is the evaluation that raises."""

    def __init__(self, at=0):
        self.calls, self.at = itertools.count(1), at

    def __call__(self, x):
        if next(self.calls) == self.at:
            raise RuntimeError("enough")
        return float(CURVES @ (x - 1) ** 2 + np.sum((x - 1) ** 4)), 2 * CURVES * (x - 1) + 4 * (x - 1) ** 3


def kept_by(run, *, descents=0):
    """How many vectors of `SIZE` numbers stay in memory with what `run` returns, without a search for circles."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        made = run()
        assert sum(type(thing) is Descent for thing in gc.get_objects()) == descents
        return tracemalloc.get_traced_memory()[0] / (8 * SIZE), made
    finally:
        tracemalloc.stop()
        gc.enable()


def minimized(**options):
    return descend.minimize(Loss(options.pop("at", 0)), np.zeros(SIZE), jac=True, **options)


@pytest.fixture(scope="module", autouse=True)
def _all_loaded():
    for method in ("auto", "bb", "adam"):
        minimized(method=method, max_steps=2)


@pytest.mark.parametrize("options", [{"gtol": 1e-2}, {"max_steps": 40}, {"max_evals": 46, "bounds": (-2.0, 2.0)}])
def test_a_result_keeps_point_gradient_and_last_point(options):
    """Though L-BFGS had 60 vectors in its pairs, and 60 more with bounds; and they are gone at once."""
    vectors, result = kept_by(lambda: minimized(**options))
    assert result.nit > 15
    assert vectors < 3.5


@pytest.mark.parametrize("method", ["bb", "cg", "acceleratedgradient", "adaptivegradient", "adam", "momentum"])
def test_no_method_and_no_rule_keeps_its_descent(method):
    vectors, _ = kept_by(lambda: minimized(method=method, max_steps=20))
    assert vectors < 13


def test_an_error_keeps_what_its_result_does():
    """It has no frame of the method's, whose pairs would live on; those of the function are on its cause."""

    def run():
        try:
            minimized(max_steps=40, at=42, keep_state=False)
        except ObjectiveError as error:
            return error
        return None

    vectors, error = kept_by(run, descents=1)
    assert error.result.nit > 30
    assert isinstance(error.__cause__, RuntimeError)
    assert vectors < 10


def test_the_runs_from_several_starts_keep_no_more_each():
    starts = np.random.default_rng(0).normal(size=(3, SIZE))
    vectors, result = kept_by(
        lambda: descend.minimize(Loss(), starts[0], jac=True, starts=starts[1:], gtol=1e-1, history=False)
    )
    assert len(result.runs) == 3
    assert vectors < 3 * 3.5


def test_a_state_is_kept_where_it_is_likely_to_be_needed(caplog):
    """After a budget if it is small, after a callback always; else a method begins anew at the point, and says so."""
    options = dict(fun=Loss(), x0=np.zeros(SIZE), jac=True)
    whole = descend.minimize(**options, max_steps=40)
    for more, exact in [
        ({"max_steps": 33}, False),
        ({"max_steps": 33, "keep_state": True}, True),
        ({"max_steps": 90, "callback": lambda point: point.nit == 33}, True),
        ({"max_steps": 90, "callback": lambda point: point.nit == 33, "keep_state": False}, False),
    ]:
        caplog.clear()
        first = descend.minimize(**options, **more)
        rest = descend.minimize(**options, max_steps=40, state=first.state)
        assert (rest.nit, np.array_equal(rest.x, whole.x)) == (40, exact)
        assert rest.fun <= first.fun
        assert ("begins anew" in caplog.text) is not exact


def test_tighter_tolerances_go_on_from_a_point_that_has_converged():
    first = descend.minimize(Loss(), np.zeros(SIZE), jac=True, gtol=10.0)
    rest = descend.minimize(Loss(), np.zeros(SIZE), jac=True, gtol=0.1, state=first.state)
    assert rest.success
    assert rest.nit > first.nit
    assert rest.nfev > first.nfev
    assert rest.fun < first.fun
