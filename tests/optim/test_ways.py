"""How a step may be run: in machine code or an error, without memory, or followed by autograd."""

import pytest

torch = pytest.importorskip("torch")
from tests.processes import run  # noqa: E402

from descend import optim  # noqa: E402
from descend.engines.native import availability  # noqa: E402
from descend.optim import span_steps  # noqa: E402


def test_meta_tensors():
    """Tensors without memory step without effect, as in torch; machine code cannot be had for them."""
    with torch.device("meta"):
        model = torch.nn.Linear(3, 1)
    model(torch.zeros(1, 3, device="meta")).sum().backward()
    optimizer = optim.Adam(model.parameters())
    optimizer.step()
    assert optimizer.state[model.weight]["exp_avg"].is_meta
    fused = optim.Adam(model.parameters(), fused=True)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="fused=True, but a parameter is on meta"):
            fused.step()
        gradients = [p.grad for p in model.parameters()]
        fused.zero_grad()
        fused.step()  # nothing to step, and so nothing to refuse
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            p.grad = gradient


def test_fused_or_an_error():
    """With fused=True what no machine code can step is an error that says why."""
    for p, text in [
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
        (torch.zeros(6)[::2], r"strides \(2,\)"),
        (torch.nn.Parameter(torch.zeros(3).as_subclass(type("Mine", (torch.Tensor,), {}))), "Mine"),
    ]:
        leaf = p.detach().requires_grad_()
        leaf.grad = torch.ones_like(leaf)
        with pytest.raises(RuntimeError, match=f"fused=True, but .*{text}"):
            optim.SGD([leaf], fused=True).step()
        optim.SGD([leaf]).step()


NO_MACHINE_CODE = """
import os, sys, warnings
warnings.simplefilter("error")
os.environ["DESCEND_MACHINE_CODE"] = "0"
import torch, descend

def stepped(**ways):
    params = [torch.nn.Parameter(torch.ones(n)) for n in (3, 400_000)]
    optimizer = descend.optim.SGD(params, lr=0.5, **ways)
    for step in range(3):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert [p.unique().item() for p in params] == [-0.5, -0.5]

stepped()
assert not [name for name in sys.modules if name.startswith("llvmlite")], "llvmlite is loaded"
try:
    stepped(fused=True)
except RuntimeError as error:
    assert "fused=True, but DESCEND_MACHINE_CODE=0" in str(error), error
else:
    raise AssertionError("no error")

del os.environ["DESCEND_MACHINE_CODE"]
sys.modules["llvmlite"] = None
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    stepped()
assert len(said) == 1, [str(w.message) for w in said]
assert "SGD steps without machine code: llvmlite cannot be used" in str(said[0].message), said[0].message
"""


def test_without_machine_code():
    """Switched off, it is never loaded and nothing is said; missing, that is said once. Steps are made all the same."""
    run(NO_MACHINE_CODE)


def test_fused_without_machine_code(monkeypatch):
    """Where no machine code can be had, fused=True is an error; otherwise a warning, once, and the step is made."""
    monkeypatch.delenv(availability.SWITCH, raising=False)
    monkeypatch.setattr(span_steps, "why_not", lambda layout: "there is no compiler")
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="fused=True, but there is no compiler"):
        optim.SGD([p], fused=True).step()
    optimizer = optim.SGD([p], lr=0.5)
    with pytest.warns(RuntimeWarning, match="without machine code: there is no compiler"):
        optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == [0.0, 0.0]
