"""Gradients that come and go: experts that are chosen for each batch, early exits, layers that are frozen by turns."""

import pkgutil
import random
import time
import weakref

import pytest

torch = pytest.importorskip("torch")

from descend import optim  # noqa: E402
from descend.engines.torch import guards  # noqa: E402

NAMES = ["Adam", "NAdam", "SGD", "ASGD", "RMSprop"]
"""Rules with scalars of each step, with carried numbers, and with scalars that stay the same."""


@pytest.fixture(params=["machine code", "Python"])
def checked_by(request, monkeypatch):
    """Both kinds of guards."""
    if request.param == "Python":
        monkeypatch.setenv(guards.SWITCH, "0")


def by_turns(step, many):
    return [i % 2 == step % 2 for i in range(many)]


def experts(step, many):
    """A third of them are always there, the others in four that come as it falls out."""
    chosen = [random.Random(f"{step} {expert}").random() < 0.5 for expert in range(4)]
    return [i < many // 3 or chosen[i % 4] for i in range(many)]


def early_exit(step, many):
    return [i < many // 2 or step % 3 > 0 for i in range(many)]


def one_joins_late(step, many):
    return [i > 0 or step > 4 for i in range(many)]


def none_at_all(step, many):
    return [step % 3 != 2] * many


PATTERNS = [by_turns, experts, early_exit, one_joins_late, none_at_all]


def grad_of(step, i, p):
    return torch.linspace(0.5 + i, 1 + step, p.numel(), dtype=p.dtype).view(p.shape)


def trained(kind, pattern, *, each=None, sizes=(3, 7, 1, 12, 4, 30), dtypes=(torch.float64,), **kwargs):
    """Parameters and state after 24 steps in which gradients come and go."""
    params = [torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=dtypes[i % len(dtypes)])) for i, n in enumerate(sizes)]
    optimizer = kind(params, lr=0.05, **kwargs)
    for step in range(24):
        for i, (p, there) in enumerate(zip(params, pattern(step, len(params)), strict=True)):
            p.grad = grad_of(step, i, p) if there else None
        if each is not None:
            each(step, optimizer)
        optimizer.step()
    states = [optimizer.state.get(p, {}) for p in params]
    return [p.detach() for p in params], [{k: v for k, v in s.items() if v is not None} for s in states]


def same_as_torchs(name, pattern, tolerance=1e-9, **kwargs):
    (ours, states), (theirs, its) = (
        trained(getattr(library, name), pattern, **kwargs) for library in (optim, torch.optim)
    )
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for state, twin in zip(states, its, strict=True):
        if name != "SGD":  # torch's does not count
            assert state["step"] == twin["step"] if twin else not state


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_counts_its_own_steps(checked_by, name, pattern):
    """Those at which it has a gradient; as torch.optim does."""
    same_as_torchs(name, pattern, 1e-6 if name in ("NAdam", "ASGD") else 1e-9)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"dtypes": (torch.float64, torch.float32)},
        {"sizes": (40_000, 3, 40_000, 50_000, 10, 0)},
        {"fused": False},
        {"foreach": True},
        {"amsgrad": True, "weight_decay": 0.1},
    ],
    ids=["two formats", "shared by threads", "on tensors", "many tensors at once", "flags"],
)
@pytest.mark.parametrize("pattern", [by_turns, experts], ids=lambda f: f.__name__)
def test_in_every_way_of_a_step(pattern, kwargs):
    """In launches of several kernels, chunk by chunk, or without a kernel."""
    same_as_torchs("Adam", pattern, 1e-6 if "dtypes" in kwargs else 1e-9, **kwargs)


def test_cautious_steps_count_those_that_are_there():
    """What a cautious step moves is counted for each tensor that has a gradient."""
    for pattern in (by_turns, experts):
        ends = [trained(optim.Adam, pattern, cautious=True, fused=fused)[0] for fused in (None, False)]
        torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


@pytest.mark.machine_code
@pytest.mark.parametrize("pattern", [by_turns, experts, early_exit], ids=lambda f: f.__name__)
def test_nothing_is_planned_anew(checked_by, pattern):
    """Once every tensor has had a gradient: another plan takes ten times as long as a step."""
    plans = []
    trained(optim.Adam, pattern, each=lambda step, optimizer: plans.append(optimizer.stepper.plan))
    assert len(set(plans[12:])) == 1


