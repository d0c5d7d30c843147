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


class Looks:
    """A metric that presses Ctrl-C in some of its calls."""

    def __init__(self, *at):
        self.calls, self.at = 0, at

    def __call__(self, w, X, y):
        self.calls += 1
        for _ in range(self.at.count(self.calls)):
            press()
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
