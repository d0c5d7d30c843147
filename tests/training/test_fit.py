"""`descend.fit`: closed forms, the loop by hand, early stopping, failures, interruption, wrong options."""

import contextlib
import itertools
import math
import os
import pty
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tests.processes import PATIENCE
from tests.training.lines import X, Y, line

import descend
from descend import Reason, problems, schedules
from descend.errors import ObjectiveError, OptionError, ParameterError, ProblemError
from descend.training.batches import Batches


def test_full_batch_gradient_descent_reaches_least_squares_on_diabetes():
    """The closed-form solution of the training data, computed here from the normal equations, to 1e-6."""
    problem = problems.load("diabetes")
    X, y = problem.train
    design = np.column_stack([X, np.ones(len(y))])
    exact = np.linalg.solve(design.T @ design, design.T @ y)
    result = descend.fit(problem, descend.GD(lr=0.3), epochs=6000, batch_size="full")
    assert np.max(np.abs(np.append(result.x["w"], result.x["b"]) - exact)) < 1e-6
    assert result.fun == pytest.approx(problem.optimum, abs=1e-12)
    assert problem.optimum == pytest.approx(0.5 * np.mean((design @ exact - y) ** 2), rel=1e-12)


@pytest.mark.parametrize("batch_size", ["full", 1, 8])
def test_fit_is_the_hand_written_loop(batch_size):
    """Batch, stochastic and mini-batch gradient descent equal a plain loop over the same batches, to the bit."""
    problem = line()
    X_train, y_train = problem.train
    w = problem.start(np.random.default_rng(5))
    batches = Batches(len(y_train), batch_size, seed=5)
    for step in range(3 * batches.per_epoch):
        rows = batches.rows(step)
        xb, yb = X_train[rows], y_train[rows]
        w = w - 0.05 * (2 * xb.T @ (xb @ w - yb) / len(yb))
    result = descend.fit(problem, descend.GD(lr=0.05), epochs=3, batch_size=batch_size, seed=5)
    assert result.x.tolist() == w.tolist()
    assert result.epochs == 3.0
    assert result.examples == 3 * len(y_train)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_every_rule_learns_the_digits(rule):
    """A few epochs at a fitting learning rate: well above chance on test data never seen."""
    lr = {"sgd": 0.5, "momentum": 0.1, "adagrad": 0.05, "rmsprop": 0.003, "adam": 0.01, "adamw": 0.01}[rule]
    result = descend.fit(problems.load("digits"), descend.rules.get(rule)(lr=lr), epochs=8)
    assert result.test_metric > 0.93
    assert result.success


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    """Parameters and history, twice; and with another seed."""
    problem = problems.load("digits-softmax")
    one, two, other = (descend.fit(problem, descend.Adam(lr=0.01), epochs=2, seed=s) for s in (1, 1, 2))
    assert one.x["W"].tobytes() == two.x["W"].tobytes()
    assert one.history.loss.tobytes() == two.history.loss.tobytes()
    assert one.x["W"].tobytes() != other.x["W"].tobytes()


def test_a_schedule_is_followed_step_by_step():
    """lr by a cosine: equal to a loop that computes the cosine itself."""
    problem = line()
    X_train, y_train = problem.train
    w = problem.start(np.random.default_rng(0))
    for step in range(20):
        lr = 0.05 * (1 + math.cos(math.pi * step / 20)) / 2 * 2
        w = w - lr * (2 * X_train.T @ (X_train @ w - y_train) / len(y_train))
    result = descend.fit(problem, descend.GD(lr=schedules.Cosine(0.1, steps=20)), steps=20, batch_size="full")
    assert np.allclose(result.x, w, rtol=1e-12)


def test_a_problem_without_data_is_fitted_by_steps():
    """Rosenbrock by steps; its metric is its loss; there is no test data."""
    result = descend.fit(problems.load("rosenbrock"), descend.Adam(lr=0.02), steps=3000)
    assert result.fun < 1e-3
    assert result.nit == result.examples == 3000
    assert math.isnan(result.test_metric)


def test_data_frames_and_sparse_matrices_are_data():
    """A pandas frame is taken as its values, a SciPy sparse matrix as it is; both select rows, not columns."""
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    expected = descend.fit(line(), descend.GD(lr=0.05), epochs=2, batch_size=8).x
    frame = line(data=(pandas.DataFrame(X, columns=list("abc")), pandas.Series(Y)))
    assert descend.fit(frame, descend.GD(lr=0.05), epochs=2, batch_size=8).x.tolist() == expected.tolist()
    matrix = line(data=(sparse.csr_array(X), Y), jac=lambda w, X, y: 2 * (X.T @ (X @ w - y)) / len(y))
    assert np.allclose(descend.fit(matrix, descend.GD(lr=0.05), epochs=2, batch_size=8).x, expected)


