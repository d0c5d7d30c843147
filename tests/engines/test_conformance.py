"""Every engine × every rule: one table, against the reference engine, which is held by the papers' plain loops.

A rule is in it by being registered, an engine by standing in `tests.engines.drivers.ENGINES`.
"""

import dataclasses

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from tests.engines.drivers import COMPILING, ENGINES, MACHINE_CODE, engines_but, marked, snapshot
from tests.oracles import naive

import descend
from descend.engines import Reference
from descend.engines.torch import compiled
from descend.errors import DescendError
from descend.rules import maths

STEPS = 4
SHAPES = ((3,), (), (0,), (5, 7), (0, 3), (1,))
QUICK = ("sgd",)
"""The rules that the slow compilers get by default."""


class Remembering(descend.Rule, register=False):
    """Keeps the last two gradients: each step returns arrays that it was given."""

    lr: float = 0.1

    @staticmethod
    def update(p, g, last, before_last, s):
        return p - s.lr * (g + 0.5 * last + 0.25 * before_last), g, last


class Swapping(descend.Rule, register=False):
    """Exchanges its two states at each step; the first starts at 1."""

    lr: float = 0.1

    def initial(self, state):
        return 1.0 if state == "one" else 0.0

    @staticmethod
    def update(p, g, one, other, s):
        return p - s.lr * one * g, other, one


class NumPyScalars(descend.Rule, register=False):
    """Its scalars are NumPy's, which would make float64 of float32; literals and a power are in its formula."""

    lr: float = 0.1

    def scalars(self, t):
        return {"factor": np.sqrt(np.float64(t)), "count": np.int64(t)}

    @staticmethod
    def update(p, g, mean, s):
        mean = 0.5 * mean + g**2 + 2 * g
        return p - s.lr * s.factor * maths.clip(mean, -1, 1) / (s.count + maths.absolute(mean) ** 0.5), mean


class Plain(descend.Rule, register=False):
    """Has no state, and returns the parameter alone."""

    lr: float = 0.1

    @staticmethod
    def update(p, g, s):
        return p - s.lr * maths.sign(g)


OWN = (Remembering, Swapping, NumPyScalars, Plain)
RULES = {**naive.shipped(), **{rule.name: rule for rule in OWN}}


def settings(rule):
    """A rule plain, with all that goes together, and that cautiously; a scheduled rate."""
    if rule in OWN:
        yield from (rule(), rule(cautious=True, weight_decay=0.1, maximize=True))
    else:
        every = naive.settings(rule)
        plain = [chosen for _, chosen in every if not chosen["cautious"]]
        yield from (rule(**chosen) for chosen in (plain[0], plain[-1], every[-1][1]))
    yield rule(lr=lambda done: 0.1 / (1 + done))


def drawn(dtype, shapes=SHAPES):
    """Parameters, and gradients for each step: zeros, huge and tiny ones among them."""
    rng = np.random.default_rng(0)
    params = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    grads = [[np.asarray(rng.normal(size=shape), dtype) for shape in shapes] for _ in range(STEPS)]
    for given in grads:
        given[0][0] = 0.0
        given[0][1] *= 1e6
        given[0][2] *= 1e-6
    return params, grads


@pytest.fixture
def without_inductor(monkeypatch):
    """`torch.compile` but for its last stage, which needs a C++ compiler."""
    backend = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    real = torch.compile
    monkeypatch.setattr(compiled.torch, "compile", lambda *a, **k: real(*a, backend=backend, **k))
    compiled._program.cache_clear()
    yield
    compiled._program.cache_clear()


def assert_same(driver, reference, label):
    """Parameters, state, carried numbers and the count are the reference engine's."""
    assert driver.steps == reference.steps, label
    assert driver.carried == pytest.approx(reference.carried, rel=1e-6), label
    for i, (p, q) in enumerate(zip(driver.params, reference.params, strict=True)):
        pairs = {"the parameter": (p, q)}
        assert {*driver.state[i]} == {*reference.state[i]}, label
        pairs |= {name: (array, reference.state[i][name]) for name, array in driver.state[i].items()}
        for name, (found, expected) in pairs.items():
            where = f"{label}: {name} of shape {expected.shape}"
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
            if driver.exact:
                assert found.tobytes() == expected.tobytes(), where
            else:
                precise = found.dtype == np.float64 and not (driver.carries_float32 and reference.carried)
                rounding = 1e-12 if precise else 1e-5
                np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding, err_msg=where)


