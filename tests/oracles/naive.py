"""Slow oracles, outside the package: each rule transcribed from its paper, one number at a time, and what to try.

An oracle is a generator for one number. It takes the number's start and the rule's own hyperparameters by name; is sent
where the number is and its gradient, at each step; and answers by how much the step moves it. It is written as its
paper writes it, which is seldom as `descend` does: velocities that contain the learning rate, corrected moments, a
look-ahead that is taken and taken back. Where PyTorch, or the authors' code, departs from a paper the oracle follows
the code, and says so.

What every rule has stands once, in `path`, from the papers too. L&H is Loshchilov & Hutter 2019
(arxiv.org/abs/1711.05101), whose algorithms 1 and 2 show both ways to decay. They separate the schedule multiplier η
from the learning rate α; as in PyTorch, the decay is α · λ · θ here, and comes before the step.
"""

import dataclasses
import itertools
import math

import numpy as np

import descend
from descend.rules import cautious_mask, cautious_scale, step

# ---- the oracles ------------------------------------------------------------------------------------------------


def sgd(p, *, lr, momentum, dampening, nesterov):
    """Robbins & Monro 1951 eq. 8; with momentum Sutskever et al. 2013 eqs. 1-4 (Polyak 1964 eq. 9)."""
    move, v = None, 0.0
    for t in itertools.count(1):
        _, g = yield move
        if momentum == 0.0:
            move = -lr * g  # Robbins & Monro eq. 8
        else:
            undamped = 1.0 if t == 1 else 1.0 - dampening  # PyTorch's: in no paper
            last = v
            v = momentum * last - lr * undamped * g  # Sutskever eqs. 1 and 3
            # Sutskever eq. 2. With nesterov the gradient was taken at θ + μ·v (eq. 3), so the number is that point:
            # back to θ, eq. 4, look ahead again.
            move = -momentum * last + v + momentum * v if nesterov else v


def asgd(p, *, lr, lambd, alpha, t0):
    """Polyak & Juditsky 1992 eq. 2, with the steps of Xu 2011; only x itself, which its average does not touch."""
    move = None
    for t in itertools.count(1):
        p, g = yield move
        # PyTorch's: the step size of t is that of t − 1, after the first step as at it.
        gamma = lr * (1.0 + lambd * lr * (t - 1)) ** -alpha
        move = -gamma * (g + lambd * p)  # the gradient of the loss with its penalty λ/2 · ‖x‖²


def rprop(p, *, lr, etas, step_sizes):
    """Riedmiller & Braun 1993 eqs. 4-7, in the variant iRprop⁻ of Igel & Hüsken 2003, as PyTorch."""
    move, delta, last = None, lr, 0.0
    (eta_minus, eta_plus), (delta_min, delta_max) = etas, step_sizes
    while True:
        _, g = yield move
        if last * g > 0.0:
            delta = min(delta * eta_plus, delta_max)
        elif last * g < 0.0:
            delta = max(delta * eta_minus, delta_min)
            g = 0.0  # iRprop⁻
        # PyTorch's: clamped at both ends at every step, so that a start beyond them moves there.
        delta = min(max(delta, delta_min), delta_max)
        move = -math.copysign(delta, g) if g else 0.0
        last = g


def adagrad(p, *, lr, lr_decay, initial_accumulator_value, eps):
    """Duchi, Hazan & Singer 2011 fig. 1, diagonal, by mirror descent (eq. 4) without a regulariser."""
    move, squares = None, [initial_accumulator_value]  # PyTorch's: zero in the paper
    for t in itertools.count(1):
        _, g = yield move
        squares.append(g * g)
        s = math.sqrt(math.fsum(squares))  # fig. 1: s_{t,i} = ‖g_{1:t,i}‖₂
        h = eps + s  # fig. 1: H_t = δI + diag(s_t)
        eta = lr / (1.0 + (t - 1) * lr_decay)  # PyTorch's: η is constant in the paper
        move = -eta * g / h


