"""Gradients of extreme size and weights of zero: what `torch.optim` makes of them, on every way to step."""

import numpy as np
import pytest
import torch
from tests.oracles import naive

import descend
from descend import optim
from descend.engines import Fused, Reference

WAYS = [{}, {"fused": False}, {"foreach": True}]
TINY_EPS = ("Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax")
BIG = {torch.float16: 3000.0, torch.bfloat16: 1e20, torch.float32: 1e21, torch.float64: 1e160}


def path(make, gradients, dtype=torch.float32, **chosen):
    """Where a parameter goes that starts at 1."""
    p = torch.nn.Parameter(torch.ones(2, dtype=dtype))
    optimizer = make([p], **chosen)
    found = []
    for g in gradients:
        p.grad = torch.tensor([g, -g / 2], dtype=dtype)
        optimizer.step()
        found.append(p.detach().double())
    return torch.stack(found)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("eps", [0.0, 1e-30, 1e-20, 1e-16, 1e-10])
@pytest.mark.parametrize("name", TINY_EPS)
def test_steps_along_tiny_gradients_are_as_long_as_torchs(name, eps, way):
    """Squares of gradients of 1e-18 are subnormal; they still divide."""
    if name == "Adadelta":
        eps = max(eps, 1e-30)  # with none the first step is 0, and so are all
    for gradients in ([2e-18] * 4, [2e-18, -3e-19, 2e-18, 5e-20], [1e-20] * 3, [2e-18, 0.0, 0.0, 2e-18]):
        expected = path(getattr(torch.optim, name), gradients, lr=0.1, eps=eps)
        found = path(getattr(optim, name), gradients, lr=0.1, eps=eps, **way)
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4)


ZERO_WEIGHTS = [
    ("SGD", {"momentum": 0.9, "dampening": 1.0}),
    ("Adam", {"betas": (0.0, 0.999)}),
    ("Adam", {"betas": (0.9, 0.0), "amsgrad": True}),
    ("AdamW", {"betas": (0.0, 0.0), "weight_decay": 0.0}),
    ("NAdam", {"betas": (0.0, 0.999), "momentum_decay": 0.0}),
    ("RAdam", {"eps": 0.0}),
    ("RAdam", {"betas": (0.0, 0.9)}),
    ("Adamax", {"betas": (0.9, 0.0)}),
    ("RMSprop", {"alpha": 0.0}),
    ("RMSprop", {"centered": True, "eps": 1e-4}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("Adagrad", {"lr_decay": 0.0}),
    ("Adadelta", {"rho": 0.0}),
    ("Rprop", {}),
    ("ASGD", {"lambd": 0.0, "alpha": 0.0, "t0": 0.0}),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", BIG, ids=str)
@pytest.mark.parametrize(("name", "chosen"), ZERO_WEIGHTS, ids=str)
def test_a_step_is_finite_where_torchs_is(name, chosen, dtype, way):
    """After a gradient whose square overflows, and one that is as large as can be."""
    for gradients in ([0.1, BIG[dtype], 0.1, 0.1], [torch.finfo(dtype).max / 4] * 2, [1e-7, 0.0, 1e-7]):
        for lr in (0.01, 0.0):
            expected = path(getattr(torch.optim, name), gradients, dtype, lr=lr, **chosen)
            found = path(getattr(optim, name), gradients, dtype, lr=lr, **chosen, **way)
            assert torch.isfinite(found[torch.isfinite(expected)]).all()


NOT_IN_TORCH = [
    ("adopt", {}),
    ("adopt", {"betas": (0.0, 0.0)}),
    ("adopt", {"use_clipping": False}),
    ("adabelief", {"betas": (0.9, 0.0)}),
    ("yogi", {"betas": (0.0, 0.0)}),
    ("yogi", {}),
    ("ademamix", {"betas": (0.0, 0.0, 0.0), "alpha": 0.0}),
    ("adan", {"betas": (0.9, 0.0, 0.0)}),
    ("adan", {}),
    ("lion", {"betas": (0.0, 0.0)}),
]


per_engine = pytest.mark.parametrize("engine", [Reference, pytest.param(Fused, marks=pytest.mark.machine_code)])


@per_engine
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize(("name", "chosen"), NOT_IN_TORCH, ids=str)
def test_a_step_is_finite_where_the_paper_has_a_number(name, chosen, cautious, engine):
    """A square that overflows float32 stands for a step of nearly zero; the paper's loop has float64."""
    rule = naive.shipped()[name]
    given = {**dict(naive.settings(rule)[0][1]), "eps": 1e-6, **chosen, "cautious": cautious}
    given = {name: value for name, value in given.items() if name in naive.settings(rule)[0][1]}
    for gradients in ([0.1, 1e20, 0.1, 0.1], [1e20, -1e20, 1e20], [1e37, -4e37, 4e37, 1.0]):
        assert np.isfinite(naive.path(rule, given, np.ones(1), np.array(gradients)[:, None])).all()
        p = np.ones(3, np.float32)
        run = engine(rule(**given), [p])
        with np.errstate(all="ignore"):
            for g in gradients:
                run.step([np.full(3, g, np.float32)])
                assert np.isfinite(p).all()


def test_adopt_by_optax_after_a_large_gradient():
    jnp, optax = pytest.importorskip("jax.numpy"), pytest.importorskip("optax")
    optimizer = descend.to_optax(descend.ADOPT(lr=0.01))
    p = jnp.ones(2)
    state = optimizer.init(p)
    for g in (0.1, 1e20, 0.1):
        updates, state = optimizer.update(jnp.full(2, g), state, p)
        p = optax.apply_updates(p, updates)
    assert jnp.isfinite(p).all()
    assert all(jnp.isfinite(state.state["exp_avg"]))


@per_engine
def test_a_cautious_step_along_tiny_gradients(engine):
    """The product of a move of 1e-25 with a gradient of 1e-25 is no number of float32; they still go one way."""
    p = np.zeros(2, np.float32)
    engine(descend.GD(lr=1.0, cautious=True), [p]).step([np.float32([1e-25, -1e-25])])
    assert p.tolist() == np.float32([-1e-25, 1e-25]).tolist()


@per_engine
def test_a_cautious_step_that_overflows_against_its_gradient_is_none(engine):
    p = np.ones(1, np.float32)
    run = engine(descend.SGD(lr=1e30, momentum=0.9, cautious=True), [p])
    with np.errstate(over="ignore", invalid="ignore"):
        run.step([np.float32([1e-30])])
        run.state[0]["momentum_buffer"][:] = -1e38
        before = p.copy()
        run.step([np.float32([1e-30])])
    assert p == before
