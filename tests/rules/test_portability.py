"""One formula, four worlds: `descend.rules.step` runs unchanged on NumPy, on floats, on PyTorch and under JAX's jit.

That the machine code that is made from it gives the same numbers is shown with the engines.
"""

import collections
import functools
import inspect
import math

import jax
import numpy as np
import pytest
import torch
from tests.oracles import naive
from tests.oracles.twins import TABLE

from descend.rules import cautious_mask, cautious_scale, maths, step

STEPS = 5
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


# ---- what runs the rule -----------------------------------------------------------------------------------------


def run(rule, convert, stepper):
    """The numbers after each of five steps, of shape (steps, numbers), of a stepper over converted arrays."""
    start, grads = naive.gradients(STEPS)
    cls = type(rule)
    p = convert(start)
    state = tuple(convert(np.full(7, rule.initial(n))) if n in rule.kept_state() else None for n in cls.state)
    path = []
    for g, row in zip(grads, naive.rows(rule, STEPS), strict=True):
        s = with_stretch(rule, p, g, state, row)
        p, *state = stepper(p, convert(g), tuple(state), s)
        path.append([float(v) for v in p])
    return np.array(path)


def with_stretch(rule, p, g, state, row):
    """The row with what a cautious step is lengthened by, found by NumPy."""
    if not rule.cautious:
        return row
    p, *state = (None if b is None else np.array([float(v) for v in b]) for b in (p, *state))
    return row._replace(cautious_scale=cautious_scale(np.mean(cautious_mask(type(rule), p, g, tuple(state), row))))


def on_arrays(convert):
    """How to run a rule on the arrays that `convert` makes."""
    return lambda rule: run(rule, convert, lambda p, g, state, s: step(type(rule), p, g, state, s))


run_numpy, run_torch = on_arrays(np.array), on_arrays(torch.tensor)


def run_floats(rule):
    """The rule on Python's floats, one number at a time."""

    def stepper(p, g, state, s):
        each = [tuple(None if b is None else b[i] for b in state) for i in range(len(p))]
        columns = [step(type(rule), p[i], g[i], each[i], s) for i in range(len(p))]
        return tuple(None if row[0] is None else [float(v) for v in row] for row in zip(*columns, strict=True))

    return run(rule, np.ndarray.tolist, stepper)


def cases(rule):
    """Every set of flags by its label. Decoupling a decay of zero is no other way through the formula: left out."""
    chosen = {label: c for label, c in naive.settings(rule) if c["weight_decay"] or not c["decoupled_weight_decay"]}
    return {label: rule(**c) for label, c in chosen.items()}


def disagreements(paths):
    """Which rules' paths differ from NumPy's by more than 1e-12, and by how much; `paths` is rule → path by label."""
    far = {label: naive.distance(path, run_numpy(rule)) for label, (rule, path) in paths.items()}
    return {label: distance for label, distance in far.items() if not distance < 1e-12}


def split(row):
    """A row of scalars as flags, which are constants under a compiler, and numbers, which are arguments."""
    flags = {k: v for k, v in row._asdict().items() if isinstance(v, bool)}
    return flags, {k: v for k, v in row._asdict().items() if k not in flags}


@functools.cache
def jitted(update, row_type, flags):
    """A step of several rules with one formula, compiled together by jax.jit: flags constant, numbers traced.

    Rules that share a formula share what is compiled. Returned with a list that each compilation makes longer.
    """
    traces = []
    rule = collections.namedtuple("Has", "update")(update)  # the one attribute of a class that `step` asks for

    def stepper(ps, g, states, numbers):
        traces.append(numbers)
        rows = [row_type(**dict(f), **n) for f, n in zip(flags, numbers, strict=True)]
        return [step(rule, p, g, state, s) for p, state, s in zip(ps, states, rows, strict=True)]

    return jax.jit(stepper), traces


def jit(rules):
    """One step of each of some rules of one class, as one compiled function, and the list of its compilations."""
    rows = [rule.row(1) for rule in rules]
    return jitted(type(rules[0]).update, type(rows[0]), tuple(tuple(split(row)[0].items()) for row in rows))


# ---- agreement --------------------------------------------------------------------------------------------------


@TABLE
@pytest.mark.parametrize("runner", [run_torch, run_floats], ids=["torch", "floats"])
def test_eager_worlds_agree_with_numpy(rule, runner):
    """The formula on float64 tensors, and on Python's floats, gives NumPy's numbers, whatever the flags."""
    assert disagreements({label: (one, runner(one)) for label, one in cases(rule).items()}) == {}


def few(rule):
    """The sets with all off, one thing on, and with all that goes together, `cautious` among it."""
    every = cases(rule)
    last = list(every)[-1]
    return {label: one for label, one in every.items() if label.count("-") < 2 or label == last}


