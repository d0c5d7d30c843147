"""Rules as Optax transformations, by `descend.to_optax`: compiled, in scans and chains, with numbers that change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.engines.paths import GRADS, START, STEPS, by_reference, by_scan, far
from tests.oracles import naive

import descend
from descend.engines import Reference
from descend.engines.optax import RuleState
from descend.errors import OptionError, ParameterError, RuleError

optax = pytest.importorskip("optax")
RULES = [
    pytest.param(rule, id=name, marks=() if name in ("sgd", "nadam") else pytest.mark.slow)
    for name, rule in naive.shipped().items()
]
"""Each takes some seconds to compile: most are slow. What is not compiled is held for all by `test_conformance`."""

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


@pytest.fixture
def x64():
    """JAX in float64."""
    with enable_x64():
        yield


def chosen(rule):
    """Settings of a rule: plain, all that goes together, and those that tell whether a cautious step is right."""
    every = naive.settings(rule)
    plain = [one for one in every if not one[1]["cautious"]]
    return {label: rule(**c) for label, c in (plain[0], plain[-1], *(one for one in every if one[1]["cautious"]))}


SCHEDULED = {
    "cosine": descend.Adam(lr=descend.schedules.Cosine(0.1, steps=20)),
    "warmup": descend.SGD(lr=descend.schedules.LinearWarmup(0.1, steps=7), momentum=0.9),
    "one_cycle": descend.AdamW(lr=descend.schedules.OneCycle(0.1, steps=25), weight_decay=0.1),
    "betas": descend.Adam(lr=0.1, betas=(descend.schedules.OneCycle(0.9, steps=30), 0.99)),
    "step_decay": descend.RMSprop(lr=descend.schedules.StepDecay(0.1, every=4)),
    "decay_off_and_on": descend.SGD(lr=0.1, weight_decay=lambda done: 0.1 * (done % 2)),
    "carried": descend.NAdam(lr=descend.schedules.Exponential(0.1, 0.9)),
    "start": descend.ASGD(lr=lambda done: 0.1 / (1 + done)),
    "initial": descend.Rprop(lr=lambda done: 0.1 / (1 + done)),
}
"""Rules with numbers that depend on the step, through Python's own arithmetic."""


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rule", RULES)
def test_a_scan_agrees_with_the_reference(rule):
    """Every rule as a transformation in one compiled scan: plain, and with all that goes together."""
    cases = list(chosen(rule).items())
    assert far({label: (one, by_scan(descend.to_optax(one))) for label, one in (cases[0], cases[-1])}) == {}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [None, STEPS - 1, STEPS + 5], ids=["called", "table_too_short", "table"])
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, id=name, marks=() if name in ("betas", "carried") else pytest.mark.slow)
        for name, rule in SCHEDULED.items()
    ],
)
def test_schedules_in_a_scan(rule, steps):
    """Scalars of a traced step are those of the host, be they asked for or in a table, and after its end."""
    assert far({"": (rule, by_scan(descend.to_optax(rule, steps=steps)))}) == {}


@pytest.mark.parametrize(
    ("rule", "twin"),
    [
        pytest.param(descend.GD(lr=0.05), lambda: optax.sgd(0.05), id="gd"),
        pytest.param(descend.Momentum(lr=0.05), lambda: optax.sgd(0.05, 0.9), id="momentum"),
        pytest.param(descend.Nesterov(lr=0.05), lambda: optax.sgd(0.05, 0.9, nesterov=True), id="nesterov"),
        pytest.param(descend.Adam(lr=0.05, betas=(0.8, 0.95)), lambda: optax.adam(0.05, 0.8, 0.95), id="adam"),
        pytest.param(
            descend.AdamW(lr=0.05, betas=(0.8, 0.95), weight_decay=0.1),
            lambda: optax.adamw(0.05, 0.8, 0.95, weight_decay=0.1),
            id="adamw",
        ),
        pytest.param(
            descend.RMSprop(lr=0.05, alpha=0.8, momentum=0.5),
            lambda: optax.rmsprop(0.05, 0.8, momentum=0.5, eps_in_sqrt=False),
            id="rmsprop",
        ),
        # Optax adds eps under the root, and nothing where the sum is zero.
        pytest.param(descend.Adagrad(lr=0.05, eps=0.0), lambda: optax.adagrad(0.05, 0.0, eps=0.0), id="adagrad"),
    ],
)
def test_optax_has_the_same_numbers(rule, twin):
    """In float32, under jit and scan, a rule and Optax's own go the same way."""
    start, grads = START[:5].astype(np.float32), GRADS[:, :5].astype(np.float32)
    found, expected = (by_scan(one, start, grads) for one in (descend.to_optax(rule), twin()))
    assert found.dtype == np.float32
    assert np.abs(expected - start).max() > 0.1
    assert naive.distance(found, expected) < 1e-6


