"""`descend.fit` and problems: batches, closed forms, reproducibility, early stopping, torch modules."""

import contextlib
import math
import os
import pty
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import descend
from descend import Problem, Reason, problems, schedules
from descend.errors import ObjectiveError, OptionError, ParameterError, ProblemError
from descend.training.batches import Batches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = X @ np.array([1.0, -2.0, 3.0]) + 0.1 * RNG.normal(size=90)


def line(**options):
    """A small linear problem with a known answer."""
    settings = {
        "start": lambda rng: rng.normal(size=3),
        "loss": lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        "jac": lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        "data": (X, Y),
        "name": "line",
    }
    return Problem(**{**settings, **options})


# ---- batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(n, b) for n in (1, 2, 31, 100) for b in (1, 2, 7, 32, 100, "full") if b == "full" or b <= n],
)
def test_each_epoch_sees_each_example_once(size, batch_size):
    """Whatever the batch size: none lost, none doubled, the last batch shorter."""
    batches = Batches(size, batch_size, seed=3)
    for epoch in range(3):
        rows = [np.arange(size)[batches.rows(epoch * batches.per_epoch + i)] for i in range(batches.per_epoch)]
        assert sorted(np.concatenate(rows).tolist()) == list(range(size))
        assert all(len(r) == batches.batch_size for r in rows[:-1])


def test_the_order_is_a_function_of_seed_and_epoch():
    """The same seed gives the same order, whatever was asked before; other seeds and epochs give other orders."""
    one, two = Batches(50, 10, seed=1), Batches(50, 10, seed=1)
    assert one.rows(7).tolist() == [two.rows(s).tolist() for s in (3, 9, 7)][-1]
    assert one.rows(0).tolist() != one.rows(5).tolist()
    assert one.rows(0).tolist() != Batches(50, 10, seed=2).rows(0).tolist()


def test_every_batch_size_sees_the_same_order_of_examples():
    """SGD and mini-batches at one seed go through the examples in the same order."""
    single, tens = Batches(50, 1, seed=4), Batches(50, 10, seed=4)
    assert [int(single.rows(s)[0]) for s in range(50)] == np.concatenate([tens.rows(s) for s in range(5)]).tolist()


def test_steps_and_examples_are_inverse():
    """steps(e) is the largest number of steps that see at most e examples."""
    for size, batch in ((10, 3), (10, 10), (7, 1), (9, 4)):
        batches = Batches(size, batch, 0)
        seen = [len(np.arange(size)[batches.rows(s)]) for s in range(40)]
        for steps in range(40):
            assert batches.examples(steps) == sum(seen[:steps])
        for examples in range(30):
            steps = batches.steps(examples)
            assert sum(seen[:steps]) <= examples < sum(seen[: steps + 1])


def test_one_epoch_of_sgd_shows_each_sample_to_the_loss_once():
    """batch_size=1, one epoch: the loss is called with each training row exactly once."""
    seen = []
    problem = line(
        loss_and_grad=lambda w, X, y: (seen.append(X.copy()), (0.0, np.zeros(3)))[1],
        loss=lambda w, X, y: 0.0,
    )
    result = descend.fit(problem, "gd", epochs=1, batch_size=1)
    assert result.nit == result.examples == problem.size == len(seen)
    assert sorted(map(tuple, np.concatenate(seen))) == sorted(map(tuple, problem.train[0]))


# ---- what is reached --------------------------------------------------------------------------------------------


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


BY_HAND = [name for name in problems.BUILT_IN if name not in ("cnn", "characters", "mnist")]
"""What has its gradient from PyTorch, or needs a package of its own, is tested with the problems."""


@pytest.mark.parametrize("name", BY_HAND)
def test_built_in_gradients_agree_with_finite_differences(name):
    """Every hand-written gradient, at three starts."""
    problem = problems.load(name)
    for seed in range(3):
        found = problem.check_gradient(seed)
        assert found.ok, str(found)