def rmsprop(p, *, lr, alpha, eps, momentum, centered):
    """Tieleman & Hinton 2012 lecture 6e slide 29; centered and with momentum Graves 2013 eqs. 38-41."""
    move, n, g_mean, delta = None, 0.0, 0.0, 0.0
    while True:
        _, e = yield move
        n = alpha * n + (1.0 - alpha) * e**2  # Graves eq. 38; slide 29: MeanSquare
        g_mean = alpha * g_mean + (1.0 - alpha) * e  # eq. 39
        spread = n - g_mean**2 if centered else n
        # Eq. 40 has eps inside the root; PyTorch puts it outside.
        delta = momentum * delta - lr * e / (math.sqrt(spread) + eps)
        move = delta  # eq. 41


def adadelta(p, *, lr, rho, eps):
    """Zeiler 2012 algorithm 1; the learning rate is PyTorch's."""
    move, mean_g2, mean_dx2 = None, 0.0, 0.0
    while True:
        _, g = yield move
        mean_g2 = rho * mean_g2 + (1.0 - rho) * g**2  # line 4
        rms_dx, rms_g = math.sqrt(mean_dx2 + eps), math.sqrt(mean_g2 + eps)
        dx = -(rms_dx / rms_g) * g  # line 5
        mean_dx2 = rho * mean_dx2 + (1.0 - rho) * dx**2  # line 6
        move = lr * dx  # line 7


def adam(p, *, lr, betas, eps, amsgrad):
    """Kingma & Ba 2015 algorithm 1 (L&H algorithm 2 lines 7-12); amsgrad: Reddi, Kale & Kumar 2018 algorithm 2."""
    move, m, v, v_max = None, 0.0, 0.0, 0.0
    beta1, beta2 = betas
    for t in itertools.count(1):
        _, g = yield move
        m = beta1 * m + (1.0 - beta1) * g
        v = beta2 * v + (1.0 - beta2) * g**2
        v_max = max(v_max, v)  # Reddi alg. 2: v̂_t = max(v̂_{t−1}, v_t)
        m_hat = m / (1.0 - beta1**t)
        v_hat = (v_max if amsgrad else v) / (1.0 - beta2**t)  # Reddi have no correction; PyTorch keeps it
        move = -lr * m_hat / (math.sqrt(v_hat) + eps)


def adamax(p, *, lr, betas, eps):
    """Kingma & Ba 2015 algorithm 2."""
    move, m, sizes = None, 0.0, []
    beta1, beta2 = betas
    for t in itertools.count(1):
        _, g = yield move
        m = beta1 * m + (1.0 - beta1) * g
        sizes.append(abs(g) + eps)  # PyTorch's: no eps in the paper
        u = max(beta2 ** (t - i) * size for i, size in enumerate(sizes, start=1))  # eq. 11, which line u_t sums up
        move = -(lr / (1.0 - beta1**t)) * m / u


def nadam(p, *, lr, betas, eps, momentum_decay):
    """Dozat 2016 algorithm 2, with the momentum of its section on schedules."""
    move, m, n = None, 0.0, 0.0
    beta1, nu = betas
    mu = [beta1 * (1.0 - 0.5 * 0.96 ** (i * momentum_decay)) for i in range(1, 1000)]  # μ_1, μ_2, …
    for t in itertools.count(1):
        _, g = yield move
        m = beta1 * m + (1.0 - beta1) * g  # PyTorch's: μ_t m + (1 − μ_t) g in the paper
        n = nu * n + (1.0 - nu) * g**2
        m_hat = mu[t] * m / (1.0 - math.prod(mu[: t + 1])) + (1.0 - mu[t - 1]) * g / (1.0 - math.prod(mu[:t]))
        n_hat = n / (1.0 - nu**t)  # PyTorch's: ν n / (1 − ν^t) in the paper
        move = -lr / (math.sqrt(n_hat) + eps) * m_hat


