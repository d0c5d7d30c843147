"""Subnormal numbers: flushed to zero where nothing of it is seen, and else computed as NumPy computes them."""

import numpy as np
import pytest
from tests.oracles import naive
from tests.rules.tracing.formulas import rule_of

import descend
from descend.engines import Fused, Reference
from descend.engines.native.subnormal import averages, may_flush
from descend.engines.stacked import FusedStack
from descend.rules import maths
from descend.rules.tracing import trace

pytestmark = pytest.mark.machine_code
SHIPPED = naive.shipped()
SIZE = 257


def bounds_of(rule):
    """What must be large enough for a rule's kernel to flush: names, with √ for a number that stands under a root."""
    traced = trace(rule)
    found = may_flush(traced.outputs, traced.mask)
    return found and [["√" * rooted + node.given for node, rooted in bounds] for bounds in found]


@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("name", SHIPPED)
def test_when_shipped_rules_may_flush(name, cautious):
    """Where eps is added, if it is large; always where nothing is divided; never where signs are the step."""
    special = {"adadelta": [["√eps"]], "adabelief": [["eps", "√eps"]], "lion": None, "rprop": None}
    plain = {name: [] for name in ("gd", "sgd", "momentum", "nesterov", "asgd")}
    assert bounds_of(SHIPPED[name](cautious=cautious)) == {**special, **plain}.get(name, [["eps"]])


def test_when_other_formulas_may_flush():
    for update, expected in (
        (lambda p, g, s: p - s.lr * g / maths.sqrt(g * g), None),
        (lambda p, g, s: p - s.lr * g / s.lr, []),
        (lambda p, g, s: p - s.lr * maths.where(g > 0, g, 2 * g), None),
        (lambda p, g, s: p - s.lr * maths.clip(g, -1.0, 1.0), []),
        (lambda p, g, s: p - g / maths.clip(maths.sqrt(g), s.lr, 1.0), [["lr"]]),
        (lambda p, g, s: p - g / maths.maximum(g, g * g + s.lr), [["lr"]]),
        (lambda p, g, s: p - g**0.3, None),
    ):
        assert bounds_of(rule_of(update)) == expected


def test_averages_are_told_from_what_divides_them():
    assert averages(trace(descend.Adam(amsgrad=True)).outputs) == {
        "exp_avg": True,
        "exp_avg_sq": False,
        "max_exp_avg_sq": False,
    }
    assert averages(trace(descend.Adadelta()).outputs) == {"square_avg": False, "acc_delta": False}
    assert averages(trace(descend.AdaBelief()).outputs) == {"exp_avg": True, "exp_avg_var": False}


def tiny(dtype, steps=8):
    """Gradients whose squares are subnormal, or zero, and some that are zero for a step."""
    rng = np.random.default_rng(0)
    exponents = rng.uniform(-45, -10, (steps, SIZE)) * (8 if dtype == "float64" else 1)
    grads = (rng.standard_normal((steps, SIZE)) * 10.0**exponents).astype(dtype)
    grads[5, ::2] = 0
    return grads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [1e-8, 1e-16, 1e-30, 1e-40, 0.0])
@pytest.mark.parametrize("name", SHIPPED)
def test_parameters_have_the_reference_engines_bits_after_tiny_gradients(name, eps, dtype):
    """Whatever is added to what divides, normal, subnormal or nothing at all."""
    chosen = [chosen for _, chosen in naive.settings(SHIPPED[name]) if not chosen["cautious"]]
    if eps not in (1e-8, 0.0) and "eps" not in chosen[0]:
        return
    for setting in (chosen[0], chosen[-1]):
        given = {**setting, "eps": eps} if "eps" in setting and (eps or name != "adopt") else setting
        rule = SHIPPED[name](**given)
        ends = []
        for kind in (Fused, Reference):
            p = np.random.default_rng(1).standard_normal(SIZE).astype(dtype)
            engine = kind(rule, [p])
            with np.errstate(all="ignore"):
                for g in tiny(dtype):
                    engine.step([g])
            ends.append(p)
        np.testing.assert_array_equal(*ends)


def test_runs_with_another_eps_in_one_call():
    """The numbers of each are those that it has alone, and the processor goes on as it was told before."""
    rules = [descend.Adam(eps=eps) for eps in (1e-8, 1e-30, 1e-8, 0.0, 1e-40, 1e-8)]
    grads = tiny("float32")
    params, slot = np.ones((len(rules), SIZE), np.float32), np.zeros((len(rules), SIZE), np.float32)
    stack = FusedStack(rules, [params], [slot])
    alone = np.ones_like(params)
    engines = [Reference(rule, [row]) for rule, row in zip(rules, alone, strict=True)]
    with np.errstate(all="ignore"):
        for g in grads:
            slot[:] = g
            stack.step()
            for engine in engines:
                engine.step([g])
    np.testing.assert_array_equal(params, alone)
    assert np.float32(1e-39) * np.float32(0.5) > 0


@pytest.mark.parametrize("eps", [1e-8, 1e-16])
def test_an_average_whose_gradient_is_dead_ends_at_zero(eps):
    """Whether subnormal numbers are flushed or not: it does not remain among them, where each step takes longer."""
    p = np.ones(SIZE, np.float32)
    engine = Fused(descend.Adam(eps=eps), [p])
    engine.step([np.ones(SIZE, np.float32)])
    for _ in range(1000):
        engine.step([np.zeros(SIZE, np.float32)])
    assert not engine.state[0]["exp_avg"].any()
    assert (engine.state[0]["exp_avg_sq"] > 1e-4).all()


def test_an_average_is_not_taken_for_zero_where_what_divides_it_is_small():
    """After gradients of 1e-19 the second moment is subnormal, and steps are as long as after others."""
    ends = []
    for kind in (Fused, Reference):
        p = np.zeros(3, np.float32)
        engine = kind(descend.Adam(lr=0.1, eps=0.0), [p])
        engine.step([np.full(3, 1e-19, np.float32)])
        for _ in range(300):
            engine.step([np.zeros(3, np.float32)])
        ends.append([p, *engine.state[0].values()])
    for one, other in zip(*ends, strict=True):
        assert one.tobytes() == other.tobytes()
    assert -10 < ends[0][0][0] < -0.1


def test_a_formula_that_asks_for_signs_sees_subnormal_numbers():
    for rule in (descend.Lion(lr=0.5), descend.Rprop(lr=0.5)):
        p = np.ones(3, np.float32)
        Fused(rule, [p]).step([np.float32([1e-40, -1e-40, 0.0])])
        assert p.tolist() == [0.5, 1.5, 1.0]