def test_scalars_keep_the_hosts_precision():
    """Bias corrections are computed in float64: a first step of Adam is lr long, which 1 − 0.999 in float32 misses."""
    p, g = jnp.zeros(1), jnp.ones(1)
    update, _ = descend.to_optax(descend.Adam(lr=1.0, eps=0.0)).update(g, descend.to_optax(descend.Adam()).init(p), p)
    assert abs(float(update[0]) + 1.0) < 2e-7


def test_in_a_chain():
    """Clipping before a rule, and Optax's own transformations after it, work as with Optax's own rules."""
    start, grads = START.astype(np.float32), GRADS.astype(np.float32)
    first, last = optax.clip_by_global_norm(1.0), optax.scale(0.5)
    found, expected = (
        by_scan(optax.chain(first, one, last), start, grads)
        for one in (descend.to_optax(descend.Momentum(lr=0.5)), optax.sgd(0.5, 0.9))
    )
    assert naive.distance(found, expected) < 1e-6


def test_among_parts_of_the_parameters():
    """Two rules for two parts of the parameters, and a wrapper that refuses steps that are not finite."""
    rules = {"w": descend.to_optax(descend.GD(lr=0.5)), "b": descend.to_optax(descend.Adam(lr=0.5))}
    optimizer = optax.apply_if_finite(optax.multi_transform(rules, {"w": "w", "b": "b"}), 3)
    p = {"w": jnp.ones(2), "b": jnp.ones(2)}
    state = optimizer.init(p)
    update = jax.jit(optimizer.update)
    for g in (1.0, np.nan):
        updates, state = update({"w": jnp.full(2, g), "b": jnp.full(2, 3.0 * g)}, state, p)
        p = optax.apply_updates(p, updates)
    np.testing.assert_allclose(p["w"], [0.5, 0.5])
    np.testing.assert_allclose(p["b"], [0.5, 0.5], rtol=1e-6)


def test_the_state():
    """It has the count, the carried numbers and a pytree of each kept state; Optax finds them by name."""
    optimizer = descend.to_optax(descend.NAdam())
    p = {"w": jnp.ones(2)}
    state = optimizer.init(p)
    assert isinstance(state, RuleState)
    assert jax.tree.map(np.shape, state) == RuleState(
        (), {"mu_product": ()}, {"exp_avg": {"w": (2,)}, "exp_avg_sq": {"w": (2,)}}
    )
    _, state = optimizer.update({"w": jnp.ones(2)}, state, p)
    assert int(state.count) == 1
    assert float(state.carried["mu_product"]) == pytest.approx(0.9 * (1 - 0.5 * 0.96**0.004))
    np.testing.assert_allclose(optax.tree_utils.tree_get(state, "exp_avg")["w"], 0.1, rtol=1e-6)


