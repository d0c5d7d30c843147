"""Parameters over the same memory are stepped one after the other, as torch.optim does; gradients may lie anywhere."""

import pytest

torch = pytest.importorskip("torch")

from descend import optim  # noqa: E402
from descend.optim.rounds import Access, rounds  # noqa: E402

N = 120_000
"""Numbers of a tensor that threads step together."""


def same_memory(n):
    """Twice the whole, once in another shape."""
    w = torch.linspace(-1, 1, n)
    return [w, torch.full((3,), 0.5), w.view(2, -1)]


def halves(n):
    """The whole, between its halves."""
    w = torch.linspace(-1, 1, n)
    return [w[: n // 2], w, w[n // 2 :]]


def shifted(n):
    """All but one end, and all but the other."""
    w = torch.linspace(-1, 1, n)
    return [w[1:], torch.full((3,), 0.5), w[:-1]]


def groups_apart(n):
    """Tied across a tensor of another format, which is stepped in a launch of its own."""
    w = torch.linspace(-1, 1, n)
    return [w, torch.full((3,), 0.5, dtype=torch.float64), w.view(-1, 2)]


def columns(n):
    """A matrix and some of its columns, which no kernel steps."""
    w = torch.linspace(-1, 1, n).view(-1, 4)
    return [w[:, :3], w, w[:, 2:]]


def trained(library, name, make, n, steps=5, **kwargs):
    """The memory after some steps, along gradients that differ from entry to entry, and the state."""
    params = [torch.nn.Parameter(t) for t in make(n)]
    assert any(p.untyped_storage().data_ptr() == params[0].untyped_storage().data_ptr() for p in params[1:])
    optimizer = getattr(library, name)(params, lr=0.1, **kwargs)
    for step in range(steps):
        for k, p in enumerate(params):
            p.grad = torch.linspace(0.25, 1 + k + step, p.numel(), dtype=p.dtype).view(p.shape)
        optimizer.step()
    return [p.detach().clone() for p in params] + [
        v for s in optimizer.state.values() for k, v in s.items() if k != "step" and v is not None
    ]


@pytest.mark.parametrize("make", [same_memory, halves, shifted, groups_apart, columns], ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [24, N], ids=["few", "many"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_tied_parameters_are_stepped_in_order(name, n, make):
    """To rounding as torch.optim does on one thread; and to the bit as the same steps made one by one."""
    kwargs = {"weight_decay": 0.1}
    ours = trained(optim, name, make, n, **kwargs)
    for found, expected in zip(ours, trained(torch.optim, name, make, n, **kwargs, foreach=False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for found, expected in zip(ours, one_by_one(name, make, n, **kwargs), strict=True):
        assert torch.equal(found, expected)


def one_by_one(name, make, n, steps=5, **kwargs):
    """What `trained` does, by an optimizer for each parameter."""
    params = [torch.nn.Parameter(t) for t in make(n)]
    optimizers = [getattr(optim, name)([p], lr=0.1, **kwargs) for p in params]
    for step in range(steps):
        for k, (p, optimizer) in enumerate(zip(params, optimizers, strict=True)):
            p.grad = torch.linspace(0.25, 1 + k + step, p.numel(), dtype=p.dtype).view(p.shape)
            optimizer.step()
    states = [o.state[p] for o, p in zip(optimizers, params, strict=True)]
    return [p.detach().clone() for p in params] + [v for s in states for k, v in s.items() if k != "step"]


def test_parameters_that_become_tied_are_stepped_in_order():
    """Between two steps, and apart again later."""
    ends = []
    for library in (optim, torch.optim):
        p, q = (torch.nn.Parameter(torch.linspace(0, k, 8)) for k in (1, 2))
        optimizer = library.SGD([p, q], lr=0.5, momentum=0.5, weight_decay=0.5)
        for step in range(9):
            if step == 3:
                q.data = p.data.view(8)
            elif step == 6:
                q.data = q.data.clone()
            p.grad, q.grad = torch.ones(8) * (step - 2), torch.linspace(-1, 1, 8)
            optimizer.step()
        ends.append((p.detach(), q.detach()))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


OVERLAPS = {
    "itself": lambda p, q: setattr(p, "grad", p.data),
    "one before": lambda p, q: setattr(q, "grad", p.data),
    "one after": lambda p, q: setattr(p, "grad", q.data),
    "each other": lambda p, q: (setattr(p, "grad", q.data), setattr(q, "grad", p.data)),
    "reversed": lambda p, q: setattr(q, "grad", p.data.view(2, 4).t().reshape(-1).view(8)),
    "one gradient for both": lambda p, q: setattr(q, "grad", p.grad),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_that_are_parameters(name, later, overlap):
    """From the first step on or from a later one, when they look like any other gradient."""
    ends = []
    for library in (optim, torch.optim):
        p, q = (torch.nn.Parameter(torch.linspace(0.5, k, 8)) for k in (1, 2))
        optimizer = getattr(library, name)([p, q], lr=0.25)
        for step in range(6):
            p.grad, q.grad = torch.linspace(1, 2, 8), torch.linspace(-1, 1, 8)
            if not later or step in (2, 3):
                OVERLAPS[overlap](p, q)
            optimizer.step()
        ends.append((p.detach().clone(), q.detach().clone()))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shift", [1, -1])
def test_gradients_that_are_part_of_their_own_parameter(shift):
    """Read as a whole before anything of it is written."""
    w = torch.linspace(0, 1, 65)
    p = torch.nn.Parameter(w[1:] if shift < 0 else w[:-1])
    optimizer = optim.SGD([p], lr=0.5)
    for step in range(4):
        before = w.clone()
        p.grad = torch.ones(64) if step < 2 else (w[:-1] if shift < 0 else w[1:])
        g = p.grad.clone()
        optimizer.step()
        assert torch.equal(p.detach(), (before[1:] if shift < 0 else before[:-1]) - 0.5 * g)


def test_a_gradient_in_the_memory_of_state():
    """Such as the momentum itself; of another parameter, so that torch.optim, too, reads it after it was stepped."""
    ends = []
    for library in (optim, torch.optim):
        p, q = (torch.nn.Parameter(torch.linspace(0.5, k, 8)) for k in (1, 2))
        optimizer = library.SGD([p, q], lr=0.25, momentum=0.5)
        for step in range(6):
            p.grad, q.grad = torch.linspace(1, 2, 8), torch.linspace(-1, 1, 8)
            if step >= 3:
                q.grad = optimizer.state[p]["momentum_buffer"]
            optimizer.step()
        ends.append((p.detach(), q.detach()))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def test_a_count_of_steps_that_two_parameters_share():
    """Each counts its own step there, as in torch.optim."""
    ends = []
    for library in (optim, torch.optim):
        p, q = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
        optimizer = library.Adam([p, q], lr=0.1)
        for step in range(5):
            p.grad, q.grad = torch.full((4,), 1.0 + step), torch.full((4,), 2.0)
            optimizer.step()
            if step == 1:
                optimizer.state[q]["step"] = optimizer.state[p]["step"]
        ends.append((p.detach(), q.detach(), optimizer.state[p]["step"]))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)
    assert ends[0][2] == 8


def test_parameters_that_only_touch_are_stepped_at_once():
    """As those that are cut from one long vector are, with the gaps that they leave or without."""
    w = torch.zeros(100)
    for cuts in ([(0, 40), (40, 100)], [(0, 30), (50, 99)]):
        accesses = [Access((w[a:b],), w[a:b].clone()) for a, b in cuts]
        assert rounds(accesses)[0] == [0, 0]
    params = [torch.nn.Parameter(w[:40]), torch.nn.Parameter(w[40:])]
    optimizer = optim.SGD(params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert optimizer.stepper.plan is not None


@pytest.mark.parametrize(
    ("cuts", "grads", "expected"),
    [
        ([(0, 4), (2, 6), (4, 8), (0, 8)], {}, [0, 1, 2, 3]),
        ([(0, 4), (4, 8), (0, 8), (8, 9)], {}, [0, 0, 1, 0]),
        ([(0, 4), (4, 8), (8, 12)], {2: (0, 2)}, [0, 0, 1]),
        ([(0, 4), (4, 8), (8, 12)], {0: (8, 9)}, [0, 0, 1]),
        ([(0, 4), (4, 8), (8, 12)], {0: (0, 4)}, [0, 0, 0]),
        ([(0, 4), (0, 0), (0, 4), (0, 4)], {}, [0, 0, 1, 2]),
    ],
)
def test_rounds(cuts, grads, expected):
    """Whoever reads or writes what another writes comes in a later round than those before it, and no later."""
    w = torch.zeros(20)
    accesses = [
        Access((w[a:b],), w[slice(*grads[i])] if i in grads else torch.zeros(b - a)) for i, (a, b) in enumerate(cuts)
    ]
    assert rounds(accesses)[0] == expected
