"""How a step may be run: in machine code or an error, without memory, or followed by autograd."""

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import FULLEST, same  # noqa: E402
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
    with pytest.raises(RuntimeError, match="fused=True, but a parameter is on meta"):
        optim.Adam(model.parameters(), fused=True).step()


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


def _followed(name, lr, p, g, start, kwargs):
    p = p.clone()
    p.grad = g
    kind = getattr(optim, name)
    optimizer = kind([p], lr=lr, differentiable=True, **kwargs)
    optimizer.init_state()
    for entry in kind.rule(**kwargs).kept_state():
        optimizer.state[p][entry] = start + (
            3.0 if entry == "square_avg" else 0.0
        )  # more than the square of an average
    optimizer.state[p]["step"].fill_(7)
    optimizer.step()
    return p, *(optimizer.state[p][entry] for entry in kind.rule(**kwargs).kept_state())


@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_differentiable(name, kwargs):
    """Autograd follows a step to parameter, gradient, state and learning rate, exactly."""
    kwargs = {k: v for k, v in kwargs.items() if k != "lr"}
    torch.manual_seed(0)
    p, g, start = (torch.rand(4, dtype=torch.float64).add(0.5).requires_grad_() for _ in range(3))
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=name not in ("ASGD", "Rprop"))
    torch.autograd.gradcheck(lambda *a: _followed(name, *a, kwargs), (lr, p, g, start))


def test_differentiable_over_steps():
    """A loss after several steps has the gradient in learning rate, weight decay and start of the formula itself."""

    def numbers():
        return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([1.0, -2.0, 0.5], 0.1, 0.01)]

    def gradient(p):
        return torch.autograd.grad(((p - 3) ** 4).sum() / 100, p, create_graph=True)[0]

    start, lr, decay = mine = numbers()
    p = start.clone()
    optimizer = optim.SGD([p], lr=lr, momentum=0.9, weight_decay=decay, differentiable=True)
    for _ in range(4):
        p.grad = gradient(p)
        optimizer.step()
    start, lr, decay = formula = numbers()
    q, buffer = start.clone(), 0
    for _ in range(4):
        buffer = 0.9 * buffer + gradient(q) + decay * q
        q = q - lr * buffer
    same(p, q)
    same(torch.autograd.grad((p**2).sum(), mine), torch.autograd.grad((q**2).sum(), formula))


def test_differentiable_where_it_cannot_be():
    """A hyperparameter that the rule turns into plain numbers cannot be followed: an error, not a wrong gradient."""
    p = torch.ones(2, dtype=torch.float64, requires_grad=True).clone()
    p.grad = torch.ones(2, dtype=torch.float64)
    beta = torch.tensor(0.99, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Adam cannot be differentiated in betas"):
        optim.Adam([p], betas=(0.9, beta), differentiable=True).step()
