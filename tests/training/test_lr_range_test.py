"""`find_lr`: against closed forms, the range test by hand, and whatever may be wrong with what it is given."""

import copy
import dataclasses
import math
import os
import threading

import numpy as np
import pytest
import threadpoolctl
import torch
from scipy.signal import savgol_filter

import descend
from descend.engines import threads
from descend.errors import ObjectiveError, OptionError, ProblemError, RuleError
from descend.intervals import Interval
from descend.training import range_sweeps as finding
from descend.training.options import RangeTestOptions
from descend.training.range_results import notes_on


def bowl(*curvatures, start=None):
    """½ Σ λ x², whose gradient descent is stable below 2 / max λ."""
    curvature = np.array(curvatures, dtype=float)
    return descend.Problem(
        name="bowl",
        start=lambda rng: rng.normal(size=curvature.size) if start is None else np.array(start, dtype=float),
        loss_and_grad=lambda x: (0.5 * float(curvature @ x**2), curvature * x),
    )


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("condition", [1.0, 10.0, 50.0])
def test_the_limit_of_gradient_descent(scale, condition):
    """On a quadratic it is 2 / λ: within 5 % below, and above by what 50 steps of growth need to outweigh a loss."""
    limit = 2 / (scale * condition)
    found = descend.find_lr(bowl(scale, scale * condition), descend.GD, low=1e-6 * limit, high=1e3)
    for sweep in found.sweeps:
        assert 0.95 * limit < sweep.largest_stable < 1.06 * limit
    assert found.largest_stable.low <= found.largest_stable.median <= found.largest_stable.high
    assert found.steepest.median < found.largest_stable.median
    assert not found.notes


def test_the_limit_of_momentum():
    """Polyak's is 2 (1 + μ) / λ (Goh 2017): with momentum 0.9 nearly twice that of gradient descent."""
    found = descend.find_lr(bowl(1.0, 10.0), descend.Momentum, trial_steps=200)
    assert found.largest_stable.median == pytest.approx(2 * 1.9 / 10, rel=0.06)


