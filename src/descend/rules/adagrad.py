"""Adagrad: each parameter's step shrinks with the sum of its squared gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from descend.rules.hyperparameters import hyper
from descend.rules.maths import sqrt
from descend.rules.rule import Rule

__all__ = ["Adagrad"]


class Adagrad(Rule):
    """Adagrad: steps scaled by the root of all squared gradients so far.

    Formula
    -------
    ::

        sum ← sum + g²
        p ← p − lr / (1 + (t − 1) · lr_decay) · g / (√sum + eps)

    Notes
    -----
    The paper has neither `lr_decay` nor `initial_accumulator_value`; at their defaults of zero this is its
    diagonal form. `eps` stands outside the root, as in PyTorch.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.Adagrad(lr=1.0), max_steps=200)
    >>> round(result.x, 6)
    3.0
    """

    lr: float = hyper(default=1e-2, doc="learning rate: length of the first step of each parameter", at_least=0)
    lr_decay: float = hyper(default=0.0, doc="the learning rate is divided by 1 + (t − 1) · lr_decay", at_least=0)
    initial_accumulator_value: float = hyper(default=0.0, doc="what the sum of squares starts from", at_least=0)
    eps: float = hyper(default=1e-10, doc="added to the root against division by zero", at_least=0)

    paper: ClassVar[str] = "Duchi, Hazan & Singer 2011, fig. 1, diagonal form (jmlr.org/papers/v12/duchi11a.html)"

    sparse_safe: ClassVar[bool] = True

    def initial(self, state: str) -> float:
        return self.at(1).initial_accumulator_value

    def scalars(self, t: int) -> Mapping[str, float]:
        return {"decayed_lr": self.lr / (1.0 + (t - 1) * self.lr_decay)}

    def constant_from(self) -> float:
        return math.inf if self.lr_decay else 1.0

    @staticmethod
    def update(p: Any, g: Any, sum: Any, s: Any) -> Any:
        sum = sum + g * g
        return p - s.decayed_lr * g / (sqrt(sum) + s.eps), sum
