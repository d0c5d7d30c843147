"""Hyperparameters that follow schedules."""

import dataclasses
import io

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import network, per_twin, same, train  # noqa: E402
from torch.optim import lr_scheduler  # noqa: E402

from descend import optim, schedules  # noqa: E402


@per_twin
def test_every_hyperparameter_may_follow_a_schedule(name):
    """A hyperparameter that is a function of the step has its number at each step, and resumes from a checkpoint."""
    kind = getattr(optim, name)
    fixed = {}
    for field in [f.name for f in dataclasses.fields(kind.rule)]:
        default = getattr(kind.rule(), field)
        if isinstance(default, tuple):
            fixed[field] = tuple((lambda i, v=v: v * (1 - 1e-3 * i)) if j == 0 else v for j, v in enumerate(default))
        elif not isinstance(default, bool):
            fixed[field] = lambda i, v=default: (v or 0.01) * (1 - 1e-2 * i)
    if name == "Rprop":
        fixed.pop("lr")
    model, other = network(), network()
    optimizer, plain = kind(model.parameters(), **fixed), kind(other.parameters())
    plain.param_groups[0].update({k: plain_at(v, 0) for k, v in fixed.items()})
    for i in range(12):
        plain.param_groups[0].update({k: plain_at(v, i) for k, v in fixed.items()})
        same(train(model, optimizer, 1), train(other, plain, 1))
        if i == 6:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = kind(model.parameters(), **fixed)
            optimizer.load_state_dict(torch.load(file, weights_only=True))
    same(model, other)


def plain_at(value, i):
    if isinstance(value, tuple):
        return tuple(plain_at(v, i) for v in value)
    return value(i) if callable(value) else value


def test_schedules_are_torchs_schedulers():
    """A schedule in place of `lr` does what the scheduler of torch does from outside."""
    model, other = network(), network()
    optimizer = optim.Adam(model.parameters(), lr=schedules.Cosine(0.05, 12))
    theirs = torch.optim.Adam(other.parameters(), lr=0.05)
    scheduler = lr_scheduler.CosineAnnealingLR(theirs, 12)
    same(train(model, optimizer, 12), train(other, theirs, 12, each=scheduler.step))


def test_schedules_in_checkpoints():
    """A checkpoint has the number that comes next; the schedule stays in the optimizer that loads, or is replaced."""
    model = network()
    lr = schedules.StepDecay(0.1, 2, 0.5)
    optimizer = optim.Adam(model.parameters(), lr=lr, betas=(lambda i: 0.9 - 0.1 * i, 0.99))
    train(model, optimizer, 2)
    saved = optimizer.state_dict()["param_groups"][0]
    assert (saved["lr"], saved["betas"]) == (0.05, (pytest.approx(0.7), 0.99))
    assert optimizer.param_groups[0]["lr"] == saved["lr"]
    torch.optim.Adam(network().parameters()).load_state_dict(optimizer.state_dict())
    its = optim.Adam(model.parameters(), lr=lr)
    its.load_state_dict(optimizer.state_dict())
    for expected in (0.05, 0.05, 0.025):
        assert its.param_groups[0]["lr"] == expected
        assert its.param_groups[0]["betas"] == saved["betas"]
        train(model, its, 1)


def test_schedule_for_parameters_that_join_later():
    """A schedule counts the steps of each parameter, as bias corrections do."""
    p, q = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = optim.SGD([p, q], lr=lambda i: 10.0**i)
    p.grad = torch.ones(1)
    optimizer.step()
    q.grad = torch.ones(1)
    optimizer.step()
    assert (p.item(), q.item()) == (-11.0, -1.0)