def test_donated_buffers():
    """Parameters and state can be donated to a compiled step."""
    optimizer = descend.to_optax(descend.Adam(lr=0.1, amsgrad=True))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(p, state, g):
        updates, state = optimizer.update(g, state, p)
        return optax.apply_updates(p, updates), state

    start, grads = START.astype(np.float32), GRADS.astype(np.float32)
    p = jnp.array(start, copy=True)
    state = optimizer.init(p)
    for g in grads:
        before = p, state
        p, state = step(p, state, jnp.asarray(g))
        assert all(b.is_deleted() for b in (before[0], *before[1].state.values()))
    np.testing.assert_allclose(p, by_reference(descend.Adam(lr=0.1, amsgrad=True), start, grads)[-1], atol=1e-5)


def calls_python(rule, **options):
    """Whether the compiled update calls the host."""
    optimizer = descend.to_optax(rule, **options)
    p = jnp.ones(2)
    return "callback" in jax.jit(optimizer.update).lower(p, optimizer.init(p), p).as_text()


def test_when_the_host_is_called():
    """Only for what depends on the step, and is used."""
    for rule in (descend.RMSprop(), descend.Adadelta(), descend.Lion(), descend.Rprop()):
        assert not calls_python(rule), rule
    for rule in (descend.Adam(), descend.ASGD(), descend.Lion(lr=descend.schedules.Constant(0.1))):
        assert calls_python(rule), rule
    assert calls_python(descend.RMSprop(), lr=jnp.float32(0.1))


def test_what_asks_for_the_step_is_not_constant():
    """Any way to look at the step counts: a comparison, a truth value, a key, a text."""
    ways = {
        "equal": lambda t: t == 1,
        "unequal": lambda t: t != 1,
        "less": lambda t: t < 3,
        "truth": bool,
        "key": lambda t: {1: 1.0}.get(t, 0.0),
        "among": lambda t: t in (1, 2),
        "text": lambda t: len(f"{t}") - 1,
        "written": lambda t: len(str(t)) - 1,
    }
    for name, way in ways.items():

        class Asking(descend.Rule, register=False):
            """Gradient descent by something of the step."""

            lr: float = 0.1

            def scalars(self, t, way=way):
                return {"weight": float(way(t))}

            @staticmethod
            def update(p, g, s):
                return p - s.weight * g

        assert calls_python(Asking()), name


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rule", RULES)
def test_hyperparams_in_the_state(rule):
    """With `optax.inject_hyperparams` the rate is in the state: another one compiles nothing, and acts at once."""
    traces = []
    optimizer = optax.inject_hyperparams(lambda lr: descend.to_optax(rule(), lr=lr))(lr=0.25)

    @jax.jit
    def step(p, state, g):
        traces.append(g)
        updates, state = optimizer.update(g, state, p)
        return optax.apply_updates(p, updates), state

    p = jnp.asarray(START)
    state = jax.jit(optimizer.init)(p)
    expected = Reference(rule(lr=0.25), [START.copy()])
    for i, g in enumerate(GRADS[:6]):
        if i == 3:
            expected.rule = rule(lr=0.125)
            state.hyperparams["lr"] = jnp.asarray(0.125, jnp.float64)
        expected.step([g])
        p, state = step(p, state, jnp.asarray(g))
    np.testing.assert_allclose(p, expected.params[0], rtol=1e-12, atol=1e-12)
    assert len(traces) == 1


def test_schedules_of_optax():
    """A schedule of Optax's is a function of the traced step: it may be injected, or be the rule's own."""
    schedule = optax.cosine_decay_schedule(0.1, 20)
    start, grads = START.astype(np.float32), GRADS.astype(np.float32)
    expected = by_scan(optax.sgd(schedule, 0.9), start, grads)
    for optimizer in (
        optax.inject_hyperparams(lambda lr: descend.to_optax(descend.Momentum(), lr=lr))(lr=schedule),
        descend.to_optax(descend.Momentum(lr=schedule)),
        descend.to_optax(descend.Momentum(lr=schedule), steps=3),
    ):
        assert naive.distance(by_scan(optimizer, start, grads), expected) < 1e-6