def test_what_else_changes_meanwhile(checked_by):
    """Learning rates, state and counts of tensors that have no gradient at the time."""

    def each(step, optimizer):
        group = optimizer.param_groups[0]
        p, q = group["params"][:2]
        if step == 7:
            group["lr"] = 0.2
        elif step == 9:
            optimizer.state[q]["exp_avg"].mul_(0.5)
        elif step == 10:
            optimizer.state[q]["exp_avg"] = optimizer.state[q]["exp_avg"] * 0.5
        elif step == 13:
            optimizer.state[p]["step"].fill_(2)
        elif step == 15:
            optimizer.state[q]["step"] = torch.tensor(1.0)
        elif step == 17:
            optimizer.state[p].clear()
        elif step == 19:
            q.data = q.data * 0.5

    same_as_torchs("Adam", by_turns, each=each)


def test_gradients_that_come_back_otherwise(checked_by):
    """Of another layout or negated, which they were not before."""

    def each(step, optimizer):
        for p in optimizer.param_groups[0]["params"]:
            if p.grad is not None and step > 11:
                p.grad = torch._neg_view(-p.grad) if step % 3 else torch.stack([p.grad, p.grad], -1)[..., 0]

    same_as_torchs("Adam", experts, each=each)


def test_schedules_and_rates_in_tensors():
    """Follow each tensor's own count."""
    ends = []
    for anew in (False, True):
        lr = torch.tensor(0.1, dtype=torch.float64)

        def each(step, optimizer, lr=lr, anew=anew):
            lr.mul_(0.95)
            optimizer.param_groups[0]["lr"] = lr
            optimizer.param_groups[0]["weight_decay"] = lambda done: 0.1 / (1 + done)
            if anew:
                optimizer.stepper.plan = None

        ends.append(trained(optim.AdamW, experts, each=each)[0])
    assert all(map(torch.equal, *ends))


@pytest.mark.slow
def test_a_step_with_other_gradients_takes_little_longer():
    """At most 1.5 times as long as one with the same, and never as long as torch's. Figures are in the benchmarks."""

    def seconds(kind, pattern):
        params = [torch.randn(32, 32).requires_grad_() for _ in range(50)]
        grads, optimizer, taken = [torch.randn(32, 32) for _ in params], kind(params), []
        for step in range(300):
            for p, g, there in zip(params, grads, pattern(step, 50), strict=True):
                p.grad = g if there else None
            began = time.thread_time()
            optimizer.step()
            taken.append(time.thread_time() - began)
        return sorted(taken[100:])[50]

    steady = min(seconds(optim.Adam, lambda step, many: [True] * many) for _ in range(3))
    for pattern in (by_turns, experts, early_exit):
        changing = min(seconds(optim.Adam, pattern) for _ in range(3))
        assert changing < 2 * steady, pattern  # where other work goes on, too
        assert changing < seconds(torch.optim.Adam, pattern), pattern


WAYS = {
    "kernel": ("descend.engines.native.launch.Launch.__call__", {}),
    "tensor": ("descend.optim.tensor_steps.tensor_step", {"fused": False}),
    "tensors": ("descend.optim.tensor_steps.foreach_step", {"foreach": True}),
}
"""What runs the rule over a large tensor, and how it is asked for."""


@pytest.mark.parametrize("layout", ["alike", "transposed", "negated"])
@pytest.mark.parametrize("way", [pytest.param("kernel", marks=pytest.mark.machine_code), "tensor", "tensors"])
def test_gradients_that_are_let_go_in_the_middle_of_a_step(monkeypatch, checked_by, way, layout):
    """By another thread, and their memory is used again: the step has them until it is done, and no longer."""
    target, kwargs = WAYS[way]
    params = [torch.nn.Parameter(torch.zeros(300, 200)) for _ in range(2)]
    optimizer = optim.SGD(params, lr=1.0, **kwargs)
    run = pkgutil.resolve_name(target)
    gone, reused = [], []

    def let_go(*args):
        gone.extend(weakref.ref(p.grad) for p in params if p.grad is not None)
        for p in params:
            p.grad = None
        reused.append([torch.full((300, 200), float("nan")) for _ in range(8)])
        return run(*args)

    monkeypatch.setattr(target, let_go)
    for _ in range(4):
        for p in params:
            g = torch.ones(300, 200)
            p.grad = {"alike": g, "transposed": g.t().contiguous().t(), "negated": torch._neg_view(-g)}[layout]
            del g
        optimizer.step()
        assert all(p.grad is None for p in params)
    assert [p.unique().tolist() for p in params] == [[-4.0], [-4.0]]
    assert len(gone) == 8
    assert [ref() for ref in gone] == [None] * 8