@pytest.mark.parametrize(
    ("name", "minimum"),
    [
        ("quadratic", np.zeros(10)),
        ("rosenbrock", np.ones(2)),
        ("beale", np.array([3.0, 0.5])),
        ("himmelblau", np.array([3.0, 2.0])),
        ("booth", np.array([1.0, 3.0])),
        ("saddle", np.array([0.0, 1.0])),
    ],
)
def test_known_minima_are_minima(name, minimum):
    """The published minimiser has the published value and gradient zero."""
    problem = problems.load(name)
    loss, grad = problem.loss_and_grad(minimum)
    assert loss == pytest.approx(problem.optimum, abs=1e-12)
    assert np.max(np.abs(grad)) < 1e-12


def test_quadratic_has_the_condition_number_asked_for():
    """Its Hessian, read off its gradient, has eigenvalues from 1 to the condition number."""
    problem = problems.load("quadratic:condition=1e4,dimension=6")
    hessian = np.array([problem.loss_and_grad(row)[1] for row in np.eye(6)])
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert eigenvalues[0] == pytest.approx(1, rel=1e-6)
    assert eigenvalues[-1] == pytest.approx(1e4, rel=1e-9)


@pytest.mark.parametrize("name", ["digits", "digits-softmax", "breast-cancer", "diabetes"])
def test_real_data_are_split_without_overlap(name):
    """60 / 20 / 20 of all examples, no example in two parts, scaling learnt from the training part alone."""
    problem = problems.load(name)
    parts = [p[0] for p in (problem.train, problem.validation, problem.test)]
    sizes = [len(p) for p in parts]
    assert sum(sizes) == {"digits": 1797, "digits-softmax": 1797, "breast-cancer": 569, "diabetes": 442}[name]
    assert abs(sizes[0] / sum(sizes) - 0.6) < 0.01
    assert abs(sizes[1] - sizes[2]) <= 1
    if name in ("breast-cancer", "diabetes"):
        assert np.allclose(parts[0].mean(axis=0), 0, atol=1e-12)
        assert np.allclose(parts[0].std(axis=0), 1)
        assert not np.allclose(parts[2].mean(axis=0), 0, atol=1e-3)
    rows = [set(map(bytes, np.round(p, 12))) for p in parts]
    if not name.startswith("digits"):  # two digits may be drawn alike
        assert not rows[0] & rows[1]
        assert not rows[0] & rows[2]


# ---- budgets, looks, stopping -----------------------------------------------------------------------------------


def test_budgets_are_kept():
    """Epochs (a fraction too), steps, examples; the last is never exceeded."""
    problem = line()
    n = problem.size
    assert descend.fit(problem, "gd", epochs=2, batch_size=10).nit == 2 * math.ceil(n / 10)
    assert descend.fit(problem, "gd", epochs=0.5, batch_size=1).nit == n // 2
    assert descend.fit(problem, "gd", steps=7).nit == 7
    result = descend.fit(problem, "gd", examples=25, batch_size=10)
    assert (result.nit, result.examples) == (2, 20)
    assert descend.fit(problem, "gd", max_seconds=0.2, epochs=10**6).reason is Reason.MAX_SECONDS


@pytest.mark.parametrize(("size", "every"), [(8, 50), (7, 50), (60, 50), (100, 130), ("full", 50), (1, 33), (13, 1)])
def test_looks_by_gradient_evaluations(size, every):
    """After the first step at or beyond each multiple, whatever the batch: counted here along the steps."""
    problem, rule = problems.load("diabetes"), descend.GD(lr=0.01)
    options = {"epochs": 3, "batch_size": size, "evaluate_every_examples": every}
    result = descend.fit(problem, rule, **options)
    batches = Batches(problem.size, size, 0)
    seen, expected = 0, [0]
    for step in range(3 * batches.per_epoch):
        before, seen = seen, seen + len(np.arange(problem.size)[batches.rows(step)])
        if seen // every > before // every or step == 3 * batches.per_epoch - 1:
            expected.append(seen)
    assert [look.examples for look in result.history.evaluations] == expected
    for stacked in descend.fit_many(problem, [rule, descend.GD(lr=1e9)], [0, 1], **options)[:1]:
        assert [look.examples for look in stacked.history.evaluations] == expected


