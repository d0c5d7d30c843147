"""`find_lr`: against closed forms, the range test by hand, and whatever may be wrong with what it is given."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter

import descend
from descend.errors import ObjectiveError, OptionError, ProblemError, RuleError
from descend.training import lr_range_test as finding


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
    found = descend.find_lr(bowl(scale, scale * condition), descend.GD, high=1e3)
    limit = 2 / (scale * condition)
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
    assert any("1, is stable for some of the seeds: raise high" in note for note in low.notes)
    assert low.largest_stable.median == 1.0
    high = descend.find_lr(bowl(1.0), descend.GD, low=10.0, high=1000.0)
    assert any("10, is not stable for some of the seeds: lower low" in note for note in high.notes)
    assert "– (none)" in high.answer
    assert high.to_dict()["largest_stable"]["median"] is None
    flat = descend.find_lr(bowl(0.0), descend.GD)
    assert any("The loss never fell in 7 of 7 sweeps" in note for note in flat.notes)


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
