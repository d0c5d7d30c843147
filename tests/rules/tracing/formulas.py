"""Formulas for tests of tracing: made into rules, and stepped by both engines."""

import itertools

import numpy as np

import descend


def rule_of(update, **attributes):
    """An instance of a rule with this formula, which has a learning rate."""
    body = {"update": staticmethod(update), "__annotations__": {"lr": float}, "lr": 0.1, "__doc__": "A formula."}
    return type("Mine", (descend.Rule,), {**body, **attributes}, register=False)()


def special(rng, size, dtype):
    """Numbers of all sizes and signs, with zeros, infinities and NaN among them, but none below the normal range."""
    x = rng.normal(size=size).astype(dtype)
    x[::5] = 0.0
    x[1::7] *= 1e6
    x[2::11] *= 1e-6
    for place, value in enumerate((np.inf, -np.inf, np.nan, -0.0, 1.0, -1.0, 0.5)):
        x[place + 3 :: 29] = value
    return x


def same_numbers(a, b):
    """Whether two arrays have the same bits, but for which NaN it is."""
    nan = np.isnan(b)
    return np.array_equal(np.isnan(a), nan) and a[~nan].tobytes() == b[~nan].tobytes()


def agree(rule, dtype=np.float32, steps=4, size=611, draw=special):
    """Whether the fused engine gives the reference engine's numbers, parameter and state."""
    rng = np.random.default_rng(1)
    start = draw(rng, size, dtype)
    grads = [draw(rng, size, dtype) for _ in range(steps)]
    ends = []
    with np.errstate(all="ignore"):
        for engine in (descend.engines.Reference, descend.engines.Fused):
            p = start.copy()
            runner = engine(rule, [p])
            for g in grads:
                runner.step([g])
            ends.append([p, *runner.state[0].values()])
    return all(itertools.starmap(same_numbers, zip(*ends, strict=True)))
