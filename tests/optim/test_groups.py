"""Parameter groups: their hyperparameters, edited or replaced between steps, and groups that come or go."""

import inspect

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import TWINS, alike, begun, both, close, network, per_twin, same, train  # noqa: E402

import descend  # noqa: E402
from descend import optim  # noqa: E402
from descend.errors import RuleError  # noqa: E402


@per_twin
def test_groups(name):
    """Each group has its own hyperparameters, those it does not name from the constructor; groups can be added."""

    def groups(model):
        first, norm, _, last = model
        return [
            {"params": first.parameters()},
            {"params": [norm.weight], "lr": 0.05, "maximize": True},
            {"params": norm.bias, "lr": 0.0},
        ], {"params": last.parameters(), "lr": 0.003}

    made = []
    for library in (optim, torch.optim):
        model = network()
        start, later = groups(model)
        optimizer = getattr(library, name)(start, lr=0.02)
        train(model, optimizer, 5)
        optimizer.add_param_group(later)
        begun(optimizer)
        train(model, optimizer, 10)
        made.append(model)
    same(*made, close(name))


EDITS = {
    "lr": {"lr": 0.005},
    "weight_decay": {"weight_decay": 0.3},
    "no weight_decay": {"weight_decay": 0.0},
    "betas": {"betas": (0.7, 0.8)},
    "list": {"betas": [0.7, 0.8]},
    "eps": {"eps": 0.01},
    "maximize": {"maximize": True},
    "momentum": {"momentum": 0.5},
    "nesterov": {"momentum": 0.5, "nesterov": True},
    "amsgrad": {"amsgrad": False},
}


def editable(name, edit):
    """Whether torch's class of that name can be edited so; its RMSprop fails when momentum comes later."""
    known = inspect.signature(getattr(torch.optim, name)).parameters
    return set(EDITS[edit]) <= set(known) and not (name == "RMSprop" and "momentum" in EDITS[edit])


@pytest.mark.parametrize(("name", "edit"), [(n, e) for n in TWINS for e in EDITS if editable(n, e)])
def test_groups_edited_in_place(name, edit):
    """What is written into a group acts from the next step on."""
    change = EDITS[edit]
    start = {"weight_decay": 0.01} if name != "Rprop" else {}
    if edit == "amsgrad":
        start["amsgrad"] = True

    def use(model, optimizer):
        train(model, optimizer, 5)
        optimizer.param_groups[0].update(change)
        return train(model, optimizer, 5)

    alike(name, use, **start)


def test_groups_edited_after_the_scalars_have_settled():
    """Nothing is written any more before a step, until the group says otherwise."""

    def use(model, optimizer):
        losses = train(model, optimizer, 80)
        if isinstance(optimizer, optim.Optimizer):
            assert optimizer.stepper.plan.changing == []
        for edit in ({"lr": 0.01}, {"betas": (0.6, 0.7)}, {"weight_decay": 0.1}, {"lr": 0.001, "eps": 1e-3}):
            for group in optimizer.param_groups:
                group.update(edit)
            losses += train(model, optimizer, 10)
        return losses

    alike("Adam", use, betas=(0.5, 0.5))


def test_a_rate_that_never_settles_of_a_subclass():
    """Whose scalars are its own, though its formula is inherited."""

    class Warmed(descend.SGD, register=False):
        def scalars(self, t):
            return {"inflow": min(1.0, t / 8)}

    weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = optim.from_rule(Warmed)([weight], lr=1.0, momentum=0.5)
    expected = velocity = 0.0
    for t in range(1, 20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        velocity = 0.5 * velocity + min(1.0, t / 8)
        expected -= velocity
        assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_groups_edited_by_replacement():
    """A group may be another dict, its list another list, and a parameter may come or go in the list."""

    def use(model, optimizer):
        losses = train(model, optimizer, 3)
        optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.3}
        losses += train(model, optimizer, 3)
        last = optimizer.param_groups[0]["params"].pop()
        losses += train(model, optimizer, 3)
        optimizer.param_groups[0]["params"].append(last)
        losses += train(model, optimizer, 3)
        optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:3]
        losses += train(model, optimizer, 3)
        optimizer.param_groups = [{**optimizer.param_groups[0], "lr": 0.02}]
        return losses + train(model, optimizer, 3)

    alike("Adam", use)


