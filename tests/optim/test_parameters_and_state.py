"""What users do to parameters and state between steps, and how both lie in memory."""

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import LAYOUTS, TWINS, alike, begun, both, close, network, per_twin, same, train  # noqa: E402

from descend import optim  # noqa: E402
from descend.errors import ParameterError, StateError  # noqa: E402
from descend.optim.step_plan import StepPlan  # noqa: E402


@per_twin
def test_parameters_that_move(name):
    """Parameters whose data are replaced keep their state and go on from the new data."""

    def use(model, optimizer):
        losses = train(model, optimizer, 3)
        for p in model.parameters():
            p.data = p.data.clone() * 0.9
        losses += train(model, optimizer, 3)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.9)
        return losses + train(model, optimizer, 3)

    alike(name, use)


def test_other_format_after_the_first_step():
    """A model may change its format mid-training; state keeps the one that it has."""
    model = network(torch.float32)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses = train(model, optimizer, 5)
    model.to(torch.float64)
    losses += train(model, optimizer, 5)
    assert next(iter(optimizer.state.values()))["exp_avg"].dtype == torch.float32
    model.to(torch.bfloat16)
    train(model, optimizer, 1)
    exact = network()
    same(losses, train(exact, optim.Adam(exact.parameters(), lr=0.01), 10), 1e-4)


@per_twin
def test_state_in_the_hands_of_users(name):
    """State that is replaced, changed in place, cleared, or given another step is what the next step starts from."""

    def use(model, optimizer):
        losses = train(model, optimizer, 3)
        for state in optimizer.state.values():
            for entry, value in list(state.items()):
                if entry != "step" and value is not None:
                    state[entry] = value * 0.5
        losses += train(model, optimizer, 3)
        for state in optimizer.state.values():
            for entry, value in state.items():
                if value is not None:
                    value.add_(2) if entry == "step" else value.mul_(1.5)
        losses += train(model, optimizer, 3)
        for state in optimizer.state.values():
            if "step" in state:
                state["step"] = torch.tensor(1.0)
        losses += train(model, optimizer, 3)
        optimizer.state.clear()
        begun(optimizer)
        losses += train(model, optimizer, 3)
        optimizer.state.pop(next(model.parameters()), None)
        begun(optimizer)
        return losses + train(model, optimizer, 3)

    tolerance = 1e-6 if getattr(optim, name).rule.carried else None
    for way in ({}, {"fused": False}):
        (mine, ours), (its, theirs) = both(name)
        for group in ours.param_groups:
            group.update(way)
        same(use(mine, ours), use(its, theirs), tolerance or 1e-9)
        same(mine, its, tolerance or 1e-9)


def test_foreign_entries_of_the_state():
    """What users keep in the state beside ours is let alone, and no entry that is missing stops a step."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    p, q, *_ = model.parameters()
    optimizer.state[p]["note"] = "mine"
    optimizer.state["whole"] = {"anything": 1}
    train(model, optimizer, 2)
    assert (optimizer.state[p]["note"], optimizer.state["whole"]) == ("mine", {"anything": 1})
    optimizer.state[q].clear()
    train(model, optimizer, 2)
    assert [int(optimizer.state[x]["step"]) for x in (p, q)] == [6, 2]
    del optimizer.state[q]["exp_avg_sq"]
    train(model, optimizer, 1)
    assert optimizer.state[q]["exp_avg_sq"].any()


def test_state_of_another_shape_is_named():
    """State that does not fit its parameter is an error, and not another's memory."""
    model = network()
    optimizer = optim.Adam(model.named_parameters())
    train(model, optimizer, 1)
    optimizer.state[model[0].weight]["exp_avg"] = torch.zeros(3)
    with pytest.raises(StateError, match=r"'exp_avg' of '0.weight' has shape \(3,\), the parameter \(8, 4\)"):
        optimizer.step()


def test_gradient_of_another_shape_is_named():
    """Data that no longer fit their gradient are an error, and not another's memory."""
    for way in (None, False):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = optim.Adam([("w", p)], fused=way)
        p.grad = torch.ones(3)
        optimizer.step()
        p.data = torch.ones(1000)
        with pytest.raises(ParameterError, match=r"gradient of 'w' has shape \(3,\), the parameter \(1000,\)"):
            optimizer.step()


def test_data_that_shrink_in_place():
    """A parameter that becomes the beginning of itself no longer fits its state: an error."""
    p = torch.nn.Parameter(torch.ones(1000))
    optimizer = optim.Adam([("w", p)])
    p.grad = torch.ones(1000)
    optimizer.step()
    p.data = p.data[:3]
    p.grad = torch.ones(3)
    with pytest.raises(StateError, match=r"'exp_avg' of 'w' has shape \(1000,\), the parameter \(3,\)"):
        optimizer.step()


def test_planned_as_often_as_it_takes(monkeypatch):
    """Memory that another process steps meanwhile is looked at again, not an error."""
    run, refusals = StepPlan.run, iter([False] * 7)
    monkeypatch.setattr(StepPlan, "run", lambda self: next(refusals, True) and run(self))
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optim.SGD([p], lr=1.0).step()
    assert p.tolist() == [0.0, 0.0]
    monkeypatch.setattr(StepPlan, "run", lambda self: False)
    with pytest.raises(RuntimeError, match="change while they are stepped"):
        optim.SGD([p], lr=1.0).step()


@pytest.mark.parametrize("layout", ["transposed", "with gaps", "a view"])
@pytest.mark.parametrize("name", TWINS)
def test_layouts_of_parameters(name, layout):
    """So may parameters; state is laid out as they are, and what lies in the gaps is not touched."""
    made = []
    for library in (optim, torch.optim):
        base = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
        p = LAYOUTS[layout](base).requires_grad_()
        assert p.is_leaf
        optimizer = getattr(library, name)([p])
        for _ in range(9):
            optimizer.zero_grad()
            ((p - 0.3) ** 2 * torch.arange(1, 5)).sum().backward()
            optimizer.step()
        if layout == "with gaps":
            assert torch.equal(p.detach().as_strided((12,), (2,), 1), base.flatten())
        made.append(p)
    same(*made, close(name))


def test_memory_formats():
    """Convolutions in channels_last train as in the usual format."""
    made = []
    for library, memory in ((optim, torch.channels_last), (torch.optim, torch.contiguous_format)):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 5, 1)).double()
        model = model.to(memory_format=memory)
        optimizer = library.Adam(model.parameters())
        x = torch.linspace(-1, 1, 2 * 3 * 36, dtype=torch.float64).reshape(2, 3, 6, 6).contiguous(memory_format=memory)
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()
        made.append(model)
    same(*made)


def test_parameter_that_overlaps_itself():
    """An expanded parameter cannot be written to: torch's own error says so."""
    p = torch.zeros(1).expand(3).detach().requires_grad_()
    p.grad = torch.ones(3)
    for library in (optim, torch.optim):
        with pytest.raises(RuntimeError, match=r"[Uu]nsupported operation|more than one element"):
            library.SGD([p]).step()


@per_twin
def test_numbers_and_nothing(name):
    """A parameter may be a single number, or hold none."""

    def model():
        made = torch.nn.Module()
        made.a = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        made.b = torch.nn.Parameter(torch.zeros(0, 3, dtype=torch.float64))
        made.c = torch.nn.Parameter(torch.zeros(1, 1, 1, dtype=torch.float64))
        return made

    def use(model, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            ((model.a - 1) ** 2 + (model.c - 2).sum() ** 2 + model.b.sum()).backward()
            optimizer.step()

    alike(name, use, model=model)