def radam(p, *, lr, betas, eps):
    """Liu et al. 2020 algorithm 2."""
    move, m, v = None, 0.0, 0.0
    beta1, beta2 = betas
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    for t in itertools.count(1):
        _, g = yield move
        v = beta2 * v + (1.0 - beta2) * g**2
        m = beta1 * m + (1.0 - beta1) * g
        m_hat = m / (1.0 - beta1**t)
        rho = rho_inf - 2.0 * t * beta2**t / (1.0 - beta2**t)
        if rho > 5.0:  # PyTorch's and the authors' code: 4 in the paper
            # The paper has l = √((1 − β2^t) / v); PyTorch adds eps to √v.
            adaptive = math.sqrt(1.0 - beta2**t) / (math.sqrt(v) + eps)
            r = math.sqrt(((rho - 4.0) * (rho - 2.0) * rho_inf) / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))
            move = -lr * r * m_hat * adaptive
        else:
            move = -lr * m_hat


def lion(p, *, lr, betas):
    """Chen et al. 2023 algorithm 2."""
    move, m = None, 0.0
    beta1, beta2 = betas
    while True:
        _, g = yield move
        c = beta1 * m + (1.0 - beta1) * g
        move = -lr * ((c > 0.0) - (c < 0.0))
        m = beta2 * m + (1.0 - beta2) * g


def adabelief(p, *, lr, betas, eps):
    """Zhuang et al. 2020 algorithm 2."""
    move, m, s = None, 0.0, 0.0
    beta1, beta2 = betas
    for t in itertools.count(1):
        _, g = yield move
        m = beta1 * m + (1.0 - beta1) * g
        s = beta2 * s + (1.0 - beta2) * (g - m) ** 2 + eps
        m_hat, s_hat = m / (1.0 - beta1**t), s / (1.0 - beta2**t)
        move = -lr * m_hat / (math.sqrt(s_hat) + eps)


def yogi(p, *, lr, betas, eps, initial_accumulator_value):
    """Zaheer et al. 2018 algorithm 2, with the bias correction of TensorFlow Addons, Optax and others."""
    move, m, v = None, 0.0, initial_accumulator_value
    beta1, beta2 = betas
    for t in itertools.count(1):
        _, g = yield move
        m = beta1 * m + (1.0 - beta1) * g
        if v > g**2:
            v = v - (1.0 - beta2) * g**2
        elif v < g**2:
            v = v + (1.0 - beta2) * g**2
        m_hat, v_hat = m / (1.0 - beta1**t), v / (1.0 - beta2**t)
        move = -lr * m_hat / (math.sqrt(v_hat) + eps)


def adopt(p, *, lr, betas, eps, use_clipping, clip_exponent):
    """Taniguchi et al. 2024 algorithm 2; step 0, which only starts v, is the first here, as in the authors' code."""
    beta1, beta2 = betas
    _, g = yield None
    m, v = 0.0, g**2
    move = 0.0
    for t in itertools.count(1):
        _, g = yield move
        c = t**clip_exponent if use_clipping else math.inf
        m = beta1 * m + (1.0 - beta1) * min(max(g / max(math.sqrt(v), eps), -c), c)
        move = -lr * m
        v = beta2 * v + (1.0 - beta2) * g**2


def ademamix(p, *, lr, betas, alpha, alpha_warmup, beta3_warmup, eps):
    """Pagliardini, Ablin & Grangier 2024 algorithm 1; its schedulers from the section that introduces them."""
    move, m1, m2, nu = None, 0.0, 0.0, 0.0
    beta1, beta2, beta3 = betas
    for t in itertools.count(1):
        _, g = yield move
        alpha_t = min(t * alpha / alpha_warmup, alpha) if alpha_warmup else alpha
        beta3_t = beta3
        if beta3_warmup and t < beta3_warmup:
            ln_start, ln_end, way = math.log(beta1), math.log(beta3), t / beta3_warmup
            beta3_t = min(math.exp(ln_start * ln_end / ((1.0 - way) * ln_end + way * ln_start)), beta3)
        m1 = beta1 * m1 + (1.0 - beta1) * g
        m2 = beta3_t * m2 + (1.0 - beta3_t) * g
        nu = beta2 * nu + (1.0 - beta2) * g**2
        m1_hat, nu_hat = m1 / (1.0 - beta1**t), nu / (1.0 - beta2**t)
        move = -lr * (m1_hat + alpha_t * m2) / (math.sqrt(nu_hat) + eps)


