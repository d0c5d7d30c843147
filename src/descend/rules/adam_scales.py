"""AdaBelief, Yogi and ADOPT: Adam with another scale of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from descend.rules.adam import correct_from, corrected
from descend.rules.hyperparameters import hyper
from descend.rules.maths import clip, power, share, sign, sqrt, where
from descend.rules.rule import Rule

__all__ = ["ADOPT", "AdaBelief", "Yogi"]


class AdaBelief(Rule):
    """AdaBelief: Adam scaled by how far gradients fall from their average, not by their size.

    Formula
    -------
    ::

        m ← β₁ · m + (1 − β₁) · g
        s ← β₂ · s + (1 − β₂) · (g − m)² + eps
        p ← p − lr / (1 − β₁ᵗ) · m / (√s / √(1 − β₂ᵗ) + eps)

    where m is ``exp_avg``, s is ``exp_avg_var`` and t counts steps from 1.

    Notes
    -----
    `eps` stands in both places, as in the paper, and accumulates in s. Its default is that of the authors' code;
    the paper's experiments have 1e-8 for most problems. The code's options `rectify`, which is RAdam's and on by
    default there, and `amsgrad` are not in the algorithm and not here. Weight decay is decoupled unless asked
    otherwise, as in the code.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.AdaBelief(lr=0.1), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-3, doc="learning rate: scales the step", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.999), doc="shares of the averages of g and of (g − m)² that are kept", at_least=0, below=1
    )
    eps: float = hyper(default=1e-16, doc="added to s at each step, and to its root", at_least=0)
    decoupled_weight_decay: bool = hyper(
        default=True, doc="shrink p by 1 − lr · weight_decay, as in the authors' code", kw_only=True
    )

    paper: ClassVar[str] = "Zhuang et al. 2020, algorithm 2 (arxiv.org/abs/2010.07468)"

    def scalars(self, t: int) -> Mapping[str, float]:
        return corrected(self.lr, self.betas, t)

    def constant_from(self) -> float:
        return correct_from(*self.betas)

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_var: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        surprise = g - exp_avg
        exp_avg_var = share(s.beta2, exp_avg_var) + s.one_minus_beta2 * surprise * surprise + s.eps
        p = p - s.step_size * exp_avg / (sqrt(exp_avg_var) / s.root_correction2 + s.eps)
        return p, exp_avg, exp_avg_var


class Yogi(Rule):
    """Yogi: Adam whose scale changes by a share of g², up or down, however large it is.

    Formula
    -------
    ::

        m ← β₁ · m + (1 − β₁) · g
        v ← v − (1 − β₂) · sign(v − g²) · g²
        p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)

    where m is ``exp_avg``, v is ``exp_avg_sq``, which starts at `initial_accumulator_value`, and t counts steps from 1.

    Notes
    -----
    The paper has no bias correction; as in TensorFlow Addons, Optax and the common PyTorch ports it is there. Optax and
    these ports let m, too, start at `initial_accumulator_value`; here, as in the paper, it starts at zero.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.Yogi(lr=0.1), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-2, doc="learning rate: about the length of a step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.999),
        doc="share of the average of g that is kept, and 1 − that of g² added to v",
        at_least=0,
        below=1,
    )
    eps: float = hyper(default=1e-3, doc="added to the root: bounds the steps", at_least=0)
    initial_accumulator_value: float = hyper(default=1e-6, doc="what the scale v starts from", at_least=0)

    paper: ClassVar[str] = (
        "Zaheer et al. 2018, algorithm 2 "
        "(papers.nips.cc/paper/2018/hash/90365351ccc7437a1309dc64e4db32a3-Abstract.html)"
    )

    def initial(self, state: str) -> float:
        return self.at(1).initial_accumulator_value if state == "exp_avg_sq" else 0.0

    def scalars(self, t: int) -> Mapping[str, float]:
        return corrected(self.lr, self.betas, t)

    def constant_from(self) -> float:
        return correct_from(*self.betas)

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        square = g * g
        changed = exp_avg_sq - s.one_minus_beta2 * sign(exp_avg_sq - square) * square
        exp_avg_sq = where(exp_avg_sq == square, exp_avg_sq, changed)  # both may be infinite, which have no difference
        p = p - s.step_size * exp_avg / (sqrt(exp_avg_sq) / s.root_correction2 + s.eps)
        return p, exp_avg, exp_avg_sq


class ADOPT(Rule):
    """ADOPT: the gradient is scaled by the squares before it, then averaged, so that any β₂ converges.

    Formula
    -------
    ::

        at step 1: v ← g², and p stays
        later:     m ← β₁ · m + (1 − β₁) · clip(g / max(√v, eps), −c, c)
                   p ← p − lr · m
                   v ← β₂ · v + (1 − β₂) · g²

    where m is ``exp_avg``, v is ``exp_avg_sq``, c = (t − 1)^`clip_exponent` and t counts steps from 1. Without
    `use_clipping` c is infinite.

    Notes
    -----
    The clipping is that of the paper's later version and of the authors' code, whose `clip_lambda` is a function of
    the step; here its exponent is a number. The first version had none, and m started at g / max(√v, eps) instead of
    zero. Decoupled weight decay shrinks p at step 1, too; in the authors' code it starts at step 2.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.ADOPT(lr=0.1, betas=(0.9, 0.99)), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-3, doc="learning rate: about the length of a step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.9999), doc="shares of the averages of the scaled g and of g² that are kept", at_least=0, below=1
    )
    eps: float = hyper(default=1e-6, doc="the least that a gradient is divided by", above=0)
    use_clipping: bool = hyper(default=True, doc="bound the scaled gradient")
    clip_exponent: float = hyper(default=0.25, doc="the bound is the number of steps before to this power", at_least=0)

    paper: ClassVar[str] = "Taniguchi et al. 2024, algorithm 2, clipped (arxiv.org/abs/2411.02853)"
    first_step: ClassVar[Mapping[str, tuple[str, ...]]] = {"exp_avg_sq": ("first",)}

    def scalars(self, t: int) -> Mapping[str, float]:
        return {
            "first": 1.0 if t == 1 else 0.0,
            "bound": power(t - 1.0, self.clip_exponent) if self.use_clipping else math.inf,
            "unbounded": math.inf,
        }

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, s: Any) -> Any:
        square = g * g
        exp_avg_sq = where(s.first > 0, square, exp_avg_sq)
        scaled = clip(g / clip(sqrt(exp_avg_sq), s.eps, s.unbounded), -s.bound, s.bound)
        exp_avg = where(s.first > 0, exp_avg, s.beta1 * exp_avg + s.one_minus_beta1 * scaled)
        later = share(s.beta2, exp_avg_sq) + s.one_minus_beta2 * square
        return p - s.lr * exp_avg, exp_avg, where(s.first > 0, exp_avg_sq, later)
