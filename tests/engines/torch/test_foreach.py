"""The tensor engine, many tensors at a time: bit for bit what one tensor gets."""

import pytest
import torch
import torch._dynamo.testing
from tests.engines.torch.tensors import copies, made, rows, same
from tests.oracles import naive

import descend
from descend import optim
from descend.engines.torch import foreach
from descend.engines.torch.foreach import Tensors, foreach_step
from descend.engines.torch.tensors import tensor_step
from descend.rules import maths

RULES = naive.shipped()


def ends(rule):
    """The settings of a rule with nothing on, with all that goes together, and with that cautiously."""
    every = [chosen for _, chosen in naive.settings(rule)]
    return every[0], next(chosen for chosen in reversed(every) if not chosen["cautious"]), every[-1]


def are_each_alone(rule, dtype):
    """Steps of many tensors give the bits of steps of one tensor, in parameters and state."""
    params, grads, states = made(rule, dtype)
    alone, own = copies(params, states)
    for row, gs in zip(rows(rule), grads, strict=True):
        foreach_step(rule, row, params, gs, states)
        for p, g, state in zip(alone, gs, own, strict=True):
            tensor_step(rule, row, p, g, state)
    for p, q, state, other in zip(params, alone, states, own, strict=True):
        assert same(p, q), rule
        assert all(same(state[n], other[n]) for n in state), rule


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex128], ids=str)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_many_at_once_are_each_alone(rule, dtype):
    """For every rule plain, with all on, and cautiously; tensors of several shapes, an empty one among them."""
    for chosen in ends(rule):
        are_each_alone(rule(**chosen), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex128], ids=str)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_many_at_once_are_each_alone_with_every_flag(rule, dtype):
    """For every rule and all combinations of its flags."""
    for _, chosen in naive.settings(rule):
        are_each_alone(rule(**chosen), dtype)


def test_operators():
    """Whatever a formula may do to a tensor it may do to a list of them, from either side and with numbers between."""
    torch.manual_seed(1)
    xs, ys = ([torch.randn(5) for _ in range(3)] for _ in range(2))
    x, y = Tensors(xs), Tensors(ys)
    formulas = [
        lambda x, y: 2.0 - x / (3.0 / y + 1) * 4 + y - 0.5,
        lambda x, y: -x + abs(y) ** 2 + 2.0**y,
        lambda x, y: maths.where((x > 0) & ~(y <= 0.1) | (x == y), maths.sqrt(maths.absolute(x)), 0 * y),
        lambda x, y: maths.clip(maths.maximum(x, y), -0.5, 0.5) + maths.minimum(x, y) * maths.sign(x),
        lambda x, y: maths.where(x > 0.3, x, y) - maths.where(y != 0.1, 1.0 * y, y),
    ]
    for formula in formulas:
        assert all(map(torch.equal, formula(x, y), map(formula, xs, ys)))
    with pytest.raises(TypeError):
        maths._library(x).cbrt(x)


def trained(cls, steps=4, **options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 4))
    x = torch.randn(50, 20)
    optimizer = cls(model.parameters(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return list(model.parameters()), optimizer


def test_a_formula_of_one_tensor(monkeypatch):
    """A rule that calls a tensor's method goes on with one tensor at a time, and says so."""

    class Centered(descend.Rule, register=False):
        lr: float = 0.1

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g.add(1.0)

    class Kept(optim.from_rule(Centered)):
        pass

    with pytest.warns(RuntimeWarning, match="steps one tensor after the other: AttributeError"):
        found, _ = trained(Kept, foreach=True)
    expected, _ = trained(Kept, fused=False)
    assert all(map(torch.equal, found, expected))


def test_a_failure_of_many_changes_none(monkeypatch):
    """Nothing is written before all is computed, so what follows starts from the same numbers."""
    expected, _ = trained(optim.Adam, fused=False)

    def out_of_memory(*args):
        raise torch.OutOfMemoryError("one tensor too many")

    monkeypatch.setitem(foreach._FUNCTIONS, maths.np.sqrt, out_of_memory)
    with pytest.warns(RuntimeWarning, match="OutOfMemoryError: one tensor too many"):
        found, _ = trained(optim.Adam, foreach=True)
    assert all(map(torch.equal, found, expected))