def test_looks_are_asked_for_in_one_way():
    """Steps or gradient evaluations, not both; without data a step is one evaluation."""
    with pytest.raises(OptionError, match="evaluate_every=3 and evaluate_every_examples=30 both say when to evaluate"):
        descend.fit(line(), "gd", evaluate_every=3, evaluate_every_examples=30)
    with pytest.raises(OptionError, match="evaluate_every_examples=0: a whole number ≥ 1"):
        descend.fit(line(), "gd", evaluate_every_examples=0)
    looks = descend.fit(problems.load("booth"), "gd", steps=7, evaluate_every_examples=3).history.evaluations
    assert [look.step for look in looks] == [0, 3, 6, 7]


def test_looks_are_where_they_are_asked_for():
    """Start, every evaluate_every steps, and the end; losses and metrics are those of a plain computation."""
    problem = line()
    result = descend.fit(problem, descend.GD(lr=0.05), steps=7, evaluate_every=3)
    looks = result.history.evaluations
    assert [e.step for e in looks] == [0, 3, 6, 7]
    assert looks[-1].validation_loss == pytest.approx(
        float(np.mean((problem.validation[0] @ result.x - problem.validation[1]) ** 2))
    )
    assert looks[1].batch_loss == pytest.approx(np.mean(result.history.loss[:3]))
    assert math.isnan(looks[0].batch_loss)
    assert result.validation_metric == looks[-1].validation_metric
    assert result.test_metric == pytest.approx(float(np.mean((problem.test[0] @ result.x - problem.test[1]) ** 2)))
    assert result.fun == pytest.approx(float(np.mean((problem.train[0] @ result.x - problem.train[1]) ** 2)))


def test_keep_best_returns_the_best_look():
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
    """No improvement in 3 looks ends the descent 3 looks after the best one."""
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
    """It is given each look; a true answer, or StopIteration, ends the descent."""
    looks = []
    result = descend.fit(line(), "gd", epochs=10, callback=lambda e: looks.append(e) or e.epoch >= 2)
    assert result.reason is Reason.CALLBACK
    assert [e.epoch for e in looks] == [0.0, 1.0, 2.0]


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


def test_a_divergent_fit_says_so():
    """Reason, advice, and no warning from NumPy."""
    result = descend.fit(line(), descend.GD(lr=1e3), epochs=20)
    assert result.reason in (Reason.DIVERGED, Reason.NON_FINITE)
    assert not result.success
    assert "learning rate" in result.message


def test_a_last_step_that_blows_up_is_no_success():
    """The parameters after the last step are looked at too, whatever the budget says."""
    with np.errstate(over="ignore"):
        result = descend.fit(line(), descend.GD(lr=1e300), steps=1)
    assert result.reason is Reason.NON_FINITE
    assert not result.success


def test_the_end_is_looked_at_however_it_came():
    """Out of time in mid-epoch with keep_best: the training until then is not thrown away."""
    result = descend.fit(
        line(), descend.GD(lr=0.05), batch_size=1, epochs=10**6, evaluate_every=10**7, keep_best=True, max_seconds=0.3
    )
    assert result.reason is Reason.MAX_SECONDS
    assert [e.step for e in result.history.evaluations] == [0, result.nit]
    assert result.fun < 0.05


def test_looks_are_thinned_evenly():
    """Beyond the limit every second one goes; the newest is always there."""
    history = descend.History(limit=8)
    for step in range(41):
        history.record_evaluation(descend.Evaluation(step, 0.0, 0, 0.0, 0.0, 0.0, 0.0))
    assert [e.step for e in history.evaluations] == [0, 8, 16, 24, 32, 40]
    history.record_evaluation(descend.Evaluation(41, 0.0, 0, 0.0, 0.0, 0.0, 0.0))
    assert [e.step for e in history.evaluations] == [0, 8, 16, 24, 32, 40, 41]


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
    """The parameters, steps and looks so far are on the exception."""
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


@pytest.mark.parametrize(("progress", "shown"), [("None", True), ("True", True), ("False", False)])
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
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert (b"parabola" in seen) == shown
    assert out == b""


