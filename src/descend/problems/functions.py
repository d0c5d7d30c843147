"""Functions with known minima, to see a rule at work. Points may have a leading axis of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from descend.parameters.memory import Array
from descend.problems.problem import Problem, setting

__all__ = ["beale", "booth", "deep_quadratic", "himmelblau", "quadratic", "rosenbrock", "saddle"]


def quadratic(condition: float = 100.0, dimension: int = 10) -> Problem:
    """½ Σ λᵢ xᵢ² with λ spread evenly on a log scale from 1 to `condition`, the axes rotated; minimum 0 at 0."""
    condition = setting("quadratic", "condition", condition, least=1, try_="100")
    n = int(setting("quadratic", "dimension", dimension, least=1, most=10_000, whole=True, try_="10"))
    eigenvalues = np.geomspace(1.0, condition, n) if n > 1 else np.array([condition])
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    hessian = (axes * eigenvalues) @ axes.T

    def loss_and_grad(x: Array) -> tuple[Any, Array]:
        slope = (hessian @ x[..., None])[..., 0]
        return 0.5 * np.vecdot(x, slope), slope

    return Problem(
        name="quadratic",
        summary=f"a bowl of condition number {condition:g} in {n} dimensions",
        start=lambda rng: rng.normal(size=n),
        loss_and_grad=loss_and_grad,
        optimum=0.0,
        stacks=True,
    )


def deep_quadratic(condition: float = 100.0, dimension: int = 8, depth: int = 3) -> Problem:
    """½ Σ λⱼ ‖(W_L … W₁ − A)ⱼ‖²: a product of `depth` matrices fits one; λ as in quadratic, minimum 0."""
    condition = setting("deep-quadratic", "condition", condition, least=1, try_="100")
    n = int(setting("deep-quadratic", "dimension", dimension, least=1, most=1_000, whole=True, try_="8"))
    layers = int(setting("deep-quadratic", "depth", depth, least=1, most=100, whole=True, try_="3"))
    weights = np.geomspace(1.0, condition, n) / condition if n > 1 else np.ones(1)
    target, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))

    def loss_and_grad(matrices: list[Array]) -> tuple[Any, list[Array]]:
        before = [np.eye(n)]  # what is right of each matrix
        for matrix in matrices:
            before.append(matrix @ before[-1])
        residual = before[-1] - target
        back = residual * weights
        loss = 0.5 * (back * residual).reshape(*residual.shape[:-2], -1).sum(axis=-1)
        slopes = []
        for matrix, right in zip(reversed(matrices), reversed(before[:-1]), strict=True):
            slopes.append(back @ right.mT)
            back = matrix.mT @ back
        return loss, slopes[::-1]

    return Problem(
        name="deep-quadratic",
        summary=f"a product of {layers} {n} × {n} matrices fits one, with condition number {condition:g}",
        start=lambda rng: [rng.normal(size=(n, n)) / np.sqrt(n) for _ in range(layers)],
        loss_and_grad=loss_and_grad,
        optimum=0.0,
        stacks=True,
    )


def rosenbrock() -> Problem:
    """(1 − x)² + 100 (y − x²)²: a curved, flat valley; minimum 0 at (1, 1)."""

    def loss_and_grad(p: Array) -> tuple[Any, Array]:
        x, y = p.T
        a, b = 1.0 - x, y - x * x
        return a * a + 100.0 * b * b, np.array([-2.0 * a - 400.0 * x * b, 200.0 * b]).T

    return _function("rosenbrock", rosenbrock, loss_and_grad, ((-2.0, 2.0), (-1.0, 3.0)))


def beale() -> Problem:
    """(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²: plateaus and steep walls; minimum 0 at (3, 0.5)."""

    def loss_and_grad(p: Array) -> tuple[Any, Array]:
        x, y = p.T
        a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
        dx = 2.0 * (a * (y - 1.0) + b * (y**2 - 1.0) + c * (y**3 - 1.0))
        dy = 2.0 * x * (a + 2.0 * b * y + 3.0 * c * y**2)
        return a * a + b * b + c * c, np.array([dx, dy]).T

    return _function("beale", beale, loss_and_grad, ((0.0, 4.0), (-1.0, 1.5)))


def himmelblau() -> Problem:
    """(x² + y − 11)² + (x + y² − 7)²: four minima of value 0, one of them at (3, 2)."""

    def loss_and_grad(p: Array) -> tuple[Any, Array]:
        x, y = p.T
        a, b = x * x + y - 11.0, x + y * y - 7.0
        return a * a + b * b, np.array([4.0 * x * a + 2.0 * b, 2.0 * a + 4.0 * y * b]).T

    return _function("himmelblau", himmelblau, loss_and_grad, ((-5.0, 5.0), (-5.0, 5.0)))


def booth() -> Problem:
    """(x + 2y − 7)² + (2x + y − 5)²: a gentle bowl; minimum 0 at (1, 3)."""

    def loss_and_grad(p: Array) -> tuple[Any, Array]:
        x, y = p.T
        a, b = x + 2.0 * y - 7.0, 2.0 * x + y - 5.0
        return a * a + b * b, np.array([2.0 * a + 4.0 * b, 4.0 * a + 2.0 * b]).T

    return _function("booth", booth, loss_and_grad, ((-5.0, 5.0), (-5.0, 5.0)))


def saddle() -> Problem:
    """½ x² + ¼ y⁴ − ½ y²: a saddle at (0, 0), minima −¼ at (0, ±1); starts close to the saddle's ridge."""

    def loss_and_grad(p: Array) -> tuple[Any, Array]:
        x, y = p.T
        return 0.5 * x * x + 0.25 * y**4 - 0.5 * y * y, np.array([x, y**3 - y]).T

    return _function("saddle", saddle, loss_and_grad, ((-2.0, 2.0), (-0.01, 0.01)), optimum=-0.25)


def _function(
    name: str,
    described_by: Callable[[], Problem],
    loss_and_grad: Callable[[Array], tuple[Any, Array]],
    box: tuple[tuple[float, float], tuple[float, float]],
    optimum: float = 0.0,
) -> Problem:
    """A function of two variables that starts uniformly in a box."""
    low, high = np.array(box).T

    def start(rng: np.random.Generator) -> Any:
        return rng.uniform(low, high)

    summary = (described_by.__doc__ or "").splitlines()[0].rstrip(".")
    return Problem(name=name, summary=summary, start=start, loss_and_grad=loss_and_grad, optimum=optimum, stacks=True)