def test_parameter_replaced_in_a_group():
    """Another parameter in the place of one is stepped from there on, and the one before is not."""

    def use(model, optimizer):
        train(model, optimizer, 3)
        old = model[3].bias
        model[3].bias = torch.nn.Parameter(old.detach() + 0.5)
        optimizer.param_groups[0]["params"][-1] = model[3].bias
        train(model, optimizer, 3)
        old.grad = None
        return [old.detach()]

    alike("Adam", use)


@pytest.mark.machine_code
def test_a_way_edited_in_place():
    """A group that is told to step in another way does so: its step can be differentiated, or must be machine code."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    assert optimizer.stepper.plan.spans.launches
    optimizer.param_groups[0]["fused"] = False
    train(model, optimizer, 1)
    assert not optimizer.stepper.plan.spans.launches
    optimizer.param_groups[0]["fused"] = True
    train(model, optimizer, 1)
    assert optimizer.stepper.plan.spans.launches


def test_wrong_edit_is_an_error_at_each_step():
    """A hyperparameter out of range is refused as often as it is met, and nothing moves; a right one mends it."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    before = [p.clone() for p in model.parameters()]
    optimizer.param_groups[0]["lr"] = -1.0
    for _ in range(3):
        with pytest.raises(RuleError, match=r"Adam\(lr=-1.0\)"):
            optimizer.step()
    same(list(model.parameters()), before)
    optimizer.param_groups[0]["lr"] = 0.2
    optimizer.step()
    assert optimizer.state[before and next(model.parameters())]["step"] == 3


@per_twin
def test_remove_param_group(name):
    """A group that is removed rests, and its state is forgotten; the others go on as before."""
    (mine, ours), (its, theirs) = both(name)
    made = []
    for model, optimizer in ((mine, ours), (its, theirs)):
        first, _, _, last = model
        kind = type(optimizer)
        its = kind([{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.005}])
        train(model, its, 3)
        if kind.__module__.startswith("descend"):
            gone = its.remove_param_group(0)
            assert gone["params"] == list(first.parameters())
            assert set(its.state) == set(last.parameters())
        else:
            first.requires_grad_(False)
            its.zero_grad()
        train(model, its, 3)
        made.append(model)
    same(*made, close(name))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "NAdam"])
def test_learning_rate_as_tensor(name):
    """`lr` may be a tensor; what is written into it acts at once."""
    for shape in ((), (1,)):

        def use(model, optimizer, shape=shape):
            lr = torch.full(shape, 0.02, dtype=torch.float64)
            optimizer.param_groups[0]["lr"] = lr
            losses = train(model, optimizer, 5)
            lr.fill_(0.005)
            losses += train(model, optimizer, 5)
            lr.mul_(3)
            return losses + train(model, optimizer, 5)

        alike(name, use, lr=torch.tensor(0.02), tolerance=1e-6)


def test_no_decay_groups():
    """Weights decay; biases, norms and what is named do not; what is frozen is left out."""
    model = network()
    model[0].bias.requires_grad_(False)
    groups = optim.no_decay_groups(model, 0.1, no_decay=["3.weight"])
    assert [(g["param_names"], g["weight_decay"]) for g in groups] == [
        (["0.weight"], 0.1),
        (["1.weight", "1.bias", "3.weight", "3.bias"], 0.0),
    ]
    optimizer = optim.AdamW(groups, lr=0.01)
    train(model, optimizer, 2)
    (decaying, *_), _ = (g["params"] for g in optim.no_decay_groups(network()))
    assert decaying.dim() == 2
    assert "weight_decay" not in optim.no_decay_groups(network())[0]
