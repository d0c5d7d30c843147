"""RMSprop and Adadelta: Adagrad that forgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from descend.rules.hyperparameters import hyper
from descend.rules.maths import clip, share, sqrt, where
from descend.rules.rule import Rule

__all__ = ["Adadelta", "RMSprop"]


class RMSprop(Rule):
    """RMSprop: steps scaled by a running root mean square of the gradient.

    Formula
    -------
    ::

        v ← alpha · v + (1 − alpha) · g²
        a ← alpha · a + (1 − alpha) · g         (a = 0 unless centered)
        d ← g / (√(v − a²) + eps)
        b ← momentum · b + d                    (b = d without momentum)
        p ← p − lr · b

    where v is ``square_avg``, a is ``grad_avg`` and b is ``momentum_buffer``.

    Notes
    -----
    Hinton's lecture has `centered` and `momentum` off. `eps` stands outside the root, as in PyTorch; TensorFlow
    puts it inside, so the same `eps` acts differently there.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.RMSprop(lr=0.05), max_steps=400)
    >>> round(result.x, 6)
    3.0
    """

    lr: float = hyper(default=1e-2, doc="learning rate: about the length of a step of each parameter", at_least=0)
    alpha: float = hyper(default=0.99, doc="share of the running averages that is kept", at_least=0, below=1)
    eps: float = hyper(default=1e-8, doc="added to the root against division by zero", at_least=0)
    momentum: float = hyper(default=0.0, doc="share of the last velocity that is kept", at_least=0)
    centered: bool = hyper(default=False, doc="divide by the standard deviation instead of the root mean square")

    paper: ClassVar[str] = (
        "Tieleman & Hinton 2012, Coursera lecture 6.5; centered: Graves 2013, eqs. 38-45 (arxiv.org/abs/1308.0850)"
    )
    state_if: ClassVar[Mapping[str, str]] = {"momentum_buffer": "momentum", "grad_avg": "centered"}

    def scalars(self, t: int) -> Mapping[str, float]:
        return {"one_minus_alpha": 1.0 - self.alpha, "unbounded": math.inf}

    def constant_from(self) -> float:
        return 1.0

    @staticmethod
    def update(p: Any, g: Any, square_avg: Any, momentum_buffer: Any, grad_avg: Any, s: Any) -> Any:
        square_avg = share(s.alpha, square_avg) + s.one_minus_alpha * g * g
        variance = square_avg
        if grad_avg is not None:
            grad_avg = s.alpha * grad_avg + s.one_minus_alpha * g
            # With a steady gradient the two agree to the last digit, and rounding may leave less than zero.
            variance = clip(square_avg - grad_avg * grad_avg, 0.0, s.unbounded)
            # Both squares may be infinite, which have no difference.
            variance = where(square_avg < s.unbounded, variance, square_avg)
        direction = g / (sqrt(variance) + s.eps)
        if momentum_buffer is not None:
            momentum_buffer = s.momentum * momentum_buffer + direction
            direction = momentum_buffer
        return p - s.lr * direction, square_avg, momentum_buffer, grad_avg


class Adadelta(Rule):
    """Adadelta: steps in the ratio of two root mean squares, of the steps and of the gradient.

    Formula
    -------
    ::

        v ← rho · v + (1 − rho) · g²
        d ← √(a + eps) / √(v + eps) · g
        a ← rho · a + (1 − rho) · d²
        p ← p − lr · d

    where v is ``square_avg`` and a is ``acc_delta``.

    Notes
    -----
    The paper has no learning rate: it is 1 there, as by default here. a averages the steps before `lr`. The first steps
    are short, about √eps, and grow.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.Adadelta(lr=10.0), max_steps=300)
    >>> round(result.x, 2)
    3.0
    """

    lr: float = hyper(default=1.0, doc="learning rate: scales the steps that the rule finds by itself", at_least=0)
    rho: float = hyper(default=0.9, doc="share of the running averages that is kept", at_least=0, below=1)
    eps: float = hyper(default=1e-6, doc="added inside both roots: starts the steps, and bounds them", at_least=0)

    paper: ClassVar[str] = "Zeiler 2012, algorithm 1 (arxiv.org/abs/1212.5701)"

    def scalars(self, t: int) -> Mapping[str, float]:
        return {"one_minus_rho": 1.0 - self.rho}

    def constant_from(self) -> float:
        return 1.0

    @staticmethod
    def update(p: Any, g: Any, square_avg: Any, acc_delta: Any, s: Any) -> Any:
        square_avg = share(s.rho, square_avg) + s.one_minus_rho * g * g
        delta = sqrt(acc_delta + s.eps) / sqrt(square_avg + s.eps) * g
        acc_delta = share(s.rho, acc_delta) + s.one_minus_rho * delta * delta
        return p - s.lr * delta, square_avg, acc_delta
