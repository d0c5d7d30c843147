"""AdEMAMix and Adan: Adam with more than one momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from descend.rules.adam import correct_from
from descend.rules.hyperparameters import hyper
from descend.rules.maths import root, share, sqrt
from descend.rules.rule import Rule

__all__ = ["AdEMAMix", "Adan"]


class AdEMAMix(Rule):
    """AdEMAMix: Adam with a second, slow momentum, in which gradients last for thousands of steps.

    Formula
    -------
    ::

        m₁ ← β₁ · m₁ + (1 − β₁) · g
        m₂ ← β₃ₜ · m₂ + (1 − β₃ₜ) · g
        v  ← β₂ · v + (1 − β₂) · g²
        p  ← p − lr · (m₁ / (1 − β₁ᵗ) + αₜ · m₂) / (√v / √(1 − β₂ᵗ) + eps)

    where m₁ is ``exp_avg_fast``, m₂ is ``exp_avg_slow``, v is ``exp_avg_sq`` and t counts steps from 1. With a warm-up
    of T steps, αₜ = min(α · t / T, α), and β₃ₜ goes from β₁ to β₃ so that 1 / ln β₃ₜ is linear in t; it is never more
    than β₃.

    Notes
    -----
    The warm-ups are the paper's T_α and T_β₃, named as in the authors' code. The paper uses both, as long as the whole
    descent. The default of `alpha` is that of Optax and pytorch_optimizer, in the range of 4 to 10 that the paper
    advises; it is 2 in the authors' code. Weight decay is decoupled unless asked otherwise, as in the paper.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.AdEMAMix(lr=0.02, betas=(0.9, 0.999, 0.99)), max_steps=1000)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-3, doc="learning rate: about the length of a step of Adam's part", at_least=0)
    betas: tuple[float, float, float] = hyper(
        default=(0.9, 0.999, 0.9999),
        doc="shares of the fast average of g, the average of g², and the slow average of g that are kept",
        at_least=0,
        below=1,
    )
    alpha: float = hyper(default=5.0, doc="weight of the slow average", at_least=0)
    alpha_warmup: float = hyper(default=0.0, doc="steps over which alpha grows from 0; 0: none", at_least=0)
    beta3_warmup: float = hyper(default=0.0, doc="steps over which β₃ grows from β₁; 0: none", at_least=0)
    eps: float = hyper(default=1e-8, doc="added to the root against division by zero", at_least=0)
    decoupled_weight_decay: bool = hyper(
        default=True, doc="shrink p by 1 − lr · weight_decay, as in the paper", kw_only=True
    )

    paper: ClassVar[str] = "Pagliardini, Ablin & Grangier 2024, algorithm 1 (arxiv.org/abs/2409.03137)"

    def scalars(self, t: int) -> Mapping[str, float]:
        beta1, beta2, beta3 = self.betas
        slow = min(_between(beta1, beta3, t / self.beta3_warmup), beta3) if t < self.beta3_warmup else beta3
        return {
            "slow": slow,
            "one_minus_slow": 1.0 - slow,
            "fast_step_size": self.lr / (1.0 - beta1**t),
            "slow_step_size": self.lr * self.alpha * (t / self.alpha_warmup if t < self.alpha_warmup else 1.0),
            "root_correction2": root(1.0 - beta2**t),
        }

    def constant_from(self) -> float:
        return max(correct_from(*self.betas[:2]), self.alpha_warmup, self.beta3_warmup)

    @staticmethod
    def update(p: Any, g: Any, exp_avg_fast: Any, exp_avg_slow: Any, exp_avg_sq: Any, s: Any) -> Any:
        exp_avg_fast = s.beta1 * exp_avg_fast + s.one_minus_beta1 * g
        exp_avg_slow = s.slow * exp_avg_slow + s.one_minus_slow * g
        exp_avg_sq = share(s.beta2, exp_avg_sq) + s.one_minus_beta2 * g * g
        mixed = s.fast_step_size * exp_avg_fast + s.slow_step_size * exp_avg_slow
        return p - mixed / (sqrt(exp_avg_sq) / s.root_correction2 + s.eps), exp_avg_fast, exp_avg_slow, exp_avg_sq


