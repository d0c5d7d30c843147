"""Two presses of Ctrl-C leave a loop of short descents, also where the second one falls into the next descent."""

import math
import os
import signal

import numpy as np
import pytest
from tests.objectives.functions import valley
from tests.processes import run
from tests.training.lines import X, Y, line

import descend
from descend import Reason
from descend.descent import interrupts

LOOP = """
import os, signal, threading, time
import numpy as np, descend
from descend.descent import interrupts

interrupts.AGAIN *= 100  # others may keep the processor busy
START, ended = np.array([-1.2, 1.0]), threading.Event()

def fun(x):
    calls.append(len(done))
    time.sleep(2e-3)
    return float(x @ x)

def press():  # once in the second descent and, when that has ended, once in the next one
    while calls.count(1) < 2:
        time.sleep(1e-4)
    os.kill(os.getpid(), signal.SIGINT)
    ended.wait()
    while calls.count(2) < 2:
        time.sleep(1e-4)
    os.kill(os.getpid(), signal.SIGINT)

calls, done = [], []
threading.Thread(target=press, daemon=True).start()
try:
    for steps in (20, 10**4, 10**4, 20):
        found = descend.minimize(fun, START, jac=lambda x: 2 * x, method=descend.GD(lr=1e-6), max_steps=steps)
        done.append(str(found.reason))
        if found.reason is descend.Reason.INTERRUPTED:
            ended.set()
except KeyboardInterrupt as error:
    print(done, error.result.reason, error.result.nit < 10**4)
"""


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass where a test says so, in a process in which nothing has been pressed."""
    now = [100.0]
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(interrupts, "AGAIN", 1.5)
    monkeypatch.setattr(interrupts.Presses, "last", -math.inf)
    return now


def press():
    """A real SIGINT; Python runs its handler before the next line."""
    os.kill(os.getpid(), signal.SIGINT)


def pressing(at, function):
    """A function in whose `at`-th call Ctrl-C is pressed."""
    calls = []

    def fun(*args):
        calls.append(1)
        if len(calls) == at:
            press()
        return function(*args)

    return fun


def minimize(at, **options):
    return descend.minimize(pressing(at, valley), np.array([-1.2, 1.0, 0.3]), jac=True, max_steps=12, **options)


def least_squares(at, **options):
    def residuals(p):
        return p[0] * np.exp(-p[1] * np.arange(5.0)) - 1.0 / (1.0 + np.arange(5.0))

    # The first Jacobian, without which there is no result, is made by differences.
    return descend.least_squares(pressing(at + 5, residuals), np.array([3.0, 2.0]), **options)


def error(w, X, y):
    return float(np.mean(np.abs(X @ w - y)))


def loss_and_grad(w, X, y):
    residual = (X @ w[..., None])[..., 0] - y
    return np.mean(residual**2, axis=-1), 2 * (residual[..., None, :] @ X)[..., 0, :] / y.shape[-1]


def problem(**functions):
    options = {"loss_and_grad": loss_and_grad, "metric": error, **functions}
    return line(train=(X, Y), validation=(X, Y), data=None, loss=None, jac=None, metric_name="error", **options)


def train(at):
    return descend.fit(problem(loss_and_grad=pressing(at, loss_and_grad)), "gd", steps=4, progress=False)


def look(at):
    return descend.fit(problem(metric=pressing(at, error)), "gd", steps=4, progress=False)


def train_many(at):
    metric = pressing(at, error)
    return descend.fit_many(problem(metric=metric, stacks=True), [descend.GD(lr=0.01)] * 2, [0, 1], steps=4)[0]


def several(at):
    return minimize(at, starts=[np.zeros(3), np.ones(3)])


def together(at):
    def fun(x):
        return np.sum((x - 1) ** 2, axis=-1), 2 * (x - 1)

    starts = [np.full(2, 3.0), np.full(2, 4.0)]
    options = dict(jac=True, vectorized=True, method=descend.GD(lr=0.01), max_steps=20)
    # Before the starts go side by side it is tried whether the function takes rows.
    return descend.minimize(pressing(at + 5, fun), np.zeros(2), starts=starts, **options)


DOORS = [minimize, several, together, least_squares, train, look, train_many]


def test_a_loop_of_descents_is_left_by_presses_in_two_of_them():
    """Real presses, each in a descent of its own: the first one ends its descent, the second one the loop."""
    assert run(LOOP).stdout == "['max_steps', 'interrupted'] interrupted True\n"


@pytest.mark.parametrize("door", DOORS)
def test_a_press_just_after_the_end_of_a_descent_that_was_pressed_in_leaves_the_loop(door, clock):
    """Whatever runs in between, and wherever it falls; the exception has the result."""
    assert minimize(5).reason is Reason.INTERRUPTED
    clock[0] += 1.0
    assert minimize(0).nit == 12
    with pytest.raises(KeyboardInterrupt) as raised:
        door(3)
    found = raised.value.result
    assert "result" in raised.value.__notes__[0]
    assert (found[0] if isinstance(found, list) else found).nit < 12
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("door", DOORS)
def test_a_press_long_after_another_one_is_a_first_press(door, clock):
    """Each of several descents can be ended by a press of its own; the time is counted from the end of one."""
    for _ in range(3):
        door(3)
        clock[0] += 1.6


def test_the_time_is_counted_from_the_end_of_the_descent(clock):
    """A step may take long after the first press."""

    def slow(x):
        press()
        clock[0] += 60.0
        return valley(x)

    assert descend.minimize(slow, np.ones(3), jac=True, max_steps=1).reason is Reason.INTERRUPTED
    clock[0] += 1.0
    with pytest.raises(KeyboardInterrupt):
        minimize(2)


def test_a_descent_within_the_next_one_passes_it_on(clock):
    """The second press goes through both."""
    minimize(5)
    values = []

    def fun(x):
        values.append(minimize(3).fun)
        return valley(x)

    with pytest.raises(KeyboardInterrupt) as raised:
        descend.minimize(fun, np.ones(3), jac=True, max_steps=3)
    assert not values
    assert (raised.value.result.nit, raised.value.result.nfev) == (0, 1)


def test_what_a_function_raises_itself_is_no_press(clock):
    """A descent that its own function has ended says nothing about the next one."""

    def fun(x):
        raise KeyboardInterrupt

    for _ in range(2):
        assert descend.minimize(fun, np.ones(3), jac=True).reason is Reason.INTERRUPTED
    assert minimize(5).reason is Reason.INTERRUPTED
