"""Adam and its family: momentum and a running scale, both corrected for their start at zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from descend.rules.hyperparameters import hyper
from descend.rules.maths import absolute, maximum, root, share, sqrt, where
from descend.rules.rule import Rule

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


class Adam(Rule):
    """Adam: momentum, scaled by a running root mean square, both with bias correction.

    Formula
    -------
    ::

        m ← β₁ · m + (1 − β₁) · g
        v ← β₂ · v + (1 − β₂) · g²
        u ← max(u, v)  if amsgrad  else  v
        p ← p − lr / (1 − β₁ᵗ) · m / (√u / √(1 − β₂ᵗ) + eps)

    where m is ``exp_avg``, v is ``exp_avg_sq``, u is ``max_exp_avg_sq`` (kept only with `amsgrad`) and t counts
    steps from 1.

    Notes
    -----
    AMSGrad in Reddi et al. has no bias correction; as in PyTorch it is kept here.

    Examples
    --------
    >>> import descend
    >>> descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                  method=descend.Adam(lr=0.01), max_steps=100).x
    0.9375536000235248
    """

    lr: float = hyper(default=1e-3, doc="learning rate: about the length of a step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.999), doc="shares of the averages of g and of g² that are kept", at_least=0, below=1
    )
    eps: float = hyper(default=1e-8, doc="added to the root against division by zero", at_least=0)
    amsgrad: bool = hyper(default=False, doc="scale by the largest average of g² so far")

    paper: ClassVar[str] = (
        "Kingma & Ba 2015, algorithm 1 (arxiv.org/abs/1412.6980); amsgrad: Reddi, Kale & Kumar 2018, algorithm 2 "
        "(openreview.net/forum?id=ryQu7f-RZ)"
    )
    state_if: ClassVar[Mapping[str, str]] = {"max_exp_avg_sq": "amsgrad"}

    def scalars(self, t: int) -> Mapping[str, float]:
        return corrected(self.lr, self.betas, t)

    def constant_from(self) -> float:
        return correct_from(*self.betas)

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        exp_avg_sq = share(s.beta2, exp_avg_sq) + s.one_minus_beta2 * g * g
        scale = exp_avg_sq
        if max_exp_avg_sq is not None:
            max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
            scale = max_exp_avg_sq
        p = p - s.step_size * exp_avg / (sqrt(scale) / s.root_correction2 + s.eps)
        return p, exp_avg, exp_avg_sq, max_exp_avg_sq


def corrected(lr: float, betas: tuple[float, float], t: int) -> dict[str, float]:
    """The scalars by which Adam and its kin undo that both averages start at zero."""
    beta1, beta2 = betas
    return {"step_size": lr / (1.0 - beta1**t), "root_correction2": root(1.0 - beta2**t)}


def correct_from(*betas: float) -> float:
    """The step from which on 1 − βᵗ is 1 in float64, for each of these β: nothing is left to correct."""
    return max(1.0 + math.ceil(54.0 * math.log(2.0) / -math.log(beta)) if beta > 0.0 else 1.0 for beta in betas)


class AdamW(Adam):
    """Adam with decoupled weight decay: `Adam` with ``decoupled_weight_decay=True, weight_decay=1e-2``.

    Formula
    -------
    ::

        p ← p · (1 − lr · weight_decay)
        then Adam's step, with the gradient untouched by the decay

    Notes
    -----
    The paper's schedule multiplier η scales both the step and the decay; here, as in PyTorch, `lr` does.

    Examples
    --------
    >>> import descend
    >>> descend.AdamW().weight_decay
    0.01
    """

    weight_decay: float = hyper(
        default=1e-2, doc="p shrinks by 1 − lr · weight_decay at each step", at_least=0, kw_only=True
    )
    decoupled_weight_decay: bool = hyper(default=True, doc="what makes it AdamW", kw_only=True)

    paper: ClassVar[str] = "Loshchilov & Hutter 2019, algorithm 2 (arxiv.org/abs/1711.05101)"


class Adamax(Rule):
    """Adamax: Adam with a running maximum in place of the root mean square.

    Formula
    -------
    ::

        m ← β₁ · m + (1 − β₁) · g
        u ← max(β₂ · u, |g| + eps)
        p ← p − lr / (1 − β₁ᵗ) · m / u

    where m is ``exp_avg``, u is ``exp_inf`` and t counts steps from 1.

    Notes
    -----
    The paper has no `eps`; as in PyTorch it is added to the size of the gradient.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.Adamax(lr=0.1), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=2e-3, doc="learning rate: about the longest step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.999),
        doc="shares of the average of g and of the maximum of its size that are kept",
        at_least=0,
        below=1,
    )
    eps: float = hyper(default=1e-8, doc="added to the size of g against division by zero", at_least=0)

    paper: ClassVar[str] = "Kingma & Ba 2015, algorithm 2 (arxiv.org/abs/1412.6980)"

    def scalars(self, t: int) -> Mapping[str, float]:
        beta1, _ = self.betas
        return {"step_size": self.lr / (1.0 - beta1**t)}

    def constant_from(self) -> float:
        return correct_from(self.betas[0])

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_inf: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        exp_inf = maximum(s.beta2 * exp_inf, absolute(g) + s.eps)
        return p - s.step_size * exp_avg / exp_inf, exp_avg, exp_inf


