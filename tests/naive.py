"""Slow oracles, outside the package: each rule transcribed from its paper, one number at a time, and what to try.

An oracle takes a number, its gradients in order, and every hyperparameter by name; it returns the number after each
step. It is written as its paper writes it, which is seldom as `descend` does: velocities that contain the learning
rate, corrected moments, a look-ahead that is taken and taken back. Where PyTorch departs from a paper the oracle
follows PyTorch, and says so.

L&H is Loshchilov & Hutter 2019 (arxiv.org/abs/1711.05101), whose algorithms 1 and 2 show both ways to decay. They
separate the schedule multiplier η from the learning rate α; as in PyTorch, the decay is α · λ · θ here.
"""

import dataclasses
import itertools
import math

import numpy as np

import descend

# ---- the oracles ------------------------------------------------------------------------------------------------


def sgd(p, grads, *, lr, momentum, dampening, nesterov, weight_decay, decoupled_weight_decay, maximize):
    """Robbins & Monro 1951 eq. 8; with momentum Sutskever et al. 2013 eqs. 1-4 (Polyak 1964 eq. 9)."""
    path = []
    v = 0.0
    for t, gradient in enumerate(grads, start=1):
        g = -gradient if maximize else gradient  # to climb f is to descend −f
        if not decoupled_weight_decay:
            g = g + weight_decay * p  # L&H alg. 1 line 6
        shrinkage = lr * weight_decay * p if decoupled_weight_decay else 0.0  # L&H alg. 1 line 9
        if momentum == 0.0:
            p = p - lr * g - shrinkage  # Robbins & Monro eq. 8
        else:
            undamped = 1.0 if t == 1 else 1.0 - dampening  # PyTorch's: in no paper
            last = v
            v = momentum * last - lr * undamped * g  # Sutskever eqs. 1 and 3
            if nesterov:
                # The gradient was taken at θ + μ·v (eq. 3), so p is that point: back to θ, eq. 4, look ahead again.
                theta = p - momentum * last
                theta = theta + v
                p = theta + momentum * v - shrinkage
            else:
                p = p + v - shrinkage  # Sutskever eq. 2
        path.append(p)
    return path


def adagrad(p, grads, *, lr, lr_decay, initial_accumulator_value, eps, weight_decay, decoupled_weight_decay, maximize):
    """Duchi, Hazan & Singer 2011 fig. 1, diagonal, by mirror descent (eq. 4) without a regulariser."""
    path = []
    squares = [initial_accumulator_value]  # PyTorch's: zero in the paper
    for t, gradient in enumerate(grads, start=1):
        g = -gradient if maximize else gradient
        if not decoupled_weight_decay:
            g = g + weight_decay * p
        shrinkage = lr * weight_decay * p if decoupled_weight_decay else 0.0
        squares.append(g * g)
        s = math.sqrt(math.fsum(squares))  # fig. 1: s_{t,i} = ‖g_{1:t,i}‖₂
        h = eps + s  # fig. 1: H_t = δI + diag(s_t)
        eta = lr / (1.0 + (t - 1) * lr_decay)  # PyTorch's: η is constant in the paper
        p = p - eta * g / h - shrinkage
        path.append(p)
    return path


def rmsprop(p, grads, *, lr, alpha, eps, momentum, centered, weight_decay, decoupled_weight_decay, maximize):
    """Tieleman & Hinton 2012 lecture 6e slide 29; centered and with momentum Graves 2013 eqs. 38-41."""
    path = []
    n = g_mean = delta = 0.0
    for gradient in grads:
        e = -gradient if maximize else gradient
        if not decoupled_weight_decay:
            e = e + weight_decay * p
        shrinkage = lr * weight_decay * p if decoupled_weight_decay else 0.0
        n = alpha * n + (1.0 - alpha) * e**2  # Graves eq. 38; slide 29: MeanSquare
        g_mean = alpha * g_mean + (1.0 - alpha) * e  # eq. 39
        spread = n - g_mean**2 if centered else n
        # Eq. 40 has eps inside the root; PyTorch puts it outside.
        delta = momentum * delta - lr * e / (math.sqrt(spread) + eps)
        p = p + delta - shrinkage  # eq. 41
        path.append(p)
    return path


