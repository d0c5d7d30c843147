"""Every engine behind one face, for tables of tests: made of a rule and NumPy arrays, stepped by NumPy arrays.

A driver has `step`, `params`, `state` (for each parameter, name → array), `carried` and `steps`, all as NumPy and
Python have them. `ENGINES` names them all; an engine that is added there is tested by every table.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import descend
from descend import engines, optim
from descend.engines.optax import to_optax

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


class Driver:
    """An engine over NumPy arrays, as it is."""

    make = engines.Reference
    exact = True
    """Whether its numbers are the reference engine's bits."""
    cautious = True
    same_memory = True
    """Whether the arrays that it was given are stepped."""
    quick = True
    """Whether it makes nothing that takes long for each rule, shape and type."""
    carries_float32 = False
    """Whether carried numbers are rounded to float32 after each step, as in PyTorch's checkpoints."""

    def __init__(self, rule, params):
        self.engine = self.make(rule, params)

    def step(self, grads):
        self.engine.step(grads)

    @property
    def params(self):
        return self.engine.params

    @property
    def state(self):
        return self.engine.state

    @property
    def carried(self):
        return dict(self.engine.carried)

    @property
    def steps(self):
        return self.engine.steps


class Fused(Driver):
    make = engines.Fused


class Stacked(Driver):
    """The second of three runs; those beside it have another rate, and gradients twice as large."""

    make = engines.Stack
    same_memory = False

    def __init__(self, rule, params):
        beside = dataclasses.replace(rule, lr=0.5)
        self.arrays = [np.stack([2 * p, p, -p]) for p in params]
        self.grads = [np.zeros_like(array) for array in self.arrays]
        self.engine = self.make([beside, rule, beside], self.arrays, self.grads)

    def step(self, grads):
        for g, array in zip(grads, self.grads, strict=True):
            array[:] = [2 * g, g, 2 * g]
        self.engine.step()

    @property
    def params(self):
        return [array[1] for array in self.arrays]

    @property
    def state(self):
        return [{name: array[0] for name, array in kept.items()} for kept in self.engine.state[1]]

    @property
    def carried(self):
        return dict(self.engine.carried[1])


class FusedStacked(Stacked):
    make = engines.FusedStack


class Tensors(Driver):
    """The tensor engine, one tensor after the other."""

    way = "tensor"
    exact = False

    def __init__(self, rule, params):
        self.engine = engines.Torch(rule, [torch.from_numpy(np.asarray(p)) for p in params], way=self.way)

    def step(self, grads):
        self.engine.step([g if isinstance(g, str) else torch.from_numpy(np.asarray(g)) for g in grads])

    @property
    def params(self):
        return [p.numpy() for p in self.engine.params]

    @property
    def state(self):
        return [{name: t.numpy() for name, t in kept.items()} for kept in self.engine.state]


class Foreach(Tensors):
    way = "foreach"


class Compiled(Tensors):
    way = "compiled"
    cautious = False
    quick = False


class Optimizer(Driver):
    """An optimizer of `descend.optim`, by the rule on tensors."""

    fused = False
    exact = False
    carries_float32 = True

    def __init__(self, rule, params):
        self.rule = rule
        self.tensors = [torch.from_numpy(np.asarray(p)).requires_grad_() for p in params]
        chosen = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
        self.engine = optim.from_rule(type(rule))(self.tensors, fused=self.fused, **chosen)
        self.engine.init_state()

    def step(self, grads):
        for p, g in zip(self.tensors, grads, strict=True):
            p.grad = torch.from_numpy(np.asarray(g))
        self.engine.step()

    @property
    def params(self):
        return [p.detach().numpy() for p in self.tensors]

    @property
    def state(self):
        found = [self.engine.state[p] for p in self.tensors]
        return [{name: kept[name].numpy() for name in self.rule.kept_state()} for kept in found]

    @property
    def carried(self):
        return {name: float(self.engine.state[self.tensors[0]][name]) for name in self.rule.carried}

    @property
    def steps(self):
        return int(self.engine.state[self.tensors[0]]["step"])


class FusedOptimizer(Optimizer):
    """An optimizer of `descend.optim`, by machine code."""

    fused = True


class Jax(Driver):
    """The JAX engine; what it does is not compiled, which takes a second for each rule."""

    exact = False
    same_memory = False
    quick = False
    jit = False

    def __init__(self, rule, params):
        with self.jax():
            self.engine = engines.Jax(rule, [jnp.asarray(p) for p in params])

    def jax(self):
        return _Contexts(enable_x64(), *([] if self.jit else [jax.disable_jit()]))

    def step(self, grads):
        with self.jax():
            self.engine.step([g if isinstance(g, str) else jnp.asarray(g) for g in grads])

    @property
    def params(self):
        return [np.asarray(p) for p in self.engine.params]

    @property
    def state(self):
        found = self.engine.state
        return [{name: np.asarray(found[name][i]) for name in found} for i in range(len(self.engine.params))]


class CompiledJax(Jax):
    """The JAX engine as it is."""

    jit = True


class Optax(Jax):
    """A rule as an Optax transformation, not compiled."""

    def __init__(self, rule, params):
        with self.jax():
            self.transformation = to_optax(rule)
            self.found = [jnp.asarray(p) for p in params]
            self.now = self.transformation.init(self.found)

    def step(self, grads):
        with self.jax():
            updates, self.now = self.transformation.update([jnp.asarray(g) for g in grads], self.now, self.found)
            self.found = [p + u for p, u in zip(self.found, updates, strict=True)]

    @property
    def params(self):
        return [np.asarray(p) for p in self.found]

    @property
    def state(self):
        found = self.now.state
        return [{name: np.asarray(found[name][i]) for name in found} for i in range(len(self.found))]

    @property
    def carried(self):
        return {name: float(value) for name, value in self.now.carried.items()}

    @property
    def steps(self):
        return int(self.now.count)


class _Contexts:
    """Several contexts as one."""

    def __init__(self, *contexts):
        self.contexts = contexts

    def __enter__(self):
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *what):
        for context in reversed(self.contexts):
            context.__exit__(*what)


ENGINES = {
    "reference": Driver,
    "fused": Fused,
    "stack": Stacked,
    "fused_stack": FusedStacked,
    "tensor": Tensors,
    "foreach": Foreach,
    "compiled": Compiled,
    "optimizer": Optimizer,
    "fused_optimizer": FusedOptimizer,
    "jax": Jax,
    "compiled_jax": CompiledJax,
    "optax": Optax,
}
"""Every engine: name → driver."""
MACHINE_CODE = ("fused", "fused_stack", "fused_optimizer")
"""Those that need machine code."""
COMPILING = ("compiled", "compiled_jax")
"""Those whose compiler takes about a second for a rule."""


def engines_but(*names):
    """The names of all engines but these, as parameters of a test; those that need machine code are marked."""
    return [marked(name) for name in ENGINES if name not in names]


def marked(name):
    """The name of an engine as a parameter of a test."""
    return pytest.param(name, marks=pytest.mark.machine_code if name in MACHINE_CODE else ())


def snapshot(driver):
    """All that a step changes, as bytes."""
    arrays = [p.tobytes() for p in getattr(driver, "arrays", driver.params)]
    state = [{name: array.tobytes() for name, array in kept.items()} for kept in driver.state]
    return arrays, state, driver.carried, driver.steps


def is_shipped(rule):
    """Whether a rule comes with descend."""
    return rule.__module__.startswith(descend.__name__ + ".")
