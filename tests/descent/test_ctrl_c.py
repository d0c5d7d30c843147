"""Ctrl-C at any evaluation, once or twice: nothing that was seen is lost, and what is kept goes on to the bit."""

import itertools
import os
import signal

import numpy as np
import pytest
from tests.methods.cases import METHODS
from tests.objectives.functions import corner, valley
from tests.processes import run

import descend
from descend import Reason

IMPATIENT = """
import os, random, signal, threading, time
import numpy as np, scipy.optimize as so, descend
from descend.descent import interrupts

interrupts.AGAIN = 0.0  # each round is pressed in anew

def fun(x):
    return so.rosen(x), so.rosen_der(x)

START = np.full(6, 3.0)
METHODS = ["lbfgs", "bfgs", "cg", "bb", "acceleratedgradient", descend.Adam(lr=0.1), descend.GD(lr=1e-4)]
OPTIONS = dict(jac=True, max_steps=60)

def press(gaps):
    for gap in gaps:
        time.sleep(gap)
        os.kill(os.getpid(), signal.SIGINT)

whole, took = {}, {}
for i, method in enumerate(METHODS):
    descend.minimize(fun, START, method=method, **OPTIONS)
    began = time.perf_counter()
    whole[i] = descend.minimize(fun, START, method=method, **OPTIONS)
    took[i] = time.perf_counter() - began
random.seed(0)
seen = {"returned": 0, "held": 0, "outside": 0}
for round in range(280):
    i = round % len(METHODS)
    gaps = [random.random() * 1.3 * took[i]] + [random.random() * 4e-4 for _ in range(random.randint(0, 3))]
    presser = threading.Thread(target=press, args=(gaps,))
    found = None
    try:
        presser.start()
        found = descend.minimize(fun, START, method=METHODS[i], **OPTIONS)
        seen["returned"] += 1
    except KeyboardInterrupt as error:
        if hasattr(error, "result"):
            found = error.result
            seen["held"] += 1
        else:
            seen["outside"] += 1
    ended = False
    while not ended:
        try:
            ended = signal.signal(signal.SIGINT, lambda *_: None) is signal.default_int_handler
        except KeyboardInterrupt:
            ended = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    presser.join()
    if found is not None:
        rest = descend.minimize(fun, START, method=METHODS[i], state=found.state, **OPTIONS)
        same = np.array_equal(rest.x, whole[i].x) and (rest.nit, rest.nfev) == (whole[i].nit, whole[i].nfev)
        assert same or found.nit == whole[i].nit or found.success, (METHODS[i], found, rest)
    time.sleep(1e-2)  # the last press arrives
    signal.signal(signal.SIGINT, signal.default_int_handler)
print(seen["returned"] > 0, seen["held"] > 0)
"""

START = np.array([-1.2, 1.0, 0.3])
WAYS = [*METHODS.values(), descend.GD(lr=1e-3), descend.Adam(lr=0.05)]
STEPS = 12


def press():
    """A real SIGINT; Python runs its handler before the next line."""
    os.kill(os.getpid(), signal.SIGINT)


class Pressing:
    """`valley`, in whose `at`-th evaluation Ctrl-C is pressed so many times; it keeps the losses that it returned."""

    def __init__(self, at, times):
        self.at, self.times, self.calls, self.losses = at, times, 0, []

    def __call__(self, x):
        self.calls += 1
        for _ in range(self.times if self.calls == self.at else 0):
            press()
        loss, slope = valley(x)
        self.losses.append(loss)
        return loss, slope


def whole(method):
    return descend.minimize(valley, START, jac=True, method=method, max_steps=STEPS)


@pytest.mark.parametrize("method", WAYS, ids=lambda way: type(way).__name__)
def test_pressed_once_the_best_point_seen_is_given_whenever_that_is(method):
    """The step at hand is finished; its point counts, and the descent goes on as if it had not been stopped."""
    done = whole(method)
    for at in range(1, done.nfev + 1):
        fun = Pressing(at, 1)
        found = descend.minimize(fun, START, jac=True, method=method, max_steps=STEPS)
        assert found.reason is (Reason.INTERRUPTED if found.nit < STEPS else done.reason)
        assert found.fun == min(fun.losses)
        assert (found.fun, found.nfev) == (valley(found.x)[0], fun.calls)
        rest = descend.minimize(valley, START, jac=True, method=method, max_steps=STEPS, state=found.state)
        assert np.array_equal(rest.x, done.x)
        assert (rest.nit, rest.nfev, rest.njev, rest.reason) == (done.nit, done.nfev, done.njev, done.reason)