@pytest.mark.parametrize("steps", [None, 2])
def test_schedules_of_optax_beside_pythons(steps):
    """Each part of a tuple may follow one; a compiled step computes JAX's, and calls the host with their numbers."""
    schedule = optax.linear_schedule(0.9, 0.5, 4)
    start, grads = START.astype(np.float32), GRADS[:6].astype(np.float32)
    second = descend.schedules.Exponential(0.99, 0.99)
    found, expected = (
        by_scan(descend.to_optax(descend.NAdam(lr=0.1, betas=(first, second)), steps=steps), start, grads)
        for first in (schedule, lambda done: 0.9 - 0.1 * min(done, 4))
    )
    assert naive.distance(found, expected) < 1e-6
    asked = []

    def noted(count):
        asked.append(count)
        return schedule(count)

    optimizer = descend.to_optax(descend.Adam(betas=(noted, second)))
    asked.clear()
    p = jnp.ones(2)
    state = optimizer.init(p)
    asked.clear()
    update = jax.jit(optimizer.update)
    for _ in range(3):
        _, state = jax.block_until_ready(update(p, state, p))
    assert all(isinstance(count, (int, jax.core.Tracer)) for count in asked)
    assert len(asked) <= 2


EXTRA = {
    "alone": lambda one: one,
    "with_extra_args_support": optax.with_extra_args_support,
    "chain": lambda one: optax.chain(optax.clip_by_global_norm(1.0), one, optax.contrib.reduce_on_plateau(patience=1)),
    "line search": lambda one: optax.chain(one, optax.scale_by_backtracking_linesearch(max_backtracking_steps=5)),
    "multi_transform": lambda one: optax.multi_transform({"a": one, "b": optax.sgd(0.1)}, {"w": "a", "b": "b"}),
    "masked": lambda one: optax.masked(one, {"w": True, "b": False}),
    "apply_if_finite": lambda one: optax.apply_if_finite(one, 2),
    "MultiSteps": lambda one: optax.MultiSteps(one, 2).gradient_transformation(),
}
"""Optax's own transformations around one that is given."""


@pytest.mark.parametrize(
    "around",
    [pytest.param(n, marks=() if n in ("alone", "masked", "multi_transform") else pytest.mark.slow) for n in EXTRA],
)
def test_extra_arguments(around):
    """They are accepted as by Optax's own optimizers, and reach those around that need them."""
    p = {"w": jnp.ones(3), "b": jnp.full(2, -1.0)}
    results = []
    for one in (descend.to_optax(descend.Momentum(lr=0.1)), optax.sgd(0.1, 0.9)):
        optimizer, found = EXTRA[around](one), p
        state = optimizer.init(found)
        for _ in range(4):
            value, grads = jax.value_and_grad(_bowl)(found)
            extra = {"value": value, "grad": grads, "value_fn": _bowl}
            updates, state = optimizer.update(grads, state, found, **extra)
            found = optax.apply_updates(found, updates)
        results.append(found)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *results)


def _bowl(p):
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(p))


@pytest.mark.usefixtures("x64")
def test_tuples_and_decay_can_be_traced():
    """Each number of a tuple; and a decay that is not zero in the rule, or may become so."""

    def run(lr, betas, weight_decay):
        rule = descend.Adam(decoupled_weight_decay=True)
        optimizer = descend.to_optax(rule, lr=lr, betas=betas, weight_decay=weight_decay)
        p = jnp.asarray(START)
        state = optimizer.init(p)
        for g in GRADS[:3]:
            updates, state = optimizer.update(jnp.asarray(g), state, p)
            p = optax.apply_updates(p, updates)
        return p

    run = jax.jit(run)
    for betas, decay in (((0.5, 0.75), 0.5), ((0.9, 0.99), 0.0)):
        rule = descend.Adam(lr=0.1, betas=betas, weight_decay=decay, decoupled_weight_decay=True)
        expected = by_reference(rule, grads=GRADS[:3])[-1]
        np.testing.assert_allclose(run(0.1, betas, decay), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [None, 2, 5])