@pytest.mark.parametrize("of", [few, pytest.param(cases, marks=pytest.mark.slow)])
@TABLE
def test_jax_jit_agrees_with_numpy(rule, of):
    """The formula under jax.jit, with any flags as constants and all numbers traced, gives NumPy's numbers."""
    ones = list(of(rule).values())
    start, grads = naive.gradients(STEPS)
    with enable_x64():
        stepper, _ = jit(ones)
        ps = [jax.numpy.asarray(start)] * len(ones)
        states = [
            [jax.numpy.full(7, one.initial(n)) if n in one.kept_state() else None for n in rule.state] for one in ones
        ]
        paths = []
        for g, *all_rows in zip(grads, *(naive.rows(one, STEPS) for one in ones), strict=True):
            s = [with_stretch(*case[:2], g, *case[2:]) for case in zip(ones, ps, states, all_rows, strict=True)]
            out = stepper(ps, g, states, [split(row)[1] for row in s])
            ps, states = [new[0] for new in out], [list(new[1:]) for new in out]
            paths.append(np.array(ps))
        assert {p.dtype for p in ps} == {np.dtype(np.float64)}
    by_rule = zip(ones, np.stack(paths, axis=1), strict=True)
    assert disagreements(dict(zip(of(rule), by_rule, strict=True))) == {}


@TABLE
def test_a_new_learning_rate_recompiles_nothing(rule):
    """Numbers are arguments under jit: another step with another learning rate is not traced again."""
    stepper, traces = jit([rule()])
    before = len(traces)
    moved = []
    for t, lr in enumerate((0.1, 0.2, 0.3), start=1):
        one = rule(lr=lr)
        state = [np.full(3, 1.0 + one.initial(n)) if n in one.kept_state() else None for n in rule.state]
        p, *_ = stepper([np.ones(3)], np.ones(3), [state], [split(one.row(t))[1]])[0]
        moved.append(float(p[0]))
    assert len(set(moved)) == 3
    assert len(traces) <= before + 1


@TABLE
def test_what_a_cautious_step_heeds_is_the_same_everywhere(rule):
    """Which entries move, on tensors and under jax.jit, is what NumPy says: some of them, and not all."""
    start, grads = naive.gradients(2)
    label, one = list(cases(rule).items())[-1]
    assert one.cautious, label
    first, row = naive.rows(one, 2)
    state = tuple(np.full(7, one.initial(n)) if n in one.kept_state() else None for n in rule.state)
    start, *state = step(rule, start, grads[0], state, first)
    state = tuple(state)
    expected = cautious_mask(rule, start, grads[1], state, row)
    assert expected.dtype == bool
    assert expected.any()
    assert not expected.all()
    tensors = (None if b is None else torch.tensor(b) for b in state)
    by_torch = cautious_mask(rule, torch.tensor(start), torch.tensor(grads[1]), tuple(tensors), row)
    np.testing.assert_array_equal(by_torch.numpy(), expected)
    with enable_x64():
        by_jax = jax.jit(lambda p, g, state: cautious_mask(rule, p, g, state, row))(start, grads[1], state)
    np.testing.assert_array_equal(np.asarray(by_jax), expected)


# ---- the functions of maths -------------------------------------------------------------------------------------

EDGES = [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan]
PAIRS = np.array([(x, y) for x in EDGES for y in EDGES]).T.copy()


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda x, y: maths.sqrt(maths.absolute(x)), id="sqrt"),
        pytest.param(lambda x, y: maths.absolute(x), id="absolute"),
        pytest.param(lambda x, y: maths.sign(x), id="sign"),
        pytest.param(maths.maximum, id="maximum"),
        pytest.param(maths.minimum, id="minimum"),
        pytest.param(lambda x, y: maths.clip(x, -1.0, 2.0), id="clip"),
        pytest.param(lambda x, y: maths.clip(x, 0.5, math.inf), id="clip_below"),
        pytest.param(lambda x, y: maths.where(x > y, x, y), id="where"),
    ],
)
def test_maths_is_the_same_everywhere(call):
    """Each function agrees on all libraries at zeros, infinities and NaN, and answers in the operand's kind."""
    x, y = PAIRS
    expected = call(x, y)
    assert isinstance(expected, np.ndarray)
    by_torch = call(torch.tensor(x), torch.tensor(y))
    assert isinstance(by_torch, torch.Tensor)
    with enable_x64():
        by_jax = call(jax.numpy.asarray(x), jax.numpy.asarray(y))
        assert isinstance(by_jax, jax.Array)
        by_jit = jax.jit(call)(x, y)
    numbers = [float(call(a, b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_array_equal(numbers, expected)
    # On some processors the square roots of PyTorch (by MKL) and of XLA are not rounded to nearest.
    ulps = 1 if "sqrt" in call.__code__.co_names else 0
    for found in (by_torch.numpy(), np.asarray(by_jax), np.asarray(by_jit)):
        np.testing.assert_allclose(found, expected, rtol=ulps * 2.0**-52, atol=0)


def test_nan_wins_in_maximum_and_minimum():
    """A NaN on either side is not hidden by the larger or smaller number."""
    for pair in ((math.nan, 1.0), (1.0, math.nan)):
        x, y = (np.array([v]) for v in pair)
        assert np.isnan(maths.maximum(x, y)).all()
        assert np.isnan(maths.minimum(x, y)).all()


# ---- what keeps it so -------------------------------------------------------------------------------------------


@TABLE
def test_update_calls_nothing_but_maths(rule):
    """A formula uses `+ - * /` and the functions of `maths`: nothing that belongs to one of the libraries."""
    used = inspect.getclosurevars(inspect.unwrap(rule.update))
    assert set(used.globals.values()) <= {getattr(maths, name) for name in maths.__all__}
    assert used.builtins == used.nonlocals == {}
