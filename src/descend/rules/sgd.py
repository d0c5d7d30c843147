"""Gradient descent and momentum: one body, and the names under which it is known; and averaged SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from descend.errors import RuleError
from descend.rules.hyperparameters import hyper
from descend.rules.maths import power, where
from descend.rules.rule import Rule

__all__ = ["ASGD", "GD", "SGD", "Momentum", "Nesterov"]


class SGD(Rule):
    """(Stochastic) gradient descent, with optional momentum.

    Formula
    -------
    ::

        b ← momentum · b + (1 − dampening) · g     (b = g at its first step)
        g ← g + momentum · b  if nesterov  else  b
        p ← p − lr · g

    where b is ``momentum_buffer``. Without momentum the first two lines fall away and no state is kept. Whether it is
    batch, stochastic or mini-batch gradient descent is decided by the gradient it is given, not by the rule.

    Notes
    -----
    As in PyTorch, the learning rate multiplies the whole velocity, so that a changed `lr` acts at once; in
    Sutskever et al. it is folded into the velocity. Nesterov's look-ahead is written at the looked-ahead point.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.SGD(lr=0.1, momentum=0.5), max_steps=50)
    >>> round(result.x, 6)
    3.0
    """

    lr: float = hyper(default=1e-3, doc="learning rate: the step is lr times the (averaged) gradient", at_least=0)
    momentum: float = hyper(default=0.0, doc="share of the last velocity that is kept", at_least=0)
    dampening: float = hyper(default=0.0, doc="share of the gradient that is left out of the velocity")
    nesterov: bool = hyper(default=False, doc="look ahead along the velocity; needs momentum and no dampening")

    paper: ClassVar[str] = (
        "Robbins & Monro 1951, eq. 8 (doi:10.1214/aoms/1177729586); momentum: Polyak 1964, eq. 9; "
        "Sutskever et al. 2013, eqs. 1-4 (proceedings.mlr.press/v28/sutskever13.html)"
    )
    state_if: ClassVar[Mapping[str, str]] = {"momentum_buffer": "momentum"}
    first_step: ClassVar[Mapping[str, tuple[str, ...]]] = {"momentum_buffer": ("inflow",)}
    sparse_safe: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (not self.momentum or self.dampening != 0.0):
            raise RuleError(
                f"{type(self).__name__}(nesterov=True, momentum={self.momentum!r}, dampening={self.dampening!r}): "
                "nesterov needs momentum > 0 and dampening = 0; try momentum=0.9, dampening=0.0"
            )

    def scalars(self, t: int) -> Mapping[str, float]:
        return {"inflow": 1.0 if self.dampening == 0.0 or t == 1 else 1.0 - self.dampening}

    def constant_from(self) -> float:
        return 2.0

    @staticmethod
    def update(p: Any, g: Any, momentum_buffer: Any, s: Any) -> Any:
        if momentum_buffer is not None:
            momentum_buffer = s.momentum * momentum_buffer + s.inflow * g
            g = g + s.momentum * momentum_buffer if s.nesterov else momentum_buffer
        return p - s.lr * g, momentum_buffer


class GD(SGD):
    """Plain gradient descent: `SGD` with no momentum and a larger default step.

    Formula
    -------
    ::

        p ← p − lr · g

    Examples
    --------
    >>> import descend
    >>> descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                  method=descend.GD(lr=0.1), max_steps=100).x
    2.9999999993888893
    """

    lr: float = hyper(default=1e-2, doc="learning rate: the step is lr times the gradient", at_least=0)

    paper: ClassVar[str] = "Cauchy 1847, Comptes rendus 25, 536-538"


class Momentum(SGD):
    """Heavy-ball momentum: `SGD` with ``momentum=0.9``.

    Formula
    -------
    ::

        b ← momentum · b + g     (b = g at the first step)
        p ← p − lr · b

    Examples
    --------
    >>> import descend
    >>> descend.Momentum().momentum
    0.9
    """

    lr: float = hyper(default=1e-2, doc="learning rate: the step is lr times the velocity", at_least=0)
    momentum: float = hyper(default=0.9, doc="share of the last velocity that is kept", at_least=0)

    paper: ClassVar[str] = "Polyak 1964, eq. 9 (doi:10.1016/0041-5553(64)90137-5)"


class Nesterov(SGD):
    """Nesterov's accelerated gradient with constant momentum: `SGD` with ``momentum=0.9, nesterov=True``.

    Formula
    -------
    ::

        b ← momentum · b + g     (b = g at the first step)
        p ← p − lr · (g + momentum · b)

    Examples
    --------
    >>> import descend
    >>> descend.Nesterov().nesterov
    True
    """

    lr: float = hyper(default=1e-2, doc="learning rate: the step is lr times the looked-ahead velocity", at_least=0)
    momentum: float = hyper(default=0.9, doc="share of the last velocity that is kept", at_least=0)
    nesterov: bool = hyper(default=True, doc="look ahead along the velocity; needs momentum and no dampening")

    paper: ClassVar[str] = (
        "Nesterov 1983, Soviet Math. Dokl. 27, 372-376; as in Sutskever et al. 2013, eqs. 3-4 "
        "(proceedings.mlr.press/v28/sutskever13.html)"
    )


class ASGD(Rule):
    """Averaged SGD: gradient descent with a shrinking step, and the average of the points beside it.

    Formula
    -------
    ::

        p  ← (1 − lambd · η) · p − η · g
        ax ← ax + μ · (p − ax)
        η  ← lr / (1 + lambd · lr · t)^alpha     (lr at the first step)
        μ  ← 1 / max(1, t − t0)                  (1 at the first step)

    where η and μ, the last two lines, are for the next step. ax is p itself until step t0 + 2, and the mean of the
    points from then on.

    Notes
    -----
    The result of a descent is p; the average is in the state ``ax``. As in PyTorch, `lambd` is a weight decay that
    shares the shrinking step, η and μ are those that the last step left, and `t0` is so large by default that nothing
    is averaged in a short descent. With `cautious`, ax averages the points before the mask. Polyak & Juditsky average
    from the first step on, and have no decay.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.ASGD(lr=0.1, lambd=0.0), max_steps=100)
    >>> round(result.x, 6)
    3.0
    """

    lr: float = hyper(default=1e-2, doc="learning rate: the first step is lr times the gradient", at_least=0)
    lambd: float = hyper(default=1e-4, doc="weight decay, and how fast the step shrinks", at_least=0)
    alpha: float = hyper(default=0.75, doc="power with which the step shrinks", at_least=0)
    t0: float = hyper(default=1e6, doc="steps before the average starts", at_least=0)

    paper: ClassVar[str] = (
        "Polyak & Juditsky 1992, SIAM J. Control Optim. 30, 838-855, eq. 2 (doi:10.1137/0330046); steps and decay: "
        "Xu 2011 (arxiv.org/abs/1107.2490)"
    )
    carried: ClassVar[Mapping[str, float]] = {"eta": 0.0, "mu": 1.0}

    def starting(self) -> Mapping[str, float]:
        return {"eta": self.at(1).lr, "mu": 1.0}

    def carry(self, t: int, before: Mapping[str, float]) -> tuple[Mapping[str, float], Mapping[str, float]]:
        eta, mu = before["eta"], before["mu"]
        scalars = {"eta": eta, "mu": mu, "one_minus_mu": 1.0 - mu, "shrinking": 1.0 - self.lambd * eta}
        return scalars, {
            "eta": self.lr / power(1.0 + self.lambd * self.lr * t, self.alpha),
            "mu": 1.0 / max(1.0, t - self.t0),
        }

    @staticmethod
    def update(p: Any, g: Any, ax: Any, s: Any) -> Any:
        p = s.shrinking * p - s.eta * g
        return p, where(s.mu < 1, s.one_minus_mu * ax + s.mu * p, p)