def adan(p, *, lr, betas, eps):
    """Xie et al. 2022 algorithm 1, whose β are 1 − those of the code; bias corrections from the authors' code."""
    move, m, v, n, last = None, 0.0, 0.0, 0.0, None
    beta1, beta2, beta3 = (1.0 - beta for beta in betas)
    for k in itertools.count(1):
        _, g = yield move
        change = 0.0 if last is None else g - last
        m = (1.0 - beta1) * m + beta1 * g  # line 3
        v = (1.0 - beta2) * v + beta2 * change  # line 4
        n = (1.0 - beta3) * n + beta3 * (g + (1.0 - beta2) * change) ** 2  # line 5
        m_hat, v_hat, n_hat = (x / (1.0 - (1.0 - b) ** k) for x, b in ((m, beta1), (v, beta2), (n, beta3)))
        eta = lr / (math.sqrt(n_hat) + eps)  # line 6
        move = -eta * (m_hat + (1.0 - beta2) * v_hat)  # line 7, whose decay is in `path`
        last = g


ORACLES = {
    "adabelief": adabelief,
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adam,
    "adan": adan,
    "ademamix": ademamix,
    "adopt": adopt,
    "asgd": asgd,
    "gd": sgd,
    "lion": lion,
    "momentum": sgd,
    "nadam": nadam,
    "nesterov": sgd,
    "radam": radam,
    "rmsprop": rmsprop,
    "rprop": rprop,
    "sgd": sgd,
    "yogi": yogi,
}
"""Registry name of a rule → its oracle."""


def path(rule, chosen, start, grads):
    """The numbers after each step, of shape (steps, numbers), by the rule's oracle and what every rule has."""
    own = dict(chosen)
    weight_decay, decoupled, maximize, cautious = (
        own.pop(name) for name in ("weight_decay", "decoupled_weight_decay", "maximize", "cautious")
    )
    theta = start.tolist()
    oracles = [ORACLES[rule.name](p, **own) for p in theta]
    for oracle in oracles:
        next(oracle)
    found = []
    for row in grads.tolist():
        g = [-x for x in row] if maximize else row  # to climb f is to descend −f
        if decoupled:
            theta = [p - own["lr"] * weight_decay * p for p in theta]  # L&H algs. 1 and 2: in the step's last line
        else:
            g = [x + weight_decay * p for x, p in zip(g, theta, strict=True)]  # L&H line 6
        moves = [oracle.send((p, x)) for oracle, p, x in zip(oracles, theta, g, strict=True)]
        if cautious:
            moves = cautiously(moves, g)
        theta = [p + move for p, move in zip(theta, moves, strict=True)]
        found.append(theta)
    return np.array(found)


def cautiously(moves, grads):
    """Liang et al. 2024 algorithm 1 (arxiv.org/abs/2411.16085), for a whole array, whose u_t is −move / lr."""
    phi = [1.0 if -move * g > 0.0 else 0.0 for move, g in zip(moves, grads, strict=True)]
    # The paper multiplies by d / (‖φ‖₁ + 1); the authors' code divides by the mean of φ, which is 0.001 at least.
    scale = 1.0 / max(sum(phi) / len(phi), 1e-3)
    return [move * kept * scale for move, kept in zip(moves, phi, strict=True)]


# ---- what to try ------------------------------------------------------------------------------------------------

