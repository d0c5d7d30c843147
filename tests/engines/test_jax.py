"""The JAX engine: compiled once, numbers being arguments; containers, narrow types, devices, errors."""

import collections
import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tests.engines.paths import GRADS, START, STEPS, by_scan, far
from tests.oracles import naive

import descend
from descend.engines import Jax, Reference
from descend.engines import jax as module
from descend.engines.torch.tensors import tensor_step
from descend.errors import ParameterError, RuleError

optax = pytest.importorskip("optax")
Layer = collections.namedtuple("Layer", ["weight", "bias"])
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


@pytest.fixture
def x64():
    """JAX in float64."""
    with enable_x64():
        yield


def by_engine(rule, start=START, grads=GRADS):
    """The numbers after each step of the JAX engine."""
    engine = Jax(rule, jnp.asarray(start))
    path = []
    for g in grads:
        engine.step(jnp.asarray(g))
        path.append(np.asarray(engine.params))
    return np.array(path)


@pytest.fixture
def traces(monkeypatch):
    """The shapes of the first parameter of each step that is traced."""
    found = []
    traced = module.stepped

    def noted(form, params, *rest):
        found.append(params[0].shape)
        return traced(form, params, *rest)

    monkeypatch.setattr(module, "stepped", noted)
    return found


def fresh():
    """A rule for which nothing is compiled yet."""

    class Traced(descend.Rule, register=False):
        """Gradient descent with a number of each kind, and state."""

        lr: float = 0.1
        betas: tuple[float, float] = (0.5, 0.25)

        def scalars(self, t):
            return {"shrinking": self.lr / t}

        @staticmethod
        def update(p, g, exp_avg, s):
            exp_avg = s.beta1 * exp_avg + s.beta2 * g
            return p - s.shrinking * exp_avg, exp_avg

    return Traced


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
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, id=name, marks=() if name in ("betas", "carried") else pytest.mark.slow)
        for name, rule in SCHEDULED.items()
    ],
)
def test_schedules_in_the_engine(rule):
    """Numbers that depend on the step are those of the reference engine."""
    assert far({"": (rule, by_engine(rule))}) == {}


def test_numbers_compile_nothing(traces):
    """Steps, schedules, another rate, other betas, another engine: one trace. Another shape or flag: another."""
    rule = fresh()
    engine = Jax(rule(), jnp.ones(3))
    for _ in range(3):
        engine.step(jnp.ones(3))
    engine.rule = dataclasses.replace(engine.rule, lr=0.5, betas=(0.1, 0.2))
    engine.step(jnp.ones(3))
    moved = engine.params
    scheduled = Jax(rule(lr=lambda done: 1.0 / (1 + done)), jnp.zeros(3))
    for _ in range(3):
        scheduled.step(jnp.ones(3))
    assert traces == [(3,)]
    assert not np.array_equal(moved, scheduled.params)
    Jax(rule(), jnp.ones(4)).step(jnp.ones(4))
    Jax(rule(maximize=True), jnp.ones(3)).step(jnp.ones(3))
    assert traces == [(3,), (4,), (3,)]


def test_memory_is_taken_over():
    """A step donates parameters and state; what the user gave is left alone, the gradient too."""
    mine, g = jnp.ones(3), jnp.full(3, 2.0)
    engine = Jax(descend.Adam(lr=0.1), {"w": mine})
    before, state = engine.params["w"], engine.state["exp_avg"]["w"]
    engine.step({"w": g})
    assert before.is_deleted()
    assert state.is_deleted()
    assert mine.tolist() == [1.0] * 3
    assert g.tolist() == [2.0] * 3
    assert engine.steps == 1


def test_a_gradient_that_is_the_parameter():
    """The gradient of x² / 2 is x itself: its memory, which the step takes over, can be given as the gradient."""
    engine = Jax(descend.GD(lr=0.5), jnp.array([1.0, -2.0]))
    engine.step(engine.params)
    assert engine.params.tolist() == [0.5, -1.0]


def test_one_array_in_two_places():
    """The same array given twice is two parameters."""
    p = jnp.ones(2)
    engine = Jax(descend.Momentum(lr=1.0), [p, p])
    engine.step([jnp.ones(2), jnp.zeros(2)])
    assert [leaf.tolist() for leaf in engine.params] == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("cautious", [pytest.param(False, marks=pytest.mark.slow), True])
