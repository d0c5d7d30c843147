"""What tests of JAX and Optax share: one walk of gradients, and the numbers after each of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.oracles import naive

from descend.engines import Reference

optax = pytest.importorskip("optax")
STEPS = 30
START, GRADS = naive.gradients(STEPS)


def by_reference(rule, start=START, grads=GRADS):
    """The numbers after each step of the reference engine."""
    p = start.copy()
    engine = Reference(rule, [p])
    path = []
    for g in grads:
        engine.step([g])
        path.append(p.copy())
    return np.array(path)


def by_scan(transformation, start=START, grads=GRADS):
    """The numbers after each step of a transformation, all steps in one compiled scan."""

    def one(carry, g):
        p, state = carry
        updates, state = transformation.update(g, state, p)
        p = optax.apply_updates(p, updates)
        return (p, state), p

    p = jnp.asarray(start)
    run = jax.jit(lambda p, state, grads: jax.lax.scan(one, (p, state), grads)[1])
    return np.asarray(run(p, transformation.init(p), jnp.asarray(grads)))


def far(found):
    """Which paths differ from the reference engine's by more than 1e-12; `found` is label → (rule, path)."""
    distances = {label: naive.distance(path, by_reference(rule)) for label, (rule, path) in found.items()}
    return {label: distance for label, distance in distances.items() if not distance < 1e-12}