def test_a_problem_without_data_is_fitted_by_steps():
    """Rosenbrock by steps; its metric is its loss; there is no test data."""
    result = descend.fit(problems.load("rosenbrock"), descend.Adam(lr=0.02), steps=3000)
    assert result.fun < 1e-3
    assert result.nit == result.examples == 3000
    assert math.isnan(result.test_metric)


# ---- bad input --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: line(data=(X, Y[:-1])), "line: data have different lengths: 90, 89"),
        (lambda: line(data=None, train=(X, Y[:5])), "line: train data have different lengths: 90, 5"),
        (lambda: line(data=(X[:0], Y[:0])), "empty"),
        (lambda: line(data=(1.0, 2.0)), "one row an example"),
        (lambda: line(split=(0.5, 0.2, 0.2)), "sum to 1"),
        (lambda: line(loss=None, jac=None), "give loss="),
        (lambda: line(loss=3), "loss=3 is not a function"),
        (lambda: line(start=3), "start=3"),
        (lambda: line(train=(X, Y)), "not both"),
        (lambda: line(data=None, test=(X, Y)), "give train= too"),
    ],
    ids=range(10),
)
def test_a_bad_problem_is_refused_by_name(make, match):
    """Data that do not fit together, shares that do not sum to one, missing functions."""
    with pytest.raises(ProblemError, match=match):
        make()


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


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("dgits", "unknown problem 'dgits': did you mean 'digits'"),
        ("quadratic:colour=3", "unknown setting 'colour'; it takes condition, dimension"),
        ("quadratic:condition=big", "condition='big' is not a number"),
        ("quadratic:condition=0.5", r"condition=0\.5 must be a number ≥ 1"),
        ("quadratic:dimension=0", "dimension"),
        ("booth:x=1", "it takes none"),
        ("nowhere.py", "'nowhere.py' does not exist"),
        (".", "unknown problem '.'"),
    ],
)
def test_a_bad_name_is_refused(spec, match):
    """Unknown names and settings, with the nearest known one."""
    with pytest.raises(ProblemError, match=match):
        problems.load(spec)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\n", "defines no 'problem'"),
        ("problem = 3\n", "problem is int, not a descend.Problem"),
        ("import nothing_of_that_name\n", "failed at line 1: ModuleNotFoundError"),
        ("x = 1\nx = x / 0\n", "failed at line 2: ZeroDivisionError"),
        ("def broken(:\n", "failed at line 1: SyntaxError"),
        ("raise SystemExit('bye')\n", "SystemExit: bye"),
    ],
    ids=["nothing", "type", "import", "raises", "syntax", "exit"],
)
def test_a_bad_problem_file_is_refused(tmp_path, text, match):
    """Line and cause, never a traceback's worth."""
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ProblemError, match=match) as caught:
        problems.load(str(path))
    assert "\n" not in str(caught.value)


def test_a_problem_file_may_import_its_neighbours(tmp_path):
    """As `python file.py` may; the problem is named after the file."""
    (tmp_path / "neighbour_of_mine.py").write_text("centre = 2.0\n")
    (tmp_path / "mine.py").write_text(
        "import descend, numpy as np\nfrom neighbour_of_mine import centre\n"
        "problem = descend.Problem(lambda rng: 0.0, lambda x: (x - centre) ** 2)\n"
    )
    problem = problems.load(str(tmp_path / "mine.py"))
    assert problem.name == "mine"
    assert descend.fit(problem, descend.GD(lr=0.1), steps=200).x == pytest.approx(2.0, abs=1e-5)


# ---- torch ------------------------------------------------------------------------------------------------------