TRIED = {
    "alpha": (0.9,),
    "alpha_warmup": (0.0, 30.0),
    "asgd.alpha": (0.75,),
    "ademamix.alpha": (3.0,),
    "ademamix.betas": ((0.8, 0.95, 0.99),),
    "adan.betas": ((0.9, 0.8, 0.95),),
    "beta3_warmup": (0.0, 60.0),
    "betas": ((0.8, 0.95),),
    "clip_exponent": (0.3,),
    "dampening": (0.0, 0.3),
    "eps": (1e-6,),
    "adadelta.eps": (1e-3,),
    "adopt.eps": (1e-4,),
    "etas": ((0.4, 1.3),),
    "initial_accumulator_value": (0.0, 0.5),
    "lambd": (0.01,),
    "lr": (0.05,),
    "adadelta.lr": (2.0,),
    "lr_decay": (0.0, 0.1),
    "momentum": (0.0, 0.9),
    "momentum_decay": (0.0, 0.1),
    "rho": (0.8,),
    "step_sizes": ((1e-3, 0.4),),
    "t0": (1e6, 20.0),
    "weight_decay": (0.0, 0.1),
}
"""Values tried of each hyperparameter that is not a flag: off and on, or one that is not the default. A rule's own come
before those of all."""


def shipped():
    """Every rule that descend brings: name → class, without what other tests have registered."""
    return {name: rule for name, rule in descend.rules.all().items() if rule.__module__.startswith("descend.")}


def settings(rule):
    """Combinations of the values tried and the flags, as pairs of a readable label and the hyperparameters.

    All of them but for `cautious`, which comes with everything off, with each other thing on, and with all that goes
    together.
    """
    choices = {field.name: tried(rule, field) for field in dataclasses.fields(rule)}
    found = []
    for values in itertools.product(*(c for name, c in choices.items() if name != "cautious")):
        chosen = dict(zip((name for name in choices if name != "cautious"), values, strict=True))
        if chosen.get("nesterov") and (chosen["momentum"] == 0.0 or chosen["dampening"] != 0.0):
            continue  # refused by the rule
        found.append(([name for name, value in chosen.items() if value != choices[name][0]], chosen))
    some = [one for one in found if len(one[0]) <= 1]
    for name in choices:  # what is refused alone
        if not any(name in on for on, _ in some):
            some += [one for one in found if name in one[0]][:1]
    some += [one for one in found[-1:] if one not in some]
    found = [(on, {**chosen, "cautious": False}) for on, chosen in found]
    found += [([*on, "cautious"], {**chosen, "cautious": True}) for on, chosen in some]
    return [("-".join([rule.name, *on]), chosen) for on, chosen in found]


def tried(rule, field):
    """The values tried of one hyperparameter."""
    if isinstance(field.default, bool):
        return (False, True)
    return TRIED.get(f"{rule.name}.{field.name}") or TRIED.get(field.name, (field.default,))


def rows(rule, steps):
    """The scalars of the first steps, with the numbers that go from step to step."""
    carried = rule.starting()
    for t in range(1, steps + 1):
        row, carried = rule.advance(t, carried)
        yield row


def whole(rule, p, grads):
    """The rule over whole arrays at once, with no engine: the parameter after these steps, and the state by name."""
    state = tuple(np.full_like(p, rule.initial(n)) if n in rule.kept_state() else None for n in rule.state)
    for g, row in zip(grads, rows(rule, len(grads)), strict=True):
        if rule.cautious and p.size:
            share = float(np.mean(cautious_mask(type(rule), p, g, tuple(state), row)))
            row = row._replace(cautious_scale=cautious_scale(share))  # noqa: PLW2901
        p, *state = step(type(rule), p, g, tuple(state), row)
    return p, dict(zip(rule.state, state, strict=True))


def gradients(steps):
    """A start of seven numbers and a gradient of each for each step: usual, tiny, huge, sparse, zero."""
    rng = np.random.default_rng(20150512)
    drawn = rng.normal(size=(steps, 7)) * [1.0, 1.0, 1e-3, 1e3, 0.1, 1.0, 0.0]
    drawn[:, 5] *= rng.random(steps) < 0.2
    return rng.normal(size=7), drawn


def distance(found, expected):
    """The largest difference of two paths, relative to the size that each number reaches (at least 1)."""
    scale = np.maximum(1.0, np.abs(expected).max(axis=0))
    return float((np.abs(found - expected) / scale).max())