def test_containers(cautious):
    """Parameters in any pytree, of several types, shapes and sizes, come back in it; each array is cautious alone."""
    rule = descend.Momentum(lr=0.1, cautious=cautious)
    rng = np.random.default_rng(0)

    def draw(shape):
        return rng.normal(size=shape).astype(np.float32)

    tree = {
        "layers": [Layer(draw((3, 4)), draw(4)), Layer(draw((4, 2)), draw(2))],
        "none": None,
        "scalar": draw(()),
        "empty": draw((0, 3)),
    }
    slopes = [jax.tree.map(lambda p: draw(p.shape), tree) for _ in range(5)]
    expected = [np.array(leaf) for leaf in jax.tree.leaves(tree)]
    reference = Reference(rule, expected)
    engine = Jax(rule, jax.tree.map(jnp.asarray, tree))
    optimizer = descend.to_optax(rule)
    p = jax.tree.map(jnp.asarray, tree)
    state = optimizer.init(p)
    for g in slopes:
        reference.step(jax.tree.leaves(g))
        engine.step(g)
        updates, state = optimizer.update(g, state, p)
        p = optax.apply_updates(p, updates)
    for found in (engine.params, p):
        assert jax.tree.structure(found) == jax.tree.structure(tree)
        for one, other in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert isinstance(engine.params["layers"][0], Layer)
    assert isinstance(state.state["momentum_buffer"]["layers"][0], Layer)


@pytest.mark.parametrize(("dtype", "cautious"), [("float16", False), ("bfloat16", False), ("bfloat16", True)])
def test_numbers_of_16_bits(dtype, cautious):
    """They are stepped in float32, and rounded after each step, as the tensor engine does it; by Optax, too."""
    rule = descend.Adam(lr=0.1, weight_decay=0.1, cautious=cautious)
    start, grads = START.astype(np.float32), np.clip(GRADS, -100, 100).astype(np.float32)
    p = torch.tensor(start).to(getattr(torch, dtype))
    state = {name: torch.zeros_like(p, dtype=torch.float32) for name in rule.kept_state()}
    engine = Jax(rule, jnp.asarray(start).astype(dtype))
    optimizer = descend.to_optax(rule)
    q = jnp.asarray(start).astype(dtype)
    kept = optimizer.init(q)
    update = jax.jit(optimizer.update)
    for g, row in zip(grads, naive.rows(rule, STEPS), strict=True):
        tensor_step(rule, row, p, torch.tensor(g).to(p.dtype), state)
        engine.step(jnp.asarray(g).astype(dtype))
        updates, kept = update(jnp.asarray(g).astype(dtype), kept, q)
        q = optax.apply_updates(q, updates)
    assert engine.params.dtype == updates.dtype == dtype
    assert engine.state["exp_avg"].dtype == kept.state["exp_avg"].dtype == np.float32
    last_digit = float(jnp.finfo(dtype).eps)
    # What Optax adds is rounded itself, which may turn a mask over.
    for found in (engine.params,) if cautious else (engine.params, q):
        np.testing.assert_allclose(found.astype(np.float32), p.float().numpy(), rtol=last_digit, atol=last_digit)


def test_weak_and_wide_types_change_nothing(traces):
    """A Python number's array is not traced twice, and float32 stays float32 beside float64."""
    rule = fresh()
    engine = Jax(rule(), jnp.asarray(1.0))
    for _ in range(2):
        engine.step(jnp.float32(1.0))
    assert traces == [()]
    with enable_x64():
        engine = Jax(descend.Adam(), [jnp.ones(2, jnp.float32), jnp.ones(2)])
        engine.step([jnp.ones(2, jnp.float32), jnp.ones(2)])
        assert [p.dtype.name for p in engine.params] == ["float32", "float64"]
        assert [p.dtype.name for p in engine.state["exp_avg"]] == ["float32", "float64"]


