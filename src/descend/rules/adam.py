"""Adam and its family: momentum and a running scale, both corrected for their start at zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from descend.rules.base import Rule, hyper
from descend.rules.maths import maximum, sqrt

__all__ = ["Adam", "AdamW"]


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
        beta1, beta2 = self.betas
        return {
            "one_minus_beta1": 1.0 - beta1,
            "one_minus_beta2": 1.0 - beta2,
            "step_size": self.lr / (1.0 - beta1**t),
            "root_correction2": math.sqrt(1.0 - beta2**t),
        }

    @staticmethod
    def update(p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any, s: Any) -> Any:
        exp_avg = s.beta1 * exp_avg + s.one_minus_beta1 * g
        exp_avg_sq = s.beta2 * exp_avg_sq + s.one_minus_beta2 * g * g
        scale = exp_avg_sq
        if max_exp_avg_sq is not None:
            max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
            scale = max_exp_avg_sq
        p = p - s.step_size * exp_avg / (sqrt(scale) / s.root_correction2 + s.eps)
        return p, exp_avg, exp_avg_sq, max_exp_avg_sq


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