def test_the_sweep_is_a_descent_whose_learning_rate_grows():
    """Losses, smoothed losses and slope of a seed, step by step by hand."""
    problem = descend.problems.load("digits")
    found = descend.find_lr(problem, descend.Momentum, batch_size=50, low=1e-4, high=1.0, steps=80, seeds=1)
    sweep = found.sweeps[0]
    params = problem.start(np.random.default_rng(0))
    velocity = {k: np.zeros_like(v) for k, v in params.items()}
    X, y = problem.train
    losses = []
    for step in range(len(sweep.losses)):
        epoch, place = divmod(step, math.ceil(len(y) / 50))
        rows = np.random.default_rng([0, epoch, 1]).permutation(len(y))[50 * place :][:50]
        loss, grad = problem.loss_and_grad(params, X[rows], y[rows])
        losses.append(loss)
        for k in params:
            velocity[k] = 0.9 * velocity[k] + grad[k]
            params[k] = params[k] - 1e-4 * 1e4 ** (step / 79) * velocity[k]
    np.testing.assert_allclose(sweep.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(sweep.learning_rates, np.geomspace(1e-4, 1.0, 80)[: len(losses)])
    delta = math.log(1e4) / 79
    window = 2 * (round(1.2 * math.log(10) / delta) // 2) + 1
    if round(1.2 * math.log(10) / delta) % 2 == 0:
        window -= 2
    np.testing.assert_allclose(sweep.slope, savgol_filter(losses, window, 2, deriv=1, delta=delta), rtol=1e-6)
    inside = sweep.slope[: int(np.argmin(sweep.smoothed)) + 1]
    assert sweep.steepest == sweep.learning_rates[int(np.argmin(inside))]


def test_the_slope_is_along_the_logarithm():
    """Of a loss that is a parabola in ln(lr), the slope is that of the parabola, in whatever steps it is sampled."""
    for number in (60, 160):
        x = np.linspace(-8, 2, number)
        smoothed, slope = finding._smoothed((x + 1) ** 2, x[1] - x[0])
        np.testing.assert_allclose(smoothed, (x + 1) ** 2, atol=1e-9)
        np.testing.assert_allclose(slope, 2 * (x + 1), atol=1e-9)


def test_stable_means_that_training_works():
    """On real data, below the limit a longer training improves on its start, and far above it does not."""
    problem = descend.problems.load("digits")
    found = descend.find_lr(problem, descend.Adam)
    limit = found.largest_stable.median
    assert found.steepest.median < limit
    instance = problem.instance(0)
    first = instance.measure(instance.params, *problem.train)[0]
    below, above = (descend.fit(problem, descend.Adam(lr=lr), steps=60).fun for lr in (limit / 3, 30 * limit))
    assert below < first
    assert not above < first


def test_one_hard_batch_is_no_divergence():
    """A loss that jumps for a single batch does not end a sweep; one that stays up does."""
    quiet = [1.0] * 30
    assert finding._until_exploded(quiet, 4.0) == 30
    assert finding._until_exploded([*quiet[:10], 50.0, *quiet[:10]], 4.0) == 21
    assert finding._until_exploded([*quiet[:10], 50.0, 50.0, 50.0, *quiet], 4.0) == 11
    assert finding._until_exploded([*quiet[:10], math.nan, *quiet], 4.0) == 10


def test_nothing_of_the_problem_is_changed():
    """The module that each is a copy of, data and random numbers are as they were; a second test is the same."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    X = torch.randn(120, 3)
    random = torch.random.get_rng_state()
    problem = descend.TorchProblem(
        lambda: copy.deepcopy(net), torch.nn.functional.mse_loss, data=(X, X.sum(1, keepdim=True)), name="net"
    )
    data = [t.clone() for t in problem.train]
    found = descend.find_lr(problem, "adamw", seeds=2, steps=40, trial_steps=10)
    assert math.isfinite(found.largest_stable.median)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(map(torch.equal, problem.train, data))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert descend.find_lr(problem, "adamw", seeds=2, steps=40, trial_steps=10).to_dict() | {"seconds": 0} == (
        found.to_dict() | {"seconds": 0}
    )


def test_notes():
    """What makes a figure doubtful is said."""
    few = descend.find_lr(bowl(1.0), descend.GD, seeds=3)
    assert few.largest_stable.low is None
    assert few.notes == ("3 seeds are too few for intervals: use 6 or more.",)
    low = descend.find_lr(bowl(1.0), descend.GD, high=1.0)
    assert any("1, is stable for all 7 seeds: raise high" in note for note in low.notes)
    assert low.largest_stable.median == 1.0
    high = descend.find_lr(bowl(1.0), descend.GD, low=10.0, high=1000.0)
    assert any("10, is not stable for all 7 seeds: lower low" in note for note in high.notes)
    assert high.answer == "On bowl, no learning rate is found for GD: the loss did not fall."
    assert high.to_dict()["largest_stable"]["median"] is None
    flat = descend.find_lr(bowl(0.0), descend.GD)
    assert any("The loss did not fall at any learning rate for all 7 seeds" in note for note in flat.notes)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"low": 0.0}, OptionError, "low=0.0: a learning rate > 0 is needed"),
        ({"high": math.inf}, OptionError, "high=inf: a learning rate > 0"),
        ({"low": 1.0, "high": 2.0}, OptionError, "high must be ten times low"),
        ({"steps": 5}, OptionError, "steps=5: a whole number ≥ 20"),
        ({"seeds": 0}, OptionError, "seeds=0: a whole number ≥ 1"),
        ({"trial_steps": None}, OptionError, "trial_steps=None"),
        ({"batch_size": 8}, OptionError, "bowl has no data to take batches of"),
        ({"rule": "adamm"}, RuleError, "did you mean"),
        ({"rule": descend.Adam(maximize=True)}, OptionError, "looks for where a loss falls"),
    ],
)
def test_wrong_options(options, error, match):
    with pytest.raises(error, match=match):
        descend.find_lr(bowl(1.0), **options)


def test_wrong_problems():
    with pytest.raises(ProblemError, match="is not a Problem"):
        descend.find_lr(3)
    lost = descend.Problem(name="lost", start=lambda rng: np.ones(2), loss_and_grad=lambda x: (math.nan, x))
    with pytest.raises(ObjectiveError, match="lost: the loss is nan at the start"):
        descend.find_lr(lost)

    def broken(x):
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ObjectiveError, match="ZeroDivisionError: on purpose"):
        descend.find_lr(descend.Problem(name="broken", start=lambda rng: np.ones(2), loss_and_grad=broken))


NOISE = np.random.default_rng(0)


@pytest.mark.parametrize("rule", ["gd", "adam"])
@pytest.mark.parametrize(
    ("loss", "jac"),
    [
        pytest.param(lambda x: 2.5, lambda x: 0 * x, id="constant"),
        pytest.param(lambda x: float(x @ x), lambda x: -2 * x, id="gradient of the wrong sign"),
        pytest.param(lambda x: 1e17 + float(x @ x), lambda x: 2 * x, id="fall below the rounding"),
        pytest.param(lambda x: float(np.floor(abs(x)).sum()), lambda x: 0 * x, id="steps"),
        pytest.param(lambda x: float(NOISE.normal()), lambda x: 2 * x, id="noise"),
    ],
)
def test_a_loss_that_never_falls_has_no_learning_rate(loss, jac, rule):
    """Neither a steepest nor a stable one is named, and the answer says so; the smoothed noise of a sweep is none."""
    found = descend.find_lr(descend.Problem(lambda rng: rng.normal(size=3), loss, jac, name="never"), rule)
    name = rule.upper() if rule == "gd" else "Adam"
    assert found.answer == f"On never, no learning rate is found for {name}: the loss did not fall."
    assert not math.isfinite(found.steepest.median)
    assert not math.isfinite(found.largest_stable.median)
    assert any("see that the gradient belongs to the loss" in note for note in found.notes)


def test_a_loss_that_starts_at_its_minimum_has_none():
    """There is nothing to gain."""
    assert "no learning rate is found" in descend.find_lr(bowl(1.0, 2.0, start=[0.0, 0.0]), "momentum").answer


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("scale", [1e-9, 1.0])
def test_a_small_fall_is_a_fall(offset, scale):
    """However small it is beside the loss, as long as floats can hold it: the limit is 2 / λ."""
    problem = descend.Problem(
        lambda rng: rng.normal(size=3) * (1.0 if offset else scale),
        lambda x: offset + float(x @ x),
        lambda x: 2 * x,
    )
    assert 0.95 < descend.find_lr(problem, "gd").largest_stable.median < 1.06


def test_a_steepest_beyond_the_stable_one_is_said():
    """A sweep may gain most where short descents at that rate end above their start; it is said of how many seeds."""
    found = descend.find_lr("booth", "gd")
    sweeps = [
        dataclasses.replace(s, steepest=0.3, largest_stable=0.1 if i < 4 else 0.5) for i, s in enumerate(found.sweeps)
    ]
    notes = notes_on(sweeps, RangeTestOptions())
    assert [note for note in notes if "beyond the largest stable one for 4 of 7 seeds" in note]
    made = dataclasses.replace(found, steepest=Interval(0.3, 0.2, 0.4), largest_stable=Interval(0.1, 0.1, 0.1))
    assert made.answer == (
        "On booth, GD gains most at a learning rate of 0.3 [0.2, 0.4], but only while a sweep passes: it is stable up "
        "to 0.1 [0.1, 0.1], and no further."
    )


def test_a_sweep_that_begins_too_high_says_so():
    """The steepest rate at the very beginning of a sweep is marked; from further below it is another, and is not."""
    X = np.random.default_rng(0).normal(size=(200, 4)) * [1, 10, 100, 300]
    y = X.sum(axis=1)
    plain = descend.Problem(
        lambda rng: 0.01 * rng.normal(size=4), lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y), data=(X, y), name="plain",
    )  # fmt: skip
    high = descend.find_lr(plain, "gd", low=5e-6)
    assert any("lies where the sweep begins, at 5e-06" in note for note in high.notes)
    low = descend.find_lr(plain, "gd", low=1e-9)
    assert low.notes == ()
    assert low.steepest.median < high.steepest.median


def test_the_cost_is_bounded():
    """Gradients are counted: never more than is announced, nor than a budget; what it does not pay for is refused."""
    evaluations = []

    def gradient(x):
        evaluations.append(1)
        return 0.5 * float(x @ x), x

    problem = descend.Problem(lambda rng: rng.normal(size=2), loss_and_grad=gradient, name="counted")
    told = []
    options = {"seeds": 3, "low": 1e-12, "high": 1e6, "announce": told.append}
    descend.find_lr(problem, "gd", **options)
    assert told[0].startswith(
        "Looking for a learning rate of GD on counted: 3 seeds, each with a sweep of 160 steps and up to 20 descents "
        "of 50; 3,480 gradients at most, about a second in this process."
    )
    evaluations.clear()
    found = descend.find_lr(problem, "gd", **options, budget=3 * (160 + 3 * 50))
    pilot_and_measures = 400
    assert len(evaluations) < 3 * (160 + 3 * 50) + pilot_and_measures
    assert found.largest_stable.median <= 2.1
    assert any("The budget was spent before" in note for note in found.notes)
    with pytest.raises(OptionError, match=r"budget=100: 3 seeds, each with a sweep of 160 steps and 2 descents of 50"):
        descend.find_lr(problem, "gd", **options, budget=100)
    with pytest.raises(OptionError, match="jobs=0"):
        descend.find_lr(problem, "gd", jobs=0)


def test_the_plan_goes_to_the_log(caplog):
    """Without a function to tell it to; as a warning, which is seen, only where the work is long."""
    with caplog.at_level("INFO", "descend"):
        descend.find_lr("booth", "gd", seeds=1)
    assert [(r.levelname, r.getMessage().partition(":")[0]) for r in caplog.records] == [
        ("INFO", "Looking for a learning rate of GD on booth")
    ]


def test_work_has_one_thread(monkeypatch):
    """BLAS and machine code have the one thread that a run of a comparison has, in the pilot too."""
    seen = set()

    def loss(x):
        seen.add((threads.allowed(8), *(p["num_threads"] for p in threadpoolctl.threadpool_info())))
        return float(x @ x)

    with threadpoolctl.threadpool_limits(2):
        descend.find_lr(
            descend.Problem(lambda rng: rng.normal(size=2), loss, lambda x: 2 * x),
            "gd",
            seeds=1,
            steps=20,
            trial_steps=2,
        )
    assert {number for numbers in seen for number in numbers} == {1}


@pytest.mark.slow
def test_processes_find_the_same(tmp_path, monkeypatch):
    """Any number of them, for a file's problem too; an error, a death and Ctrl-C there are told as in one process."""
    (tmp_path / "lines.py").write_text(
        "import descend, numpy as np\nimport neighbour\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), lambda x: neighbour.loss(x), lambda x: 2 * x)\n"
    )
    (tmp_path / "neighbour.py").write_text("def loss(x):\n    print('noise')\n    return float(x @ x)\n")
    for problem in (str(tmp_path / "lines.py"), "diabetes"):
        one, three = (descend.find_lr(problem, "adam", jobs=jobs).to_dict() for jobs in (1, 3))
        assert one | {"seconds": 0} == three | {"seconds": 0}

    def failing(kind):
        def start(rng):
            return rng.normal(size=2)

        def loss(x):
            if os.getpid() != here:
                kind()
            return float(x @ x)

        here = os.getpid()
        return descend.Problem(start, loss, lambda x: 2 * x, name="failing")

    def divide():
        raise ZeroDivisionError("there")

    with pytest.raises(ObjectiveError, match="ZeroDivisionError: there"):
        descend.find_lr(failing(divide), "gd", jobs=2)
    with pytest.raises(ObjectiveError, match="a worker process died"):
        descend.find_lr(failing(lambda: os._exit(3)), "gd", jobs=2)
    lock = threading.Lock()
    with pytest.raises(ProblemError, match=r"cannot be sent to worker processes .*; use jobs=1"):
        descend.find_lr(failing(lock.acquire), "gd", jobs=2)


def test_results_are_short_in_a_notebook():
    """The last line of a cell shows the answer, and not every figure of every sweep."""
    found = descend.find_lr("booth", "gd")
    assert repr(found) == f"<RangeTest of 7 seeds: {found.answer}>"
    assert found._repr_html_().startswith("<pre>On booth, GD gains most at a learning rate of ")
    assert repr(found.sweeps[0]).startswith("<Sweep from seed 0: ")
    assert len(repr(found)) < 1000