class NAdam(Rule):
    """NAdam: Adam with Nesterov's look-ahead, and a momentum that grows.

    Formula
    -------
    ::

        μₜ ← β₁ · (1 − ½ · 0.96^(t · momentum_decay))
        m  ← β₁ · m + (1 − β₁) · g
        v  ← β₂ · v + (1 − β₂) · g²
        d  ← (1 − μₜ) / (1 − μ₁ ⋯ μₜ) · g + μₜ₊₁ / (1 − μ₁ ⋯ μₜ₊₁) · m
        p  ← p − lr · d / (√v / √(1 − β₂ᵗ) + eps)

    where m is ``exp_avg``, v is ``exp_avg_sq``, the product μ₁ ⋯ μₜ is ``mu_product`` and t counts steps from 1.

    Notes
    -----
    As in PyTorch, m is averaged with β₁; in the paper with μₜ. The paper multiplies the corrected v by β₂, which
    PyTorch leaves out.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.NAdam(lr=0.1), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=2e-3, doc="learning rate: about the length of a step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.999), doc="shares of the averages of g and of g² that are kept", at_least=0, below=1
    )
    eps: float = hyper(default=1e-8, doc="added to the root against division by zero", at_least=0)
    momentum_decay: float = hyper(
        default=4e-3, doc="how fast the momentum grows from β₁ / 2 to β₁; 0: it stays β₁ / 2", at_least=0
    )

    paper: ClassVar[str] = "Dozat 2016, algorithm 2 (openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ)"
    carried: ClassVar[Mapping[str, float]] = {"mu_product": 1.0}

    def carry(self, t: int, before: Mapping[str, float]) -> tuple[Mapping[str, float], Mapping[str, float]]:
        beta1, beta2 = self.betas
        mu, mu_next = (beta1 * (1.0 - 0.5 * 0.96 ** (k * self.momentum_decay)) for k in (t, t + 1))
        mu_product = before["mu_product"] * mu
        scalars = {
            "g_step_size": self.lr * (1.0 - mu) / (1.0 - mu_product),
            "m_step_size": self.lr * mu_next / (1.0 - mu_product * mu_next),
            "root_correction2": root(1.0 - beta2**t),
        }
        return scalars, {"mu_product": mu_product}

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        exp_avg_sq = share(s.beta2, exp_avg_sq) + s.one_minus_beta2 * g * g
        ahead = s.g_step_size * g + s.m_step_size * exp_avg
        return p - ahead / (sqrt(exp_avg_sq) / s.root_correction2 + s.eps), exp_avg, exp_avg_sq


class RAdam(Rule):
    """RAdam: Adam that scales its step only when enough gradients have been seen, and by how many.

    Formula
    -------
    ::

        m  ← β₁ · m + (1 − β₁) · g
        v  ← β₂ · v + (1 − β₂) · g²
        ρ∞ = 2 / (1 − β₂) − 1
        ρ  = ρ∞ − 2 · t · β₂ᵗ / (1 − β₂ᵗ)
        r  = √((ρ − 4) · (ρ − 2) · ρ∞ / ((ρ∞ − 4) · (ρ∞ − 2) · ρ))
        p  ← p − lr / (1 − β₁ᵗ) · m · r · √(1 − β₂ᵗ) / (√v + eps)  if ρ > 5
        p  ← p − lr / (1 − β₁ᵗ) · m                                otherwise

    where m is ``exp_avg``, v is ``exp_avg_sq`` and t counts steps from 1.

    Notes
    -----
    The paper scales from ρ > 4 on, and has no `eps`; as in PyTorch and the authors' code it is 5. `eps` is added before
    the correction of the root, so that it acts otherwise than in Adam. The steps before are those of momentum, `lr`
    times the gradient in size.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3),
    ...                           method=descend.RAdam(lr=0.1), max_steps=400)
    >>> round(result.x, 4)
    3.0
    """

    lr: float = hyper(default=1e-3, doc="learning rate: about the length of a step of each parameter", at_least=0)
    betas: tuple[float, float] = hyper(
        default=(0.9, 0.999), doc="shares of the averages of g and of g² that are kept", at_least=0, below=1
    )
    eps: float = hyper(default=1e-8, doc="added to the root against division by zero", at_least=0)

    paper: ClassVar[str] = "Liu et al. 2020, algorithm 2 (arxiv.org/abs/1908.03265)"

    def scalars(self, t: int) -> Mapping[str, float]:
        beta1, beta2 = self.betas
        step_size, correction2 = self.lr / (1.0 - beta1**t), 1.0 - beta2**t
        rho_inf = 2.0 / (1.0 - beta2) - 1.0
        rho = rho_inf - 2.0 * t * beta2**t / correction2
        scaled = rho > 5.0
        rectified = (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho) if scaled else 0.0
        return {
            "scaled_step_size": step_size * root(rectified * correction2) if scaled else 0.0,
            "plain_step_size": 0.0 if scaled else step_size,
        }

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        exp_avg_sq = share(s.beta2, exp_avg_sq) + s.one_minus_beta2 * g * g
        scale = where(s.scaled_step_size > 0, s.scaled_step_size / (sqrt(exp_avg_sq) + s.eps), s.plain_step_size)
        return p - scale * exp_avg, exp_avg, exp_avg_sq