def test_vmap(steps):
    """Several runs at once, each with its own count, are the runs one by one."""
    optimizer = descend.to_optax(descend.NAdam(lr=0.1, cautious=True), steps=steps)
    p = jnp.asarray(np.stack([START, -START]), jnp.float32)
    state = jax.vmap(optimizer.init)(p)
    update = jax.jit(jax.vmap(optimizer.update))
    for g in GRADS[:4]:
        updates, state = update(jnp.stack([jnp.float32(g), 2.0 * jnp.float32(g)]), state, p)
        p = optax.apply_updates(p, updates)
    for i, (sign, factor) in enumerate(((1, 1), (-1, 2))):
        rule = descend.NAdam(lr=0.1, cautious=True)
        expected = by_reference(rule, (sign * START).astype(np.float32), (factor * GRADS[:4]).astype(np.float32))
        np.testing.assert_allclose(p[i], expected[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_derivatives_through_steps():
    """The loss after some steps of Adam is differentiated by the start, as finite differences have it."""
    optimizer = descend.to_optax(descend.Adam(lr=0.1))

    def after(start):
        p, state = start, optimizer.init(start)
        for _ in range(3):
            updates, state = optimizer.update(p**3, state, p)
            p = optax.apply_updates(p, updates)
        return (p**2).sum()

    start, h = jnp.array([1.0, 2.0]), 1e-6
    slope = jax.jit(jax.grad(after))(start)
    for i in range(2):
        shift = h * jnp.eye(2)[i]
        assert float(slope[i]) == pytest.approx(float(after(start + shift) - after(start - shift)) / (2 * h), rel=1e-6)


def test_a_rule_needs_the_parameters():
    """Left out, as some of Optax's transformations allow, they are asked for."""
    optimizer = descend.to_optax(descend.GD())
    with pytest.raises(ValueError, match=r"params=None: .* call update\(grads, state, params\)"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_transformations_want_real_numbers():
    """Integers are no parameters; NumPy's arrays are, as for Optax."""
    optimizer = descend.to_optax(descend.GD(lr=1.0))
    with pytest.raises(ParameterError, match=r"params\['w'\] is .*: a JAX array of a real floating-point type"):
        optimizer.init({"w": np.arange(2)})
    p = np.ones(2, np.float32)
    assert optimizer.update(np.ones(2), optimizer.init(p), p)[0].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"lrr": 0.1}, RuleError, "Adam has no number 'lrr': did you mean 'lr'", id="unknown"),
        pytest.param({"amsgrad": True}, RuleError, "Adam has no number 'amsgrad'", id="flag"),
        pytest.param({"lr": jnp.ones(2)}, RuleError, "lr must be a number", id="array"),
        pytest.param({"betas": 0.9}, RuleError, r"betas must be 2 numbers", id="tuple"),
        pytest.param({"steps": 0}, OptionError, r"to_optax\(steps=0\): steps must be a whole number ≥ 1", id="zero"),
        pytest.param({"steps": 2.5}, OptionError, r"steps must be a whole number ≥ 1", id="half"),
        pytest.param({"steps": 5, "lr": 0.1}, OptionError, "a table cannot have traced numbers", id="table"),
    ],
)
def test_bad_options(options, error, message):
    """What cannot be traced or tabulated is refused where it is asked for."""
    with pytest.raises(error, match=message):
        descend.to_optax(descend.Adam(), **options)


def test_errors_of_the_host_come_through():
    """A schedule that leaves the range of its number stops the compiled step with the rule's own message."""
    optimizer = descend.to_optax(descend.GD(lr=lambda done: 0.1 - done))
    p = jnp.ones(2)
    update = jax.jit(optimizer.update)
    _, state = update(p, optimizer.init(p), p)
    with pytest.raises(Exception, match=r"RuleError: GD\(lr=-0.9\): lr must be a finite number ≥ 0"):
        jax.block_until_ready(update(p, state, p))