def table():
    """Each engine with each rule, briefly where that takes long; those at length, and the slow compilers, are slow."""
    for engine, make in ENGINES.items():
        for rule in RULES.values():
            slow = pytest.mark.slow
            late = engine in COMPILING and rule.name not in QUICK
            marks = [*([slow] if late else []), *([pytest.mark.machine_code] if engine in MACHINE_CODE else [])]
            if engine != "reference":
                yield pytest.param(engine, rule, make.quick, id=f"{engine}-{rule.name}", marks=marks)
            if not make.quick:
                yield pytest.param(engine, rule, True, id=f"{engine}-{rule.name}-thorough", marks=slow)


@pytest.mark.usefixtures("without_inductor")
@pytest.mark.parametrize(("engine", "rule", "thorough"), [*table()])
def test_engine_agrees_with_the_reference(engine, rule, thorough):
    """Numbers, state, carried numbers and counts, in both types, for each setting; empty arrays and single numbers."""
    make = ENGINES[engine]
    usable = [one for one in settings(rule) if make.cautious or not one.cautious]
    for dtype in (np.float32, np.float64) if thorough else (np.float64,):
        for one in usable if thorough else usable[-2:-1]:
            params, grads = drawn(dtype, SHAPES if thorough else SHAPES[:3:2])
            reference = Reference(one, [p.copy() for p in params])
            driver = make(one, params)
            for given in grads:
                reference.step(given)
                driver.step([g.copy() for g in given])
            assert_same(driver, reference, f"{one} in {np.dtype(dtype).name}")
            if make.same_memory:
                assert all(np.shares_memory(p, q) for p, q in zip(driver.params, params, strict=True) if p.size)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_reference_is_the_formula(rule):
    """The reference engine's bits are those of the formula on copies of whole arrays, without an engine."""
    for one in settings(rule):
        params, grads = drawn(np.float32)
        engine = Reference(one, [p.copy() for p in params])
        for given in grads:
            engine.step(given)
        for i, p in enumerate(params):
            expected, state = naive.whole(one, p, [given[i] for given in grads])
            assert engine.params[i].tobytes() == np.asarray(expected).tobytes(), one
            for name, array in engine.state[i].items():
                assert array.tobytes() == np.asarray(state[name]).tobytes(), (one, name)


# ---- errors that leave all as it was ----------------------------------------------------------------------------


class FailsAt:
    """A schedule that raises at one step until it is mended: a torch optimizer asks for its number twice."""

    def __init__(self, step):
        self.step, self.mended = step, False

    def __call__(self, done):
        if done == self.step - 1 and not self.mended:
            raise LookupError("no rate today")
        return 0.1  # as at every other step


def failing_scalars(step):
    """A rule whose scalars raise at one step, the first time."""
    asked = []

    class Failing(descend.Rule, register=False):
        """Momentum with a factor that fails."""

        lr: float = 0.1
        carried = {"product": 1.0}  # noqa: RUF012

        def carry(self, t, before):
            if t == step and not asked:
                asked.append(t)
                raise LookupError("no scalars today")
            return {"factor": 1.0 / t}, {"product": 0.5 * before["product"]}

        @staticmethod
        def update(p, g, mean, s):
            mean = 0.5 * mean + g
            return p - s.lr * s.factor * mean, mean

    return Failing()


FAILURES = {
    "schedule": lambda: descend.Adam(lr=FailsAt(3)),
    "scalars": lambda: failing_scalars(3),
}


@pytest.mark.usefixtures("without_inductor")
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("engine", engines_but(*COMPILING))
def test_an_error_of_the_rule_leaves_all_as_it_was(engine, failure):
    """A schedule or scalars that raise in mid-descent; the same step then goes as if nothing had been."""
    make = ENGINES[engine]
    good = {"schedule": descend.Adam(lr=0.1), "scalars": failing_scalars(99)}[failure]
    params, grads = drawn(np.float64, SHAPES if make.quick else SHAPES[:3:2])
    reference = Reference(good, [p.copy() for p in params])
    failing = FAILURES[failure]()
    driver = make(failing, params)
    for i, given in enumerate(grads):
        reference.step(given)
        if i == 2:
            before = snapshot(driver)
            with pytest.raises(Exception, match=r"no rate today|no scalars today"):
                driver.step([g.copy() for g in given])
            assert snapshot(driver) == before
            if failure == "schedule":
                failing.lr.mended = True
        driver.step([g.copy() for g in given])
    assert_same(driver, reference, failure)


