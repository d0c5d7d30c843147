"""What `step` does and returns, with hooks, closures and profiles, in an optimizer, its copies and subclasses."""

import contextlib
import copy
import pickle

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import alike, both, loss_of, network, per_twin, same, train  # noqa: E402
from torch.optim import optimizer as torch_optimizer  # noqa: E402

from descend import optim, schedules  # noqa: E402


@per_twin
@pytest.mark.parametrize("way", [{"foreach": True}, {"foreach": False}, {"fused": False}, {"differentiable": True}])
def test_every_way_of_a_step_is_the_same_step(name, way):
    """How a step is run does not change what it does."""
    results = []
    for ways in ({}, way):
        model = network()
        with torch.no_grad() if way.get("differentiable") else contextlib.nullcontext():
            optimizer = getattr(optim, name)(model.parameters(), **ways)
        if way.get("differentiable"):
            for _ in range(5):  # leaves cannot be followed; with requires_grad off they are plain numbers
                optimizer.zero_grad()
                loss_of(model)
                model.requires_grad_(False)
                optimizer.step()
                model.requires_grad_(True)
        else:
            train(model, optimizer, 5)
        results.append(model)
    same(*results)


@per_twin
def test_closure(name):
    """The closure is called once, with gradients on, before the step; its value is returned."""

    def use(model, optimizer):
        def closure():
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            return loss_of(model)

        with torch.no_grad():
            return [optimizer.step(closure) for _ in range(5)]

    alike(name, use)


@per_twin
def test_missing_gradients(name):
    """A parameter counts its own steps: those at which it had a gradient. Without one it stays, and has no state."""

    def use(model, optimizer):
        first, *_, last = model.parameters()
        for i in range(12):
            optimizer.zero_grad()
            loss_of(model)
            if i < 3:
                last.grad = None
            if i % 4 == 3:
                first.grad = None
            optimizer.step()
            if isinstance(optimizer, optim.Optimizer):
                assert (last in optimizer.state) == (i >= 3)

    ours, _ = alike(name, use)
    steps = [int(s["step"]) for s in ours.state.values()]
    assert sorted(steps) == [9, 9, 12, 12, 12, 12]


def test_step_without_any_gradient():
    """Nothing happens, at the first step and later."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    optimizer.step()
    assert not optimizer.state
    train(model, optimizer, 2)
    optimizer.zero_grad()
    before = [p.clone() for p in model.parameters()]
    optimizer.step()
    same(list(model.parameters()), before)
    assert {int(s["step"]) for s in optimizer.state.values()} == {2}


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    """Gradients become None, or zero; a zero gradient is one, and moves what has momentum."""

    def use(model, optimizer):
        train(model, optimizer, 3)
        optimizer.zero_grad(set_to_none=set_to_none)
        for p in model.parameters():
            assert (p.grad is None) if set_to_none else not p.grad.any()
        optimizer.step()

    alike("Adam", use)


def test_hooks():
    """Hooks are called as torch calls them: global ones too, with torch's arguments, in torch's order."""

    def use(model, optimizer):
        calls = []
        note = lambda what: lambda o, *a: calls.append((what, o is optimizer, *(len(x) for x in a)))  # noqa: E731
        loss_of(model)
        handles = [
            torch_optimizer.register_optimizer_step_pre_hook(note("global before")),
            torch_optimizer.register_optimizer_step_post_hook(note("global after")),
            optimizer.register_step_pre_hook(note("before")),
            optimizer.register_step_post_hook(note("after")),
        ]
        optimizer.step()
        optimizer.step(lambda: calls.append("closure"))
        for handle in handles:
            handle.remove()
        optimizer.step()
        return calls

    (mine, ours), (its, theirs) = both("SGD")
    assert use(mine, ours) == use(its, theirs)
    same(mine, its)


def test_hook_changes_the_arguments():
    """A hook before the step may give other arguments for it."""
    model = network()
    optimizer = optim.SGD(model.parameters())
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((args[0], lambda: 7.0), kwargs))
    assert optimizer.step() == 7.0


def test_hooks_of_the_state_dict():
    """Hooks before and after saving and loading are called, and may change what is saved or loaded."""
    for library in (optim, torch.optim):
        model = network()
        optimizer = library.Adam(model.parameters())
        train(model, optimizer, 1)
        calls = []
        optimizer.register_state_dict_pre_hook(lambda o, c=calls: c.append("before saving"))
        optimizer.register_state_dict_post_hook(lambda o, d: {**d, "note": "mine"})
        optimizer.register_load_state_dict_pre_hook(
            lambda o, d: {**d, "param_groups": [{**d["param_groups"][0], "lr": 0.5}]}
        )
        optimizer.register_load_state_dict_post_hook(lambda o, c=calls: c.append(o.param_groups[0]["lr"]))
        saved = optimizer.state_dict()
        assert saved["note"] == "mine"
        optimizer.load_state_dict(saved)
        assert calls == ["before saving", 0.5]


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events:UserWarning")  # of PyTorch 2.10
def test_profiler_sees_the_step():
    """A profile has the step under torch's name, and zero_grad too."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 1)
    with torch.profiler.profile() as profile:
        train(model, optimizer, 2)
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["Optimizer.step#Adam.step"] == 2
    assert counts["Optimizer.zero_grad#Adam.zero_grad"] == 2


def test_repr_is_torchs():
    """An optimizer prints as in torch, with what only we have in addition."""
    ours, theirs = (repr(o).splitlines() for _, o in both("Adam"))
    assert {line.replace("weight_decay: 0", "weight_decay: 0.0") for line in theirs} < set(ours)
    assert ours[:2] == ["Adam (", "Parameter Group 0"]
    assert "lr: Cosine(value=0.1, steps=9, final=0.0)" in repr(optim.SGD([torch.zeros(1)], schedules.Cosine(0.1, 9)))


@per_twin
def test_copies_go_on(name):
    """A deep copy, or a pickle, of model and optimizer mid-training takes the same path as the original."""
    model = network()
    optimizer = getattr(optim, name)(model.parameters())
    train(model, optimizer, 5)
    copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    losses = train(model, optimizer, 5)
    for other, its in copies:
        assert type(its) is type(optimizer)
        assert its.param_groups[0]["params"][0] is next(other.parameters())
        same(train(other, its, 5), losses)
        same(other, model)


class Slow(optim.Adam):
    """A user's subclass."""

    def __init__(self, params):
        super().__init__(params, lr=0.01)

    def step(self, closure=None):
        self.slept = True
        return super().step(closure)


def test_subclass_of_a_user():
    """A subclass with a constructor and a step of its own works, and stays what it is when it is copied or pickled."""
    model = network()
    optimizer = Slow(model.parameters())
    train(model, optimizer, 3)
    assert optimizer.slept
    for other, its in (copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))):
        assert type(its) is Slow
        train(other, its, 1)