def test_arrays_on_several_devices():
    """Parameters that are spread over devices stay so, their state too; a cautious share is that of the whole array."""
    script = """
import jax, jax.numpy as jnp, numpy as np, descend
from jax.sharding import Mesh, NamedSharding, PartitionSpec
spread = NamedSharding(Mesh(np.array(jax.devices()), ("x",)), PartitionSpec("x"))
p, g = np.arange(8.0, dtype=np.float32), np.array([1, -1] * 4, np.float32)
rule = descend.NAdam(lr=0.1, cautious=True)
reference = descend.engines.Reference(rule, [p.copy()])
engine = descend.engines.Jax(rule, jax.device_put(p, spread))
optimizer = descend.to_optax(rule)
q = jax.device_put(p, spread)
state = optimizer.init(q)
for i in range(3):
    slope = np.roll(g, i) * (1 + i)
    reference.step([slope])
    engine.step(jax.device_put(slope, spread))
    move, state = jax.jit(optimizer.update)(jax.device_put(slope, spread), state, q)
    q = q + move
for found in (engine.params, q):
    np.testing.assert_allclose(found, reference.params[0], rtol=1e-5)
for kept in (engine.params, q, *engine.state.values(), *state.state.values()):
    assert len(kept.sharding.device_set) == 4 and not kept.sharding.is_fully_replicated
"""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", script], check=True, env=env)


@pytest.mark.parametrize("leaf", [np.ones(2), [1.0], jnp.arange(2), jnp.ones(2) * 1j], ids=str)
def test_the_engine_wants_jax_arrays_of_real_numbers(leaf):
    """Anything else is named, and where it stands."""
    with pytest.raises(ParameterError, match=r"params\['w'\].* is .*: a JAX array of a real floating-point type"):
        Jax(descend.GD(), {"w": leaf})


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        pytest.param({"v": jnp.ones(2)}, "the gradients are not built like the parameters", id="key"),
        pytest.param([jnp.ones(2)], "the gradients are not built like the parameters", id="container"),
        pytest.param({"w": jnp.ones(3)}, r"a gradient of shape \(3,\) for a parameter of shape \(2,\)", id="shape"),
        pytest.param({"w": 1.0}, r"a gradient is 1.0: an array of real numbers is needed", id="number"),
        pytest.param({"w": jnp.ones(2) * 1j}, "an array of real numbers is needed", id="complex"),
    ],
)
def test_a_bad_gradient_changes_nothing(grads, message):
    """It is refused before the step, which can be made anew with a good one."""
    engine = Jax(descend.Momentum(lr=1.0), {"w": jnp.ones(2)})
    with pytest.raises(ParameterError, match=message):
        engine.step(grads)
    assert engine.steps == 0
    engine.step({"w": jnp.ones(2)})
    assert engine.params["w"].tolist() == [0.0, 0.0]


def test_a_rule_with_other_state_does_not_fit():
    """A rule may be replaced by one with other numbers, not by one that keeps other state."""
    engine = Jax(descend.SGD(momentum=0.9), jnp.ones(2))
    engine.rule = descend.Adam()
    with pytest.raises(ParameterError, match=r"Adam\(.*\) keeps the state \('exp_avg', .*make another engine"):
        engine.step(jnp.ones(2))


def test_flags_that_change_cannot_be_compiled():
    """A flag that `scalars` computes from the step would be frozen at the first step's: it is refused."""

    class Flipping(descend.Rule, register=False):
        """Gradient descent by a formula that changes."""

        lr: float = 0.1

        def scalars(self, t):
            return {"late": t > 2}

        @staticmethod
        def update(p, g, s):
            return p + g if s.late else p - g

    with pytest.raises(RuleError, match="scalars of step 3 have other names or flags than those of step 1"):
        by_scan(descend.to_optax(Flipping(), steps=5))
    engine = Jax(Flipping(), jnp.zeros(1))  # which compiles a second form
    for _ in range(3):
        engine.step(jnp.ones(1))
    assert engine.params.tolist() == [-1.0]


@pytest.mark.parametrize(
    ("missing", "wanted", "message"),
    [
        ("jax", "engines.Jax", "descend.engines.Jax needs jax, which is not installed: pip install 'descend[jax]'"),
        ("jax", "to_optax", "descend.to_optax needs jax, which is not installed: pip install 'descend[optax]'"),
        ("optax", "to_optax", "descend.to_optax needs optax, which is not installed: pip install 'descend[optax]'"),
    ],
)
def test_what_is_missing_is_said_in_one_line(missing, wanted, message):
    """Without JAX or Optax the names that need them say which extra to install."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import descend\n"
        f"try: descend.{wanted}\n"
        "except descend.errors.MissingExtra as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == message + "\n"


def test_engines_load_jax_when_it_is_asked_for():
    """`descend.engines` imports JAX for `Jax` alone, and that needs no Optax."""
    script = (
        "import sys, descend\ndescend.engines.Reference\nassert 'jax' not in sys.modules\n"
        "descend.engines.Jax\nassert 'jax' in sys.modules and 'optax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