def torch_problem(model=None, **options):
    Xt, yt = X.astype(np.float32), (Y > 0).astype(np.int64)
    return descend.TorchProblem(
        model or (lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))),
        torch.nn.functional.cross_entropy,
        metric=lambda out, y: (out.argmax(1) == y).float().mean(),
        metric_name="accuracy",
        higher_is_better=True,
        data=(Xt, yt),
        name="net",
        **options,
    )


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adagrad", "adamw"])
def test_a_torch_network_trains_as_with_torch_optim(name):
    """The same start and batches through torch.optim and through descend: the same weights to float32 rounding."""
    problem = torch_problem()
    result = descend.fit(problem, descend.rules.get(name)(lr=0.01), epochs=3, batch_size=8, seed=2)

    torch.manual_seed(2)
    module = problem.model()
    options = {"weight_decay": 0.01} if name == "adamw" else {}
    optimizer = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "adamw": torch.optim.AdamW,
    }[name](module.parameters(), lr=0.01, **options)
    batches = Batches(problem.size, 8, seed=2)
    for step in range(3 * batches.per_epoch):
        inputs, targets = (part[batches.rows(step)] for part in problem.train)
        optimizer.zero_grad()
        problem.loss(module(inputs), targets).backward()
        optimizer.step()
    for parameter, trained in zip(module.named_parameters(), result.x.items(), strict=True):
        assert parameter[0] == trained[0]
        assert torch.allclose(parameter[1], trained[1], atol=2e-6)


def test_dropout_and_batch_norm_repeat_to_the_bit():
    """Random numbers and running statistics belong to the descent; torch's own random state is not touched."""
    problem = torch_problem(
        lambda: torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
        )
    )
    state = torch.random.get_rng_state()
    one = descend.fit(problem, "adam", epochs=2, batch_size=8, seed=1)
    torch.rand(3)
    two = descend.fit(problem, "adam", epochs=2, batch_size=8, seed=1)
    assert all(torch.equal(one.x[k], two.x[k]) for k in one.x)
    assert torch.equal(one.buffers["1.running_mean"], two.buffers["1.running_mean"])
    assert not torch.equal(one.buffers["1.running_mean"], torch.zeros(8))
    torch.random.set_rng_state(state)
    before = torch.random.get_rng_state()
    descend.fit(problem, "adam", epochs=1, batch_size=8)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_trained_module_has_the_measured_metric():
    """problem.module(result) has the kept parameters and buffers: its own accuracy on test data is the result's."""
    problem = torch_problem(
        lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    )
    result = descend.fit(problem, descend.Adam(lr=0.05), epochs=6, batch_size=8, keep_best=True)
    module = problem.module(result)
    assert not module.training
    with torch.no_grad():
        accuracy = (module(problem.test[0]).argmax(1) == problem.test[1]).float().mean().item()
    assert accuracy == pytest.approx(result.test_metric)


def test_frozen_parameters_stay():
    """What does not require a gradient is not trained, and the module still has it."""

    def model():
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        net[0].weight.requires_grad_(False)
        return net

    problem = torch_problem(model)
    result = descend.fit(problem, "adam", epochs=1)
    assert "0.weight" not in result.x


def test_bad_torch_problems_are_refused():
    """A module in place of a function that makes one; a model that makes none; no data."""
    net = torch.nn.Linear(3, 2)
    with pytest.raises(ProblemError, match="wrap it: model=lambda"):
        torch_problem(net)
    with pytest.raises(ProblemError, match=r"not a torch\.nn\.Module"):
        torch_problem(lambda: 3).instance(0)
    with pytest.raises(ProblemError, match="needs data"):
        descend.TorchProblem(lambda: net, torch.nn.functional.mse_loss)


def test_data_frames_and_sparse_matrices_are_data():
    """A pandas frame is taken as its values, a SciPy sparse matrix as it is; both select rows, not columns."""
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    expected = descend.fit(line(), descend.GD(lr=0.05), epochs=2, batch_size=8).x
    frame = line(data=(pandas.DataFrame(X, columns=list("abc")), pandas.Series(Y)))
    assert descend.fit(frame, descend.GD(lr=0.05), epochs=2, batch_size=8).x.tolist() == expected.tolist()
    matrix = line(data=(sparse.csr_array(X), Y), jac=lambda w, X, y: 2 * (X.T @ (X @ w - y)) / len(y))
    assert np.allclose(descend.fit(matrix, descend.GD(lr=0.05), epochs=2, batch_size=8).x, expected)