def test_keep_best_returns_the_best_evaluation():
    """With a rule that ends badly: the parameters of the best validation metric, not the last ones."""
    problem = line()
    rule = descend.GD(lr=lambda t: 0.1 if t < 20 else 1.5)
    last = descend.fit(problem, rule, steps=26, batch_size="full", evaluate_every=1)
    best = descend.fit(problem, rule, steps=26, batch_size="full", evaluate_every=1, keep_best=True)
    metrics = [e.validation_metric for e in best.history.evaluations]
    assert best.validation_metric == min(metrics) == best.best.validation_metric
    assert last.validation_metric == metrics[-1] > best.validation_metric
    assert best.x_last.tolist() == last.x.tolist()


def test_patience_stops_early():
    """No improvement in 3 evaluations ends the descent 3 evaluations after the best one."""
    result = descend.fit(
        line(),
        descend.GD(lr=lambda t: 0.1 if t < 10 else 0.0),
        steps=1000,
        batch_size="full",
        evaluate_every=1,
        patience=3,
    )
    assert result.reason is Reason.NO_PROGRESS
    assert result.nit == result.best.step + 3
    assert result.success


def test_the_callback_can_stop():
    """It is given each evaluation; a true answer, or StopIteration, ends the descent."""
    seen = []
    result = descend.fit(line(), "gd", epochs=10, callback=lambda e: seen.append(e) or e.epoch >= 2)
    assert result.reason is Reason.CALLBACK
    assert [e.epoch for e in seen] == [0.0, 1.0, 2.0]


def test_a_divergent_fit_says_so():
    """Reason, advice, and no warning from NumPy."""
    result = descend.fit(line(), descend.GD(lr=1e3), epochs=20)
    assert result.reason in (Reason.DIVERGED, Reason.NON_FINITE)
    assert not result.success
    assert "learning rate" in result.message


def test_a_last_step_that_blows_up_is_no_success():
    """The parameters after the last step are evaluated too, whatever the budget says."""
    with np.errstate(over="ignore"):
        result = descend.fit(line(), descend.GD(lr=1e300), steps=1)
    assert result.reason is Reason.NON_FINITE
    assert not result.success


def test_a_metric_that_raises_at_the_end_keeps_the_descent():
    """Test data that the metric cannot take: the exception has the trained parameters."""

    def metric(w, X, y):
        if len(y) == 18:
            raise KeyError("label")
        return float(np.mean((X @ w - y) ** 2))

    uneven = line(
        data=None, train=(X[:50], Y[:50]), validation=(X[50:70], Y[50:70]), test=(X[70:88], Y[70:88]), metric=metric
    )
    with pytest.raises(ObjectiveError, match="KeyError") as caught:
        descend.fit(uneven, descend.GD(lr=0.05), epochs=3)
    assert caught.value.result.nit == 6


def test_a_loss_that_raises_loses_nothing():
    """The parameters, steps and evaluations so far are on the exception."""
    calls = []

    def loss(w, X, y):
        calls.append(1)
        if len(calls) > 40:
            raise RuntimeError("disk on fire")
        return float(np.mean((X @ w - y) ** 2))

    with pytest.raises(ObjectiveError, match=r"RuntimeError: disk on fire \(at step") as caught:
        descend.fit(line(loss=loss), descend.GD(lr=0.01), epochs=100, batch_size="full")
    result = caught.value.result
    assert result.reason is Reason.FUNCTION_RAISED
    assert result.nit == len(result.history.loss) > 5
    assert [e.step for e in result.history.evaluations] == list(range(result.nit))


