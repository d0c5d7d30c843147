"""Functions with known minima: their formulas, minimisers and condition numbers."""

import numpy as np
import pytest

import descend
from descend import problems


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


def test_deep_quadratic_is_its_formula():
    """The loss, row by row of the definition; a matrix product that is the target has loss zero."""
    problem = problems.load("deep-quadratic:condition=50,dimension=4,depth=3")
    first, second, third = params = problem.instance(3).params
    loss, slopes = problem.loss_and_grad(params)
    target, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    difference = third @ second @ first - target
    by_hand = sum(50 ** (j / 3) / 50 * difference[i, j] ** 2 for i in range(4) for j in range(4)) / 2
    assert loss == pytest.approx(by_hand, rel=1e-12)
    assert [s.shape for s in slopes] == [(4, 4)] * 3
    assert problem.loss_and_grad([np.eye(4), target, np.eye(4)])[0] == pytest.approx(problem.optimum, abs=1e-25)


def test_deep_quadratic_is_harder_with_its_condition():
    """The same descent gets less far where the conditioning is worse; with one matrix it is a quadratic."""
    ends = [
        descend.fit(problems.load(f"deep-quadratic:condition={c}"), descend.GD(lr=0.3), steps=300).fun
        / descend.fit(problems.load(f"deep-quadratic:condition={c}"), descend.GD(lr=0.3), steps=0).fun
        for c in (1, 100)
    ]
    assert ends[0] < ends[1] / 10
    flat = problems.load("deep-quadratic:depth=1,condition=2")
    assert descend.fit(flat, descend.GD(lr=0.5), steps=300).fun < 1e-20