BAD = {
    "shape": lambda grads: [grads[0][:2], *grads[1:]],
    "last_shape": lambda grads: [*grads[:-1], grads[-1].reshape(1, 1)],
    "complex": lambda grads: [*grads[:3], grads[3] * 1j, *grads[4:]],
    "too_few": lambda grads: grads[:-1],
    "none": lambda grads: [],
    "too_many": lambda grads: [*grads, grads[0]],
    "text": lambda grads: ["slope", *grads[1:]],
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("engine", [*map(marked, ("reference", "fused", "tensor", "foreach", "jax"))])
def test_a_bad_gradient_leaves_all_as_it_was(engine, bad):
    """Of another shape, kind or number: one of descend's errors, and the next step goes as if nothing had been."""
    rule = descend.NAdam(lr=0.1)
    params, grads = drawn(np.float64)
    reference = Reference(rule, [p.copy() for p in params])
    driver = ENGINES[engine](rule, params)
    for given in grads:
        reference.step(given)
        before = snapshot(driver)
        with pytest.raises(DescendError):
            driver.step(BAD[bad](given))
        assert snapshot(driver) == before
        driver.step(given)
    assert_same(driver, reference, bad)


# ---- rules that take another's place ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [*map(marked, ("reference", "fused", "tensor", "foreach", "jax"))])
def test_another_rule_with_other_numbers(engine):
    """It acts from the next step on; one that keeps other state is refused."""
    params, grads = drawn(np.float64)
    one, other = descend.SGD(lr=0.1, momentum=0.9), descend.SGD(lr=0.01, momentum=0.5)
    reference = Reference(one, [p.copy() for p in params])
    driver = ENGINES[engine](one, params)
    for i, given in enumerate(grads):
        if i == 2:
            reference.rule = driver.engine.rule = other
        reference.step(given)
        driver.step(given)
    assert_same(driver, reference, "replaced")
    before = snapshot(driver)

    def replaced():
        driver.engine.rule = descend.SGD(lr=0.1)
        driver.step(grads[0])

    with pytest.raises(DescendError, match="keeps the state"):
        replaced()
    assert snapshot(driver) == before


@pytest.mark.machine_code
def test_machine_code_refuses_a_rule_with_other_flags():
    """The flags are compiled in."""
    driver = ENGINES["fused"](descend.Adam(), [np.ones(3)])
    with pytest.raises(DescendError, match=r"another maximize"):
        driver.engine.rule = descend.Adam(maximize=True)
    driver.engine.rule = dataclasses.replace(driver.engine.rule, lr=0.5)


# ---- formulas that are not known to be elementwise --------------------------------------------------------------


class Opaque(descend.Rule, register=False):
    """Divides by the largest entry of the gradient, in a way that tracing cannot see."""

    lr: float = 0.5

    @staticmethod
    def update(p, g, s):
        own = g.astype(g.dtype)
        return p - s.lr * own / abs(own).max()


def test_a_formula_that_cannot_be_traced_sees_whole_arrays():
    """No block of them, and not those of several parameters in one: in the engine, in descents and in stacks."""
    p = np.zeros(100_000)
    Reference(Opaque(), [p]).step([np.arange(100_000.0)])
    np.testing.assert_array_equal(p, -0.5 * np.arange(100_000.0) / 99_999)
    start = {"a": np.array([1.0, 2.0]), "b": np.array([100.0])}
    found = descend.minimize(
        lambda x: float((x["a"] ** 2).sum() + (x["b"] ** 2).sum()) / 2,
        start,
        jac=lambda x: x,
        method=Opaque(),
        max_steps=1,
    )
    assert (found.x["a"].tolist(), found.x["b"].tolist()) == ([0.75, 1.5], [99.5])