def test_ctrl_c_returns_the_result_so_far():
    """KeyboardInterrupt in the middle of an epoch."""
    calls = []

    def jac(w, X, y):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return 2 * X.T @ (X @ w - y) / len(y)

    result = descend.fit(line(jac=jac), descend.GD(lr=0.01), epochs=100, batch_size=10)
    assert result.reason is Reason.INTERRUPTED
    assert result.nit == 11
    assert np.isfinite(result.x).all()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("progress", "shown"),
    [("None", True), pytest.param("True", True, marks=SLOW), pytest.param("False", False, marks=SLOW)],
)
def test_long_work_shows_a_bar_on_a_terminal(progress, shown):
    """On a real terminal: after a second by default; on a pipe and with progress=False nothing at all."""
    script = textwrap.dedent(f"""
        import time, descend
        def jac(x):
            time.sleep(0.005)
            return 2 * x
        problem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, jac, name="parabola")
        descend.fit(problem, "gd", steps=400, progress={progress})
    """)
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal closes when the process ends
        while chunk := os.read(parent, 65536):
            seen += chunk
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert (b"parabola" in seen) == shown
    assert out == b""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 1.5}, r"batch_size=1\.5"),
        ({"batch_size": "all"}, "batch_size='all'"),
        ({"batch_size": 1000}, "batch_size=1000 is larger than the training data, which have 54 examples"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": math.nan}, "epochs=nan"),
        ({"epochs": 1, "steps": 1}, "epochs=1 and steps=1: give one"),
        ({"steps": -1}, "steps=-1"),
        ({"examples": 5, "batch_size": 10}, "examples=5 does not pay for one batch of 10"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0.5}, r"seed=0\.5"),
        ({"patience": 0}, "patience=0"),
        ({"evaluate_every": 0}, "evaluate_every=0"),
        ({"max_seconds": -1}, "max_seconds=-1"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused_by_name(options, match):
    """Option, value, what is allowed, before anything is run."""
    with pytest.raises(OptionError, match=match):
        descend.fit(line(), "gd", **options)


def test_a_bad_start_is_refused_by_name():
    """A start with integers, NaN, or nothing in it."""
    for start, match in (
        (lambda rng: {"w": 1}, r"params\['w'\]=1 has the integer"),
        (lambda rng: np.array([np.nan]), "nan"),
    ):
        with pytest.raises(ParameterError, match=match):
            descend.fit(line(start=start), "gd", steps=1)


def test_fit_needs_a_problem_and_validation_where_it_is_used():
    """A function in place of a problem; patience without validation data; epochs without data."""
    with pytest.raises(ProblemError, match="is not a Problem"):
        descend.fit(lambda x: x, "gd")
    with pytest.raises(ProblemError, match="has no validation data"):
        descend.fit(line(data=None, train=(X, Y)), "gd", patience=2)
    with pytest.raises(OptionError, match="no epochs"):
        descend.fit(problems.load("booth"), "gd", epochs=2)
    with pytest.raises(OptionError, match="no data to take batches of"):
        descend.fit(problems.load("booth"), "gd", batch_size=3)


def test_the_path_of_a_training_is_kept():
    """The parameters at each record, from which each step was made; the last point is the result's."""
    problem = line(train=(X, Y), data=None)
    result = descend.fit(problem, descend.GD(lr=0.1), steps=5, batch_size="full", history="path")
    path = [*result.history.path, result.x]
    assert len(path) == 6
    for before, after in itertools.pairwise(path):
        np.testing.assert_allclose(after, before - 0.1 * problem.jac(before, X, Y), rtol=1e-12)
    assert descend.fit(problem, descend.GD(), steps=2).history.path is None


def test_a_printed_result_shows_the_metrics():
    """By their name; a long line is cut."""
    result = descend.fit(descend.problems.load("digits"), "adam", epochs=1)
    text = str(result)
    assert f"validation_metric: {result.validation_metric} (accuracy)\n" in text
    assert f"test_metric: {result.test_metric} (accuracy)\n" in text
    assert f"best: {result.best.validation_metric} (accuracy) on validation data after step {result.best.step}" in text
    assert max(map(len, text.splitlines())) < 250
    long = descend.fit(
        line(start=lambda _: [0.0] * 3, loss=lambda w, X, y: 0.0, jac=lambda w, X, y: [0.0] * 3), steps=1
    )
    long.x = [0.0] * 10_000
    assert max(map(len, str(long).splitlines())) < 250


def test_the_best_of_a_climb_is_the_highest():
    """With maximize the loss is to be high: keep_best and patience go by that, where there is no metric of its own."""
    hill = descend.Problem(
        start=lambda _: np.array([3.0]), loss_and_grad=lambda w: (-np.vecdot(w, w), -2 * w), stacks=True
    )
    up, beyond = descend.GD(lr=0.3, maximize=True), descend.GD(lr=1.2, maximize=True)  # which goes lower in each step
    options = {"steps": 6, "evaluate_every": 1}
    for rule, best in ((up, 6), (beyond, 0)):
        result = descend.fit(hill, rule, keep_best=True, **options)
        assert result.best.step == best
        assert result.fun == max(e.validation_loss for e in result.history.evaluations)
    assert [result.best.step for result in descend.fit_many(hill, [up, beyond], [0, 0], **options)] == [6, 0]
