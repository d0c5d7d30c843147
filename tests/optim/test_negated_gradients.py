"""Gradients whose numbers are not those in their memory: PyTorch negates or conjugates some only when they are used."""

import ctypes

import pytest

torch = pytest.importorskip("torch")

from descend import optim  # noqa: E402
from descend.engines.torch import guards, internals  # noqa: E402


@pytest.fixture(params=["machine code", "Python"])
def checked_by(request, monkeypatch):
    """Both kinds of guards."""
    if request.param == "Python":
        monkeypatch.setenv(guards.SWITCH, "0")


def negated(t):
    """The same numbers, as a view of their negatives."""
    return torch._neg_view(-t)


KINDS = {
    "whole": negated,
    "imaginary part": lambda g: torch.complex(g, -g).conj().imag,
    "transposed": lambda g: negated(g.T.contiguous()).T,
    "of another view": lambda g: negated(torch.stack([g, g]))[1],
}
"""Ways to get a negative view, alike in memory with an ordinary gradient or not."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 4)], ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_negated_gradient_that_comes_later_keeps_its_sign(checked_by, name, shape, kind):
    """After ordinary ones, and by turns with them; as torch.optim does."""
    ends = []
    for library in (optim, torch.optim):
        p, q = (torch.nn.Parameter(torch.linspace(-1, 1, 12)[: shape[0] * shape[1]].reshape(shape)) for _ in range(2))
        optimizer = getattr(library, name)([p, q], lr=0.1)
        for step in range(8):
            g = torch.linspace(0.5, 2, p.numel()).reshape(shape) * (1 + step)
            p.grad = KINDS[kind](g) if step in (2, 3, 5) else g.clone()
            q.grad = g.clone()
            assert step not in (2, 3, 5) or p.grad.is_neg()
            optimizer.step()
        assert library is torch.optim or torch.equal(p, q)
        ends.append((p.detach(), q.detach()))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_was_negated_from_the_beginning(checked_by):
    """And is ordinary later."""
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = optim.SGD([p], lr=1.0)
    for step in range(4):
        g = torch.tensor([1.0, 2.0, 3.0])
        p.grad = negated(g) if step < 2 else g
        optimizer.step()
    assert p.tolist() == [-4.0, -8.0, -12.0]


@pytest.mark.machine_code
def test_negated_gradients_are_stepped_in_machine_code():
    """Resolved into memory of their own, and nothing is planned anew from one to the next."""
    p = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = optim.SGD([p], lr=1.0, fused=True)
    plans = set()
    for _ in range(4):
        p.grad = negated(torch.ones(2, 2))
        optimizer.step()
        plans.add(optimizer.stepper.plan)
    assert p.unique().tolist() == [-4.0]
    assert len(plans) == 1


@pytest.mark.parametrize("what", ["parameter", "state"])
def test_a_parameter_or_state_that_becomes_negated(checked_by, what):
    """In the same memory, which then holds the negative of what it means."""
    ends = []
    for library in (optim, torch.optim):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = library.SGD([p], lr=0.5, momentum=0.5)
        for step in range(4):
            if step == 2 and what == "parameter":
                p.data = torch._neg_view(p.data)
            elif step == 2:
                state = optimizer.state[p]
                state["momentum_buffer"] = torch._neg_view(state["momentum_buffer"])
            p.grad = torch.tensor([1.0, -2.0, 3.0])
            optimizer.step()
        ends.append(p.detach().clone())
    assert torch.equal(*ends)


def test_complex_gradients_that_are_conjugated(checked_by):
    """By turns with ordinary ones."""
    ends = []
    for library in (optim, torch.optim):
        p = torch.nn.Parameter(torch.tensor([1 + 1j, 2 - 1j]))
        optimizer = library.SGD([p], lr=0.5)
        for step in range(4):
            g = torch.tensor([1 - 2j, 0.5 + 0.25j])
            p.grad = g.conj().resolve_conj().conj() if step % 2 else g
            assert p.grad.is_conj() == bool(step % 2)
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_a_complex_number_made_of_two_parameters():
    """Whose conjugate is used from a later step on: autograd then hands out negative views by itself."""
    ends = []
    for library in (optim, torch.optim):
        a, b = (torch.full((1,), 0.5, requires_grad=True) for _ in range(2))
        optimizer = library.SGD([a, b], lr=0.1)
        for step in range(6):
            optimizer.zero_grad()
            gain = torch.complex(a, b)
            ((gain if step < 2 else gain.conj()) * (1 + 2j)).imag.sum().backward()
            optimizer.step()
        assert b.grad.is_neg()
        ends.append((a.item(), b.item()))
    assert ends[0] == ends[1]


@pytest.mark.machine_code
def test_where_a_tensors_dispatch_keys_are():
    """Machine code reads there what PyTorch says of tensors of every kind; nothing is assumed where they are not."""
    place = internals.keys_place()
    if place is None:
        pytest.skip("this PyTorch does not tell where a tensor is")
    plain = torch.ones(3)
    hiding = [torch._neg_view(plain), torch.ones(3, dtype=torch.complex64).conj(), torch._efficientzerotensor((3,))]
    others = [plain, torch.nn.Parameter(plain), plain.double(), plain.to_sparse(), torch.ones(2, device="meta")]
    for tensors, hides in ((hiding, True), (others, False)):
        for t in tensors:
            own = ctypes.c_uint64.from_address(id(t) + place.tensor_offset).value
            keys = ctypes.c_uint64.from_address(own + place.keys_offset).value
            assert keys == torch._C._dispatch_keys(t).raw_repr()
            assert bool(keys & place.mask) == hides


def test_without_dispatch_keys_guards_are_checked_in_python(monkeypatch):
    """Where machine code does not find them."""
    monkeypatch.setattr(guards, "keys_place", lambda: None)
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = optim.SGD([p], lr=1.0)
    for step in range(3):
        p.grad = negated(torch.ones(2)) if step == 1 else torch.ones(2)
        optimizer.step()
    assert isinstance(optimizer.stepper.plan.guards, guards.PythonGuards)
    assert p.tolist() == [-3.0, -3.0]
