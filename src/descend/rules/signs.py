"""Rprop and Lion: the sign of the gradient, or of a momentum, gives the direction; its size does not matter."""

from __future__ import annotations

from typing import Any, ClassVar

from descend.errors import RuleError
from descend.rules.hyperparameters import hyper
from descend.rules.maths import clip, sign, where
from descend.rules.rule import Rule

__all__ = ["Lion", "Rprop"]


class Rprop(Rule):
    """Rprop: each parameter has a step of its own, longer while the gradient keeps its sign, shorter when it turns.

    Formula
    -------
    ::

        Δ ← clip(η⁺ · Δ, min, max)             where g · prev > 0
        Δ ← clip(η⁻ · Δ, min, max), g ← 0      where g · prev < 0
        p ← p − Δ · sign(g)
        prev ← g

    where Δ is ``step_size``, which starts at lr; ``etas`` is (η⁻, η⁺) and ``step_sizes`` is (min, max).

    Notes
    -----
    For full batches: the sign of a gradient that is noise turns often. As in PyTorch, a parameter whose gradient turns
    rests for one step; in the paper it takes its last step back. `lr` counts at the first step only.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.Rprop(), max_steps=60)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-2, doc="learning rate: the length of the first step of each parameter", at_least=0)
    etas: tuple[float, float] = hyper(
        default=(0.5, 1.2), doc="factors of the step when the sign turns, below 1, and when it stays, above 1", above=0
    )
    step_sizes: tuple[float, float] = hyper(default=(1e-6, 50.0), doc="shortest and longest step", at_least=0)

    paper: ClassVar[str] = (
        "Riedmiller & Braun 1993, eqs. 4-7 (doi:10.1109/ICNN.1993.298623); the rest after a turn: iRprop⁻ of Igel & "
        "Hüsken 2003, Neurocomputing 50, 105-123 (doi:10.1016/S0925-2312(01)00700-7)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        minus, plus = self.etas
        if (not callable(minus) and minus >= 1.0) or (not callable(plus) and plus <= 1.0):
            raise RuleError(
                f"{type(self).__name__}(etas={self.etas!r}): the first must be < 1 and the second > 1; try (0.5, 1.2)"
            )

    def initial(self, state: str) -> float:
        return self.at(1).lr if state == "step_size" else 0.0

    @staticmethod
    def update(p: Any, g: Any, prev: Any, step_size: Any, s: Any) -> Any:
        # The signs are multiplied: the product of two small gradients would vanish in float32.
        agreement = sign(g) * sign(prev)
        longer_or_same = where(agreement > 0, s.eta2 * step_size, step_size)
        step_size = clip(where(agreement < 0, s.eta1 * step_size, longer_or_same), s.step_size1, s.step_size2)
        g = where(agreement < 0, 0.0, g)
        return p - sign(g) * step_size, g, step_size


class Lion(Rule):
    """Lion: every parameter moves by lr, in the direction of the sign of a momentum.

    Formula
    -------
    ::

        p ← p − lr · sign(β₁ · m + (1 − β₁) · g)
        m ← β₂ · m + (1 − β₂) · g

    where m is ``exp_avg``.

    Notes
    -----
    Steps do not get shorter by themselves: `lr` wants to be smaller than Adam's, and a schedule. Weight decay is
    decoupled unless asked otherwise, as in the paper.

    Examples
    --------
    >>> import descend
    >>> descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                  method=descend.Lion(lr=0.25), max_steps=4).x
    1.0
    """

    lr: float = hyper(default=1e-4, doc="learning rate: the length of a step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.99), doc="shares of the average kept for the direction, and in the state", at_least=0, below=1
    )
    decoupled_weight_decay: bool = hyper(
        default=True, doc="shrink p by 1 − lr · weight_decay, as in the paper", kw_only=True
    )

    paper: ClassVar[str] = "Chen et al. 2023, algorithm 2 (arxiv.org/abs/2302.06675)"

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, s: Any) -> Any:
        p = p - s.lr * sign(s.beta1 * exp_avg + s.one_minus_beta1 * g)
        return p, s.beta2 * exp_avg + s.one_minus_beta2 * g
