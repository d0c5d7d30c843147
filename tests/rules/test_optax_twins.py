"""The rules that torch.optim lacks, against Optax in float64. Left out where Optax is not installed."""

import math

import jax
import numpy as np
import pytest
from tests.oracles import naive

import descend
from descend.engines import Reference

optax = pytest.importorskip("optax")

STEPS = 100
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def run_optax(transformation, start, grads, prepare=lambda state: state):
    """The numbers after each step of an Optax transformation; `prepare` may change the state that it starts from."""
    with enable_x64():
        p = jax.numpy.asarray(start)
        state = prepare(transformation.init(p))
        update = jax.jit(transformation.update)
        path = []
        for g in grads:
            move, state = update(jax.numpy.asarray(g), state, p)
            p = optax.apply_updates(p, move)
            path.append(np.asarray(p))
        assert p.dtype == np.float64
    return np.array(path)


def assert_same(rule, transformation, **options):
    """The rule's path is the transformation's."""
    start, grads = naive.gradients(STEPS)
    expected = run_optax(transformation, start, grads, **options)
    p = start.copy()
    engine = Reference(rule, [p])
    found = []
    for g in grads:
        engine.step([g])
        found.append(p.copy())
    assert np.abs(expected - start).max() > 0.1
    assert naive.distance(np.array(found), expected) < 1e-10


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lion(decay):
    """The same formula, with decoupled weight decay."""
    assert_same(
        descend.Lion(lr=0.05, betas=(0.8, 0.95), weight_decay=decay), optax.lion(0.05, 0.8, 0.95, weight_decay=decay)
    )


def test_adabelief():
    """The same formula when both of Optax's eps are ours."""
    assert_same(
        descend.AdaBelief(lr=0.05, betas=(0.8, 0.95), eps=1e-5), optax.adabelief(0.05, 0.8, 0.95, 1e-5, eps_root=1e-5)
    )
    assert_same(descend.AdaBelief(lr=0.05), optax.adabelief(0.05))


@pytest.mark.parametrize("initial", [1e-6, 0.5])
def test_yogi(initial):
    """The same formula once the momentum starts at zero: Optax starts it where the scale starts."""

    def momentum_at_zero(state):
        return (state[0]._replace(mu=0.0 * state[0].mu), *state[1:])

    twin = optax.chain(
        optax.scale_by_yogi(0.8, 0.95, 1e-3, initial_accumulator_value=initial), optax.scale_by_learning_rate(0.05)
    )
    rule = descend.Yogi(lr=0.05, betas=(0.8, 0.95), initial_accumulator_value=initial)
    assert_same(rule, twin, prepare=momentum_at_zero)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adan(decay):
    """The same formula where β₂ = 1 − β₂: Optax weighs the change by 1 − β₂, paper and authors' code by β₂."""
    twin = optax.adan(0.05, 0.9, 0.5, 0.95, eps=1e-6, eps_root=0.0, weight_decay=decay)
    assert_same(descend.Adan(lr=0.05, betas=(0.9, 0.5, 0.95), eps=1e-6, weight_decay=decay), twin)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_ademamix(decay):
    """The same formula; its defaults are the same, too."""
    twin = optax.contrib.ademamix(0.05, 0.8, 0.95, 0.99, alpha=3.0, eps=1e-6, weight_decay=decay)
    assert_same(descend.AdEMAMix(lr=0.05, betas=(0.8, 0.95, 0.99), alpha=3.0, eps=1e-6, weight_decay=decay), twin)
    assert_same(descend.AdEMAMix(lr=0.05), optax.contrib.ademamix(0.05))


def test_ademamix_warms_up():
    """The warm-ups are the paper's schedules, which Optax takes as functions of the steps done."""

    def alpha(done):
        return jax.numpy.minimum((done.astype(float) + 1) / 30 * 3.0, 3.0)

    def beta3(done):
        way = jax.numpy.minimum((done.astype(float) + 1) / 60, 1.0)
        # Half-lives in steps, ln ½ / ln β, grow linearly.
        half_life = (1 - way) * math.log(0.5) / math.log(0.8) + way * math.log(0.5) / math.log(0.99)
        return 0.5 ** (1 / half_life)

    assert_same(
        descend.AdEMAMix(lr=0.05, betas=(0.8, 0.95, 0.99), alpha=3.0, alpha_warmup=30, beta3_warmup=60),
        optax.contrib.ademamix(0.05, 0.8, 0.95, beta3, alpha=alpha),
    )


@pytest.mark.parametrize("use_clipping", [False, True])
def test_adopt(use_clipping):
    """The same formula and the same bound."""
    assert_same(
        descend.ADOPT(lr=0.05, betas=(0.8, 0.95), eps=1e-4, use_clipping=use_clipping),
        optax.contrib.adopt(0.05, 0.8, 0.95, 1e-4, use_clipping=use_clipping),
    )
    assert_same(descend.ADOPT(lr=0.05), optax.contrib.adopt(0.05))