def adam(p, grads, *, lr, betas, eps, amsgrad, weight_decay, decoupled_weight_decay, maximize):
    """Kingma & Ba 2015 algorithm 1; amsgrad: Reddi, Kale & Kumar 2018 algorithm 2."""
    path = []
    beta1, beta2 = betas
    m = v = v_max = 0.0
    for t, gradient in enumerate(grads, start=1):
        g = -gradient if maximize else gradient
        if not decoupled_weight_decay:
            g = g + weight_decay * p
        shrinkage = lr * weight_decay * p if decoupled_weight_decay else 0.0
        m = beta1 * m + (1.0 - beta1) * g
        v = beta2 * v + (1.0 - beta2) * g**2
        v_max = max(v_max, v)  # Reddi alg. 2: v̂_t = max(v̂_{t−1}, v_t)
        m_hat = m / (1.0 - beta1**t)
        v_hat = (v_max if amsgrad else v) / (1.0 - beta2**t)  # Reddi have no correction; PyTorch keeps it
        p = p - lr * m_hat / (math.sqrt(v_hat) + eps) - shrinkage
        path.append(p)
    return path


def adamw(p, grads, *, lr, betas, eps, amsgrad, weight_decay, decoupled_weight_decay, maximize):
    """Loshchilov & Hutter 2019 algorithm 2, line by line; both of its decays, one of them zero."""
    path = []
    alpha, (beta1, beta2) = lr, betas
    lambda_l2 = 0.0 if decoupled_weight_decay else weight_decay
    lambda_decoupled = weight_decay if decoupled_weight_decay else 0.0
    theta, m, v, largest = p, 0.0, 0.0, 0.0
    for t, gradient in enumerate(grads, start=1):  # line 4
        g = (-gradient if maximize else gradient) + lambda_l2 * theta  # lines 5 and 6
        m = beta1 * m + (1.0 - beta1) * g  # line 7
        v = beta2 * v + (1.0 - beta2) * g**2  # line 8
        largest = max(largest, v)  # not in the algorithm: Reddi et al. 2018 algorithm 2
        m_hat = m / (1.0 - beta1**t)  # line 9
        v_hat = (largest if amsgrad else v) / (1.0 - beta2**t)  # line 10
        theta = theta - (alpha * m_hat / (math.sqrt(v_hat) + eps) + alpha * lambda_decoupled * theta)  # line 12
        path.append(theta)
    return path


ORACLES = {
    "adagrad": adagrad,
    "adam": adam,
    "adamw": adamw,
    "gd": sgd,
    "momentum": sgd,
    "nesterov": sgd,
    "rmsprop": rmsprop,
    "sgd": sgd,
}
"""Registry name of a rule → its oracle."""

# ---- what to try ------------------------------------------------------------------------------------------------

TRIED = {
    "alpha": (0.9,),
    "betas": ((0.8, 0.95),),
    "dampening": (0.0, 0.3),
    "eps": (1e-6,),
    "initial_accumulator_value": (0.0, 0.5),
    "lr": (0.05,),
    "lr_decay": (0.0, 0.1),
    "momentum": (0.0, 0.9),
    "weight_decay": (0.0, 0.1),
}
"""Values tried of each hyperparameter that is not a flag: off and on, or one that is not the default."""


def shipped():
    """Every rule that descend brings: name → class, without what other tests have registered."""
    return {name: rule for name, rule in descend.rules.all().items() if rule.__module__.startswith("descend.")}


def settings(rule):
    """Every combination of the values tried and the flags, as pairs of a readable label and the hyperparameters."""
    choices = {}
    for field in dataclasses.fields(rule):
        choices[field.name] = (
            (False, True) if isinstance(field.default, bool) else TRIED.get(field.name, (field.default,))
        )
    found = []
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        if chosen.get("nesterov") and (chosen["momentum"] == 0.0 or chosen["dampening"] != 0.0):
            continue  # refused by the rule
        switched_on = [name for name, value in chosen.items() if value != choices[name][0]]
        found.append(("-".join([rule.name, *switched_on]), chosen))
    return found


def gradients(steps):
    """A start of seven numbers and a gradient of each for each step: usual, tiny, huge, sparse, zero."""
    rng = np.random.default_rng(20150512)
    drawn = rng.normal(size=(steps, 7)) * [1.0, 1.0, 1e-3, 1e3, 0.1, 1.0, 0.0]
    drawn[:, 5] *= rng.random(steps) < 0.2
    return rng.normal(size=7), drawn


def path(rule, chosen, start, grads):
    """The oracle's numbers after each step, of shape (steps, numbers)."""
    oracle = ORACLES[rule.name]
    columns = [oracle(p, [float(g) for g in grads[:, i]], **chosen) for i, p in enumerate(start.tolist())]
    return np.array(columns).T


def distance(found, expected):
    """The largest difference of two paths, relative to the size that each number reaches (at least 1)."""
    scale = np.maximum(1.0, np.abs(expected).max(axis=0))
    return float((np.abs(found - expected) / scale).max())