@pytest.mark.parametrize("method", WAYS, ids=lambda way: type(way).__name__)
def test_pressed_twice_the_step_is_abandoned_and_the_interrupt_has_the_result(method):
    """The counts of its state are those of the point where it stands, so that going on counts as without a stop."""
    done = whole(method)
    for at in range(1, done.nfev + 1):
        fun = Pressing(at, 2)
        with pytest.raises(KeyboardInterrupt) as raised:
            descend.minimize(fun, START, jac=True, method=method, max_steps=STEPS)
        found = raised.value.result
        assert (found.reason, found.nfev) == (Reason.INTERRUPTED, at)
        assert "result" in raised.value.__notes__[0]
        assert found.fun == min(fun.losses) if fun.losses else np.isnan(found.fun)
        rest = descend.minimize(valley, START, jac=True, method=method, max_steps=STEPS, state=found.state)
        assert np.array_equal(rest.x, done.x)
        assert (rest.nit, rest.nfev, rest.njev, rest.reason) == (done.nit, done.nfev, done.njev, done.reason)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("method", WAYS, ids=lambda way: type(way).__name__)
def test_a_budget_that_ends_within_a_step_loses_no_point(method):
    done = whole(method)
    for most in range(1, done.nfev + 1):
        fun = Pressing(0, 0)
        found = descend.minimize(fun, START, jac=True, method=method, max_steps=STEPS, max_evals=most)
        assert found.fun == min(fun.losses)
        rest = descend.minimize(valley, START, jac=True, method=method, max_steps=STEPS, state=found.state)
        assert (rest.nit, rest.nfev) == (done.nit, done.nfev)


class Stubborn(Pressing):
    """A function that lets no interrupt through."""

    def __call__(self, x):
        try:
            return super().__call__(x)
        except KeyboardInterrupt:
            return valley(x)


@pytest.mark.parametrize("kind", [Pressing, Stubborn])
def test_a_loop_of_descents_is_left_by_two_presses(kind):
    """If the function swallows what was raised within it, it is raised again after the step."""
    fun, done = kind(5, 2), []

    def loop():
        for _ in range(3):
            descend.minimize(fun, START, jac=True, max_steps=STEPS)
            done.append(fun.calls)

    with pytest.raises(KeyboardInterrupt) as raised:
        loop()
    assert not done
    assert raised.value.result.reason is Reason.INTERRUPTED


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("where", ["fun", "callback"])
def test_a_descent_within_another_is_finished_or_passes_the_interrupt_on(where, times):
    """The first press is for the outer one, which sees a finished value; the second one goes through both."""
    inner, values = Pressing(9, times), []

    def nested(_):
        found = descend.minimize(inner, START, jac=True, max_steps=STEPS)
        values.append((found.reason, found.nit))

    def fun(x):
        if where == "fun":
            nested(x)
        return corner(x)

    options = dict(jac=True, method=descend.GD(lr=0.01), callback=nested if where == "callback" else None, max_steps=9)
    if times == 1:
        result = descend.minimize(fun, START, **options)
        assert values == [(Reason.MAX_STEPS, STEPS)]
    else:
        with pytest.raises(KeyboardInterrupt) as raised:
            descend.minimize(fun, START, **options)
        result = raised.value.result
        assert not values
    assert (result.reason, result.nit) == (Reason.INTERRUPTED, 0)
    assert result.method == descend.GD(lr=0.01)


def test_an_interrupt_of_somebody_elses_handler_is_passed_on():
    """Who handles SIGINT himself, as event loops do, gets what his handler raises, with the result so far."""

    def raising(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, raising)
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            descend.minimize(Pressing(5, 1), START, jac=True, max_steps=STEPS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised.value.result.nfev == 5


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("times", [1, 2])
def test_several_starts_end_with_the_one_that_is_interrupted(vectorized, times):
    """The best of what was seen says that it was interrupted, though the best start had converged."""
    calls = itertools.count(1)
    starts = np.array([[1.0, 1.0], [1.0 + 1e-7, 1.0], [9.0, -7.0], [4.0, 4.0]])

    def fun(x):
        if next(calls) == (6 if vectorized else 5):
            for _ in range(times):
                press()
        x = np.asarray(x)
        return np.sum((x - 1) ** 2, axis=-1), 2 * (x - 1)

    def run():
        return descend.minimize(
            fun, starts[0], jac=True, starts=starts[1:], vectorized=vectorized, method=descend.GD(lr=0.01), gtol=1e-6
        )

    if times == 1:
        result = run()
    else:
        with pytest.raises(KeyboardInterrupt) as raised:
            run()
        result = raised.value.result
    reasons = [run.reason for run in result.runs]
    assert reasons == [Reason.GRADIENT] * 2 + [Reason.INTERRUPTED] * (2 if vectorized else 1)
    assert (result.reason, result.success, result.fun) == (Reason.INTERRUPTED, False, 0.0)
    assert "2 of 4 starts are finished" in result.message


@pytest.mark.slow
def test_at_any_moment_a_result_is_returned_or_held():
    """Real presses, one to four of them, at random moments: going on gives the bits and counts of the whole descent."""
    assert run(IMPATIENT).stdout == "True True\n"
