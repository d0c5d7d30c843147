"""The tensor engine, compiled: to rounding what one tensor gets, and not compiled anew for numbers and sizes."""

import functools
import shutil
import warnings

import pytest
import torch
import torch._dynamo.testing
from tests.engines.torch.tensors import copies, made, rows
from tests.oracles import naive

import descend
from descend import optim
from descend.engines.torch import compiled
from descend.engines.torch.compiled import compiled_step
from descend.engines.torch.tensors import tensor_step
from descend.optim import tensor_steps


def elsewhere(monkeypatch, large=100):
    """Let every tensor pass for one on another device."""
    monkeypatch.setattr(tensor_steps, "elsewhere", lambda p: True)
    monkeypatch.setattr(tensor_steps, "LARGE", large)


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


@pytest.fixture
def eager(monkeypatch):
    """`torch.compile` without a compiler: everything but its last stage."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compiled.torch, "compile", functools.partial(torch.compile, backend=counter))
    compiled._program.cache_clear()
    yield counter
    compiled._program.cache_clear()


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "cautious": True}, {"amsgrad": True, "foreach": False}])
def test_another_device(monkeypatch, eager, options):
    """Where calls are slow, large tensors are compiled, others go together; the numbers are those of the CPU."""
    expected, _ = trained(optim.Adam, fused=False, **options)
    elsewhere(monkeypatch)
    ways = []
    for name in ("foreach_step", "compiled_step", "tensor_step"):
        step = getattr(tensor_steps, name)

        def noted(rule, row, p, *rest, name=name, step=step):
            ways.append((name, len(p) if name == "foreach_step" else 1))
            step(rule, row, p, *rest)

        monkeypatch.setattr(tensor_steps, name, noted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PyTorch's own word on one release of Python, which pyproject.toml lets pass in every other test.
        warnings.filterwarnings("ignore", r"Guards may run slower on Python 3\.13\.0\.", RuntimeWarning)
        found, optimizer = trained(optim.Adam, fused=False, **options)
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q)
    one_step = {
        "": [("compiled_step", 1), ("foreach_step", 2), ("compiled_step", 1)],
        "cautious": [("foreach_step", 4)],
        "foreach": [("tensor_step", 1)] * 4,
    }["cautious" if "cautious" in options else "foreach" if "foreach" in options else ""]
    assert sorted(ways) == sorted(4 * one_step)
    assert [int(s["step"]) for s in optimizer.state.values()] == [4] * 4


def compiled_is_plain(rule, dtype, size):
    """Three compiled steps lead where three plain ones do, to rounding."""
    params, grads, states = made(rule, dtype, [(size,)])
    alone, own = copies(params, states)
    for row, (g,) in zip(rows(rule), grads, strict=True):
        compiled_step(rule, row, params[0], g, states[0])
        tensor_step(rule, row, alone[0], g, own[0])
    torch.testing.assert_close(params, alone, equal_nan=True)
    torch.testing.assert_close(states, own, equal_nan=True)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, id=name, marks=() if name == "adam" else pytest.mark.slow)
        for name, rule in naive.shipped().items()
    ],
)
def test_a_compiled_step_is_the_rule(eager, rule):
    """Every rule, with its last settings but caution, in three dtypes; not compiled anew for numbers and sizes."""
    chosen = {**naive.settings(rule)[-1][1], "cautious": False}
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        counts = []
        for size, lr in ((300, None), (501, 0.25), (1000, 0.125)):
            one = rule(**(chosen if lr is None else {**chosen, "lr": lr}))
            compiled_is_plain(one, dtype, size)
            counts.append(eager.frame_count)
        assert counts == [counts[0]] * 3


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_a_step_compiled_for_the_cpu():
    """The whole of `torch.compile`, on tensors of the CPU."""
    compiled_is_plain(descend.AdamW(lr=0.01), torch.float32, 1000)


def test_without_a_compiler(monkeypatch):
    """What cannot be compiled is stepped all the same; it is said once, and not tried again."""
    tried = []

    def broken(*args, **kwargs):
        tried.append(1)
        raise RuntimeError("no compiler here\nand much more")

    expected, _ = trained(optim.RMSprop, fused=False)
    elsewhere(monkeypatch)
    compiled._program.cache_clear()
    monkeypatch.setattr(compiled.torch, "compile", broken)
    with pytest.warns(
        RuntimeWarning, match=r"^RMSprop steps one tensor after the other: RuntimeError: no compiler here$"
    ):
        found, _ = trained(optim.RMSprop, fused=False)
    assert all(map(torch.equal, found, expected))
    assert len(tried) == 1