def _between(start: float, end: float, share: float) -> float:
    """The number a share of the way from `start` to `end`, both in [0, 1), on the scale of 1 / ln."""
    inverse = (1.0 - share) * _inverse_log(start) + share * _inverse_log(end)
    return math.exp(1.0 / inverse) if inverse else 0.0


def _inverse_log(x: float) -> float:
    return 1.0 / math.log(x) if x else 0.0


class Adan(Rule):
    """Adan: Adam with a momentum of the gradient and one of its change, which looks ahead as Nesterov's does.

    Formula
    -------
    ::

        d ← g − g of the step before     (0 at the first step)
        m ← β₁ · m + (1 − β₁) · g
        v ← β₂ · v + (1 − β₂) · d
        n ← β₃ · n + (1 − β₃) · (g + β₂ · d)²
        p ← p − lr · (m / (1 − β₁ᵗ) + β₂ · v / (1 − β₂ᵗ)) / (√n / √(1 − β₃ᵗ) + eps)

    where m is ``exp_avg``, v is ``exp_avg_diff``, n is ``exp_avg_sq``, ``neg_pre_grad`` is −g of the step before and t
    counts steps from 1.

    Notes
    -----
    `betas` are the shares that are kept, as in the authors' code; the paper writes β for 1 − β. The code's bias
    corrections are not in the algorithm. Weight decay is decoupled unless asked otherwise: p shrinks before the step,
    which is the code's `no_prox`; by default there, as in the paper, p is divided by 1 + lr · weight_decay after it.
    Optax weighs d by 1 − β₂ where paper and code have β₂.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.Adan(lr=0.1), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-3, doc="learning rate: about the length of a step of each parameter", at_least=0)
    betas: tuple[float, float, float] = hyper(
        default=(0.98, 0.92, 0.99),
        doc="shares of the averages of g, of its change, and of the square of both that are kept",
        at_least=0,
        below=1,
    )
    eps: float = hyper(default=1e-8, doc="added to the root against division by zero", at_least=0)
    decoupled_weight_decay: bool = hyper(
        default=True, doc="shrink p by 1 − lr · weight_decay, in place of the paper's proximal step", kw_only=True
    )

    paper: ClassVar[str] = "Xie et al. 2022, algorithm 1 (arxiv.org/abs/2208.06677)"
    first_step: ClassVar[Mapping[str, tuple[str, ...]]] = {"neg_pre_grad": ("changes",)}

    def scalars(self, t: int) -> Mapping[str, float]:
        beta1, beta2, beta3 = self.betas
        return {
            "changes": 0.0 if t == 1 else 1.0,
            "step_size": self.lr / (1.0 - beta1**t),
            "diff_step_size": self.lr * beta2 / (1.0 - beta2**t),
            "root_correction3": root(1.0 - beta3**t),
        }

    def constant_from(self) -> float:
        return max(2.0, correct_from(*self.betas))

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, exp_avg_diff: Any, neg_pre_grad: Any, s: Any) -> Any:
        diff = share(s.changes, g + neg_pre_grad)
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        exp_avg_diff = share(s.beta2, exp_avg_diff) + s.one_minus_beta2 * diff
        ahead = g + share(s.beta2, diff)
        exp_avg_sq = share(s.beta3, exp_avg_sq) + s.one_minus_beta3 * ahead * ahead
        moved = s.step_size * exp_avg + share(s.diff_step_size, exp_avg_diff)
        p = p - moved / (sqrt(exp_avg_sq) / s.root_correction3 + s.eps)
        return p, exp_avg, exp_avg_sq, exp_avg_diff, -g
