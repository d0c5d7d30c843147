"""`descend.minimize`: the notebook's digits, callbacks, climbing, the point that is returned."""

import numpy as np
import torch
from tests.objectives.functions import slope, square

import descend
from descend import Reason


def test_gradient_descent_reproduces_the_printed_digits():
    """(θ−3)² from 0, lr 0.1, 100 steps: the notebook's last digit, its 100 losses, and the loss after the last step."""
    theta, losses = 0.0, []
    for _ in range(100):
        losses.append((theta - 3) ** 2)
        theta = theta - 0.1 * (2 * (theta - 3))
    result = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=0.1), max_steps=100)
    assert result.x == theta == 2.9999999993888893
    assert result.history.loss.tolist() == losses
    assert len(result.history.loss) == 100
    assert result.history.loss[0] == 9.0
    assert result.fun == (theta - 3) ** 2
    assert (result.nit, result.nfev, result.njev) == (100, 101, 101)


def test_adam_reproduces_the_printed_digits_in_float64():
    """Adam, lr 0.01, 100 steps on the same function."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.Adam(lr=0.01), max_steps=100)
    assert result.x == 0.9375536000235248


def test_adam_reproduces_the_printed_digits_in_float32():
    """In float32 to 1e-6 of what torch printed; the dtype of x0 is kept."""
    result = descend.minimize(square, np.float32(0), jac=slope, method=descend.Adam(lr=0.01), max_steps=100)
    assert result.x.dtype == np.float32
    assert abs(float(result.x) - 0.9375530481338501) < 1e-6


def test_adam_reproduces_the_printed_digits_through_torch():
    """The same through a PyTorch tensor, MSELoss and autograd, beside torch.optim.Adam itself."""
    loss_fn, goal = torch.nn.MSELoss(), torch.tensor([3.0])
    result = descend.minimize(
        lambda t: loss_fn(t, goal), torch.tensor([0.0]), method=descend.Adam(lr=0.01), max_steps=100
    )
    theta = torch.nn.Parameter(torch.tensor([0.0]))
    optimizer = torch.optim.Adam([theta], lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss_fn(theta, goal).backward()
        optimizer.step()
    assert isinstance(result.x, torch.Tensor)
    assert result.x.dtype == torch.float32
    assert abs(result.x.item() - 0.9375530481338501) < 1e-6
    assert abs(result.x.item() - theta.item()) < 1e-6


def test_args_reach_fun_and_jac():
    """args is a tuple, or one value, as in SciPy."""
    for args in ((3.0,), 3.0):
        result = descend.minimize(
            lambda x, a: (x - a) ** 2, 0.0, args, descend.GD(lr=0.1), lambda x, a: 2 * (x - a), max_steps=100
        )
        assert result.x == 2.9999999993888893


def test_maximize_climbs_and_returns_the_highest_point():
    """A rule with maximize=True: the best point is the highest, a target is reached from below."""
    result = descend.minimize(
        lambda x: -square(x), 0.0, jac=lambda x: -slope(x), method=descend.GD(lr=0.1, maximize=True), target=-1e-6
    )
    assert result.reason is Reason.TARGET
    assert result.fun >= -1e-6


def test_the_best_point_is_returned_when_the_last_is_worse():
    """A rule that overshoots: x is the best point seen, x_last where the last step led."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.Momentum(lr=0.1), max_steps=8)
    losses = [*result.history.loss, square(result.x_last)]
    assert result.fun == min(losses) < losses[-1]
    assert result.fun == square(result.x)


def test_a_claim_of_convergence_holds_at_the_point_returned():
    """Where the gradient vanishes far from the best point: x is the point the claim is about, and the message tells."""
    bump = lambda x: -np.exp(-50 * x**2)  # noqa: E731
    result = descend.minimize(bump, 0.1, jac=lambda x: -100 * x * bump(x), method=descend.GD(lr=1.0), gtol=1e-6)
    assert result.success
    assert abs(result.jac) <= 1e-6
    assert result.x == result.x_last
    assert "better loss" in result.message


def test_the_callback_sees_every_point():
    """x, fun, jac, norm and counts at the start and after each step; its copies are its own."""
    points = []
    descend.minimize(
        lambda x: float(x @ x),
        np.array([1.0, 0.0]),
        jac=lambda x: 2 * x,
        method=descend.GD(lr=0.25),
        max_steps=3,
        callback=points.append,
    )
    assert [p.nit for p in points] == [0, 1, 2, 3]
    assert [float(p.x[0]) for p in points] == [1.0, 0.5, 0.25, 0.125]
    assert [p.fun for p in points] == [1.0, 0.25, 0.0625, 0.015625]
    assert [p.gradient_norm for p in points] == [2.0, 1.0, 0.5, 0.25]
    assert [p.nfev for p in points] == [1, 2, 3, 4]


def test_stop_iteration_in_the_callback_stops():
    """As in SciPy."""

    def callback(point):
        if point.nit == 2:
            raise StopIteration

    result = descend.minimize(square, 0.0, jac=slope, callback=callback, max_steps=10)
    assert result.reason is Reason.CALLBACK
    assert result.nit == 2
