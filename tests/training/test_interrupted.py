"""Ctrl-C in a training: the result so far is returned, whatever is measured at that moment."""

import os
import signal

import numpy as np
import pytest
from tests.training.lines import X, Y, line

import descend

TWO = {"epochs": 2, "batch_size": len(X) // 2}
"""Two epochs of two steps."""


def press():
    """A real SIGINT; Python runs its handler before the next line."""
    os.kill(os.getpid(), signal.SIGINT)


class Presses:
    """What presses Ctrl-C in some of its calls, as often as their number is given."""

    def __init__(self, *at):
        self.calls, self.at = 0, at

    def count(self):
        self.calls += 1
        for _ in range(self.at.count(self.calls)):
            press()


class Looks(Presses):
    """A metric that presses Ctrl-C in some of its calls."""

    def __call__(self, w, X, y):
        self.count()
        return float(np.mean(np.abs(X @ w - y)))


def problem_with(metric, **options):
    return line(train=(X, Y), validation=(X, Y), test=(X, Y), data=None, metric=metric, metric_name="error", **options)


# Calls of the metric: at the start, after each of two epochs, and for training, validation and test at the end.
@pytest.mark.parametrize(
    ("at", "reason", "steps", "measured"),
    [
        ([4], "max_steps", 4, 3),
        ([6], "max_steps", 4, 3),
        ([4, 4], "max_steps", 4, 0),
        ([4, 5], "max_steps", 4, 1),
        ([2], "interrupted", 2, 3),
        ([2, 2], "interrupted", 2, 0),
        ([2, 3], "interrupted", 2, 0),
        ([1], "interrupted", 1, 3),
        ([1, 1], "interrupted", 0, 0),
    ],
)
def test_nothing_that_was_trained_is_lost(at, reason, steps, measured):
    """Once: all is measured; twice: what is not measured is NaN. The handler is put back."""
    handler = signal.getsignal(signal.SIGINT)
    result = descend.fit(problem_with(Looks(*at)), descend.GD(lr=0.01), progress=False, **TWO)
    assert signal.getsignal(signal.SIGINT) is handler
    assert (str(result.reason), result.nit, result.interrupted) == (reason, steps, True)
    figures = [result.fun, result.validation_metric, result.test_metric]
    assert [np.isfinite(figure) for figure in figures] == [i < measured for i in range(3)]
    assert result.x.shape == (3,)


def test_a_training_that_nobody_interrupts_says_so():
    assert not descend.fit(problem_with(Looks()), "gd", steps=2).interrupted


@pytest.mark.parametrize(("at", "reason"), [([6], "interrupted"), ([6, 6], "interrupted"), ([12], "max_steps")])
def test_many_runs_at_once_are_not_lost(at, reason):
    """Ctrl-C, also twice, gives a result of each run."""

    def loss_and_grad(w, X, y):
        residual = (X @ w[..., None])[..., 0] - y
        return np.mean(residual**2, axis=-1), 2 * (residual[..., None, :] @ X)[..., 0, :] / y.shape[-1]

    problem = problem_with(Looks(*at), loss=None, jac=None, loss_and_grad=loss_and_grad, stacks=True)
    results = descend.fit_many(problem, [descend.GD(lr=0.01)] * 3, [0, 1, 2], keep_best=False, **TWO)
    assert [result.interrupted for result in results] == [True] * 3
    assert {str(result.reason) for result in results} == {reason}


class Steps(Presses):
    """A loss and gradient that press Ctrl-C in some of their calls, each of which is a step."""

    def __call__(self, w, X, y):
        self.count()
        residual = (X @ w[..., None])[..., 0] - y
        return np.mean(residual**2, axis=-1), 2 * (residual[..., None, :] @ X)[..., 0, :] / y.shape[-1]


def stepping(*at, **options):
    return problem_with(Looks(), loss=None, jac=None, loss_and_grad=Steps(*at), **options)


def test_pressed_twice_within_a_step_a_loop_of_trainings_is_left_with_the_result():
    """The step is abandoned: parameters and count are those of the step before."""
    pressed = stepping(4, 4)
    with pytest.raises(KeyboardInterrupt) as raised:
        [descend.fit(pressed, descend.Adam(lr=0.01), steps=9, batch_size=len(X), progress=False) for _ in range(3)]
    result = raised.value.result
    assert pressed.loss_and_grad.calls == 4
    assert (str(result.reason), result.interrupted, result.history.step.size) == ("interrupted", True, result.nit)
    steps = descend.fit(stepping(), descend.Adam(lr=0.01), steps=result.nit, batch_size=len(X), progress=False)
    assert np.array_equal(result.x_last, steps.x_last)
    assert np.isnan(result.fun)


def test_pressed_twice_within_a_step_of_many_runs_the_interrupt_has_the_results():
    with pytest.raises(KeyboardInterrupt) as raised:
        descend.fit_many(stepping(13, 13, stacks=True), [descend.GD(lr=0.01)] * 3, [0, 1, 2], keep_best=False, **TWO)
    assert [(str(r.reason), r.interrupted) for r in raised.value.result] == [("interrupted", True)] * 3


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("where", ["step", "look"])
def test_a_training_within_an_objective_is_finished_or_passes_the_interrupt_on(where, times):
    """The first press is for the descent around it; no half-trained figure is taken for a value."""
    values = []
    at = (3,) * times

    def fun(x):
        problem = stepping(*at) if where == "step" else problem_with(Looks(*at))
        result = descend.fit(problem, descend.GD(lr=float(x) ** 2 / 100), steps=4, progress=False)
        values.append((str(result.reason), result.interrupted))
        return result.fun

    def run():
        return descend.minimize(fun, 1.0, jac=lambda x: 2 * x, method=descend.GD(lr=0.1), max_steps=9)

    if times == 1:
        result = run()
        assert values == [("max_steps", False)]
    else:
        with pytest.raises(KeyboardInterrupt) as raised:
            run()
        result = raised.value.result
        assert not values
    assert (str(result.reason), result.nit) == ("interrupted", 0)
