"""Schedules as hyperparameters: numbers stand in the groups, for whatever reads or sets them there."""

import copy
import dataclasses
import io
import pickle
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.optim.test_with_torch import SCHEDULERS  # noqa: E402
from tests.optim.training import network, per_twin, same, train  # noqa: E402

from descend import optim, schedules  # noqa: E402

COSINE = schedules.Cosine(0.05, 12)


def parameter(*numbers):
    """A parameter with a gradient of ones."""
    p = torch.nn.Parameter(torch.tensor(numbers or (1.0, 2.0)))
    p.grad = torch.ones_like(p)
    return p


def shown(optimizer, name="lr", group=0):
    return optimizer.param_groups[group][name]


# ---- what stands in the groups ----------------------------------------------------------------------------------


@per_twin
def test_groups_hold_the_numbers_of_the_next_step(name):
    """Every hyperparameter that follows a schedule is a number in its group, before the first step and after each."""
    kind = getattr(optim, name)
    asked = {}
    for field, kept, _ in [(f.name, f.default, None) for f in dataclasses.fields(kind.rule)]:
        if isinstance(kept, tuple):
            asked[field] = (kept[0], lambda done, v=kept[1]: v * (1 - 1e-3 * done))
        elif not isinstance(kept, bool):
            asked[field] = lambda done, v=kept: (v or 0.01) * (1 - 1e-2 * done)
    model = network()
    optimizer = kind(model.parameters(), **asked)
    for done in range(4):
        for field, value in asked.items():
            now = shown(optimizer, field)
            if isinstance(value, tuple):
                assert now == (value[0], value[1](done))
            else:
                assert type(now) is float
                assert (now, f"{now:.2e}") == (value(done), f"{value(done):.2e}")
        train(model, optimizer, 1)


@pytest.mark.parametrize("way", [{}, {"fused": False}, {"foreach": True}], ids=lambda w: next(iter(w), "default"))
def test_a_group_has_the_number_of_those_that_are_furthest(way):
    """Each parameter is stepped by its own count of steps; the group shows the number for the largest of them."""
    p, q = parameter(0.0), parameter(0.0)
    optimizer = optim.SGD([p, q], lr=lambda done: 10.0**done, **way)
    q.grad = None
    optimizer.step()
    q.grad = torch.ones(1)
    p.grad = None
    optimizer.step()
    assert (p.item(), q.item(), shown(optimizer)) == (-1.0, -1.0, 10.0)
    p.grad = torch.ones(1)
    optimizer.step()
    assert (p.item(), q.item(), shown(optimizer)) == (-11.0, -11.0, 100.0)


def test_state_that_is_forgotten_starts_schedules_anew():
    """A schedule follows the count of steps, so its number goes back with it."""
    p = parameter()
    optimizer = optim.SGD([p], lr=lambda done: 10.0**-done)
    optimizer.step()
    optimizer.step()
    assert shown(optimizer) == 0.01
    optimizer.state.clear()
    optimizer.step()
    assert (p[0].item(), shown(optimizer)) == (pytest.approx(1 - 1 - 0.1 - 1), 0.1)


def test_groups_that_are_added_follow_the_schedule():
    """So do those that are made from the defaults; the dict of the caller keeps its schedule, for other optimizers."""
    p, q = parameter(), parameter()
    optimizer = optim.SGD([p], lr=COSINE)
    optimizer.step()
    group = {"params": [q], "momentum": schedules.Constant(0.5)}
    optimizer.add_param_group(group)
    assert (shown(optimizer), shown(optimizer, group=1)) == (COSINE(1), COSINE(0))
    assert shown(optimizer, "momentum", 1) == 0.5
    optimizer.step()
    assert (shown(optimizer), shown(optimizer, group=1)) == (COSINE(2), COSINE(1))
    assert group["momentum"] == schedules.Constant(0.5)
    assert optimizer.defaults["lr"] is COSINE


@pytest.mark.parametrize("remove", [lambda o: o.remove_param_group(1), lambda o: o.param_groups.pop(1)])
def test_a_group_that_is_taken_out_takes_its_schedules_along(remove):
    """A group goes to another optimizer with its schedules."""
    p, q = parameter(), parameter()
    optimizer = optim.SGD([{"params": [p]}, {"params": [q], "lr": COSINE}], lr=0.1)
    optimizer.step()
    group = remove(optimizer)
    optimizer.step()
    other = optim.SGD([group])
    other.step()
    assert shown(other) == COSINE(1)
    assert shown(optimizer) == 0.1


def test_a_schedule_may_be_assigned_later():
    """It is followed from the next step on, in place of a number or of another schedule."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.3)
    train(model, optimizer, 3)
    optimizer.param_groups[0]["lr"] = COSINE
    assert optimizer.state_dict()["param_groups"][0]["lr"] == COSINE(3)
    train(model, optimizer, 1)
    assert shown(optimizer) == COSINE(4)
    other = schedules.Exponential(0.1, 0.9)
    optimizer.param_groups[0]["lr"] = other
    optimizer.param_groups[0]["betas"] = [schedules.Constant(0.5), 0.9]
    train(model, optimizer, 1)
    assert (shown(optimizer), shown(optimizer, "betas")) == (other(5), (0.5, 0.9))


def test_a_schedule_may_end():
    """One that has numbers for so many steps alone is no error before a step beyond them."""
    p = parameter()
    rates = [0.1, 0.2, 0.3]
    optimizer = optim.SGD([p], lr=lambda done: rates[done])
    for _ in rates:
        optimizer.step()
    saved = optimizer.state_dict()
    assert (p[0].item(), shown(optimizer), saved["param_groups"][0]["lr"]) == (pytest.approx(0.4), 0.3, 0.3)
    optimizer.load_state_dict(saved)
    assert shown(optimizer) == 0.3
    with pytest.raises(IndexError):
        optimizer.step()
    assert p[0].item() == pytest.approx(0.4)


@pytest.mark.parametrize(
    "wrong", [lambda done: -1.0, lambda done: "0.1", schedules.Cosine], ids=["-1", "string", "class"]
)
def test_a_wrong_schedule_is_refused_when_it_is_given(wrong):
    """Its first number is asked for when an optimizer is made."""
    with pytest.raises(ValueError, match="lr must be a"):
        optim.SGD([parameter()], lr=wrong)


@pytest.mark.parametrize("of", [np.float64, np.array, torch.tensor, lambda x: torch.nn.Parameter(torch.tensor([x]))])
def test_what_a_schedule_may_return(of):
    """Numbers in arrays and tensors are taken, and are floats in the group."""
    p = parameter()
    optimizer = optim.SGD([p], lr=lambda done: of(0.5))
    optimizer.step()
    assert p.tolist() == [0.5, 1.5]
    assert type(shown(optimizer)) is float


def test_schedules_are_printed():
    """An optimizer's print has the schedules that it follows."""
    assert f"lr: {COSINE}" in repr(optim.SGD([parameter()], COSINE))


# ---- numbers that are assigned ----------------------------------------------------------------------------------


def test_a_number_that_is_assigned_is_used():
    """It takes the schedule's place, which is said once; so it is with a part of a tuple."""
    p = parameter(0.0)
    optimizer = optim.SGD([p], lr=COSINE)
    optimizer.step()
    for rate in (1.0, 2.0):
        optimizer.param_groups[0]["lr"] = rate
        with (
            pytest.warns(RuntimeWarning, match="no more: 1.0 was assigned") if rate == 1 else warnings.catch_warnings()
        ):
            warnings.simplefilter("error" if rate == 2 else "always")
            optimizer.step()
        assert shown(optimizer) == rate
    assert p.item() == pytest.approx(-0.05 - 1.0 - 2.0)
    optimizer.param_groups[0]["lr"] = COSINE
    optimizer.step()
    assert shown(optimizer) == COSINE(4)


def test_a_number_that_is_put_back_is_the_schedules_again():
    """As when PyTorch's distributed checkpoints make a step with lr=0; nothing is said of that."""
    p = parameter(0.0)
    optimizer = optim.SGD([p], lr=COSINE)
    before = shown(optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        assert p.item() == 0.0
        optimizer.param_groups[0]["lr"] = before
        optimizer.step()
    assert p.item() == pytest.approx(-COSINE(1))
    assert shown(optimizer) == COSINE(2)


def test_one_of_two_numbers_is_assigned():
    """The other goes on with its schedule, as with schedulers that set the first of the betas."""
    model = network()
    first, second = schedules.Exponential(0.9, 0.9), schedules.Exponential(0.99, 0.9)
    optimizer = optim.Adam(model.parameters(), betas=(first, second))
    train(model, optimizer, 1)
    optimizer.param_groups[0]["betas"] = (0.5, *optimizer.param_groups[0]["betas"][1:])
    with pytest.warns(RuntimeWarning, match="follows the schedule betas="):
        train(model, optimizer, 2)
    assert shown(optimizer, "betas") == (0.5, second(3))


@pytest.mark.filterwarnings("ignore:Adam follows the schedule:RuntimeWarning")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_of_torch_on_top(scheduler):
    """A scheduler finds numbers; what it assigns is used, as in torch's optimizer with the same numbers assigned."""
    model, other = network(), network()
    optimizer = optim.Adam(model.parameters(), lr=COSINE)
    theirs = torch.optim.Adam(other.parameters())
    made = SCHEDULERS[scheduler](optimizer)
    for _ in range(15):
        for group, its in zip(theirs.param_groups, optimizer.param_groups, strict=True):
            group.update(lr=its["lr"], betas=its["betas"])
        same(train(model, optimizer, 1), train(other, theirs, 1))
        made.step(1.0) if scheduler == "ReduceLROnPlateau" else made.step()
        assert all(type(rate) is float for rate in (shown(optimizer), *made.get_last_lr()))
    same(model, other)
    torch.load(_file(made.state_dict()), weights_only=True)


def _file(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return file


def test_a_scheduler_on_top_is_told_of():
    """That it takes the schedule's place is said at the first step that it decides."""
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=COSINE)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    with pytest.warns(RuntimeWarning, match=r"AdamW follows the schedule lr=Cosine.* no more: 0\.05 was assigned"):
        train(model, optimizer, 3, each=scheduler.step)
    assert shown(optimizer) == 0.05


# ---- copies and checkpoints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_follow_the_schedule(again):
    """A copy, or what was pickled, goes on as the optimizer itself."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=COSINE, betas=(schedules.Exponential(0.9, 0.9), 0.99))
    train(model, optimizer, 3)
    model_again, optimizer_again = again((model, optimizer))
    assert shown(optimizer_again) == COSINE(3)
    train(model, optimizer, 3)
    train(model_again, optimizer_again, 3)
    same(model, model_again, 0)
    assert [shown(optimizer_again, n) for n in ("lr", "betas")] == [shown(optimizer, n) for n in ("lr", "betas")]
    optimizer.param_groups[0]["lr"] = 0.25
    assert shown(again(optimizer)) == 0.25


def test_checkpoints_go_on_with_the_schedule():
    """A checkpoint that is loaded goes on to the bit; plain numbers are in it; what was assigned stays assigned."""
    model, other = network(), network()
    optimizer = optim.Adam(model.parameters(), lr=COSINE)
    train(model, optimizer, 4)
    other.load_state_dict(model.state_dict())
    saved = torch.load(_file(optimizer.state_dict()), weights_only=True)
    assert type(saved["param_groups"][0]["lr"]) is float
    resumed = optim.Adam(other.parameters(), lr=COSINE)
    resumed.load_state_dict(saved)
    assert shown(resumed) == COSINE(4)
    assert train(model, optimizer, 4) == train(other, resumed, 4)
    same(model, other, 0)
    assert shown(resumed) == shown(optimizer) == COSINE(8)


def test_a_saved_number_that_is_not_the_schedules_is_told_of():
    """As when a number was assigned before the state was saved; the schedule goes on, unless it is assigned again."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.01, betas=(0.8, 0.99))
    train(model, optimizer, 2)
    for scheduled, says in [
        ({"lr": COSINE}, r"Adam goes on with the schedule lr=Cosine.*, which gives 0\.04.* saved is 0\.01"),
        ({"betas": (schedules.Constant(0.9), 0.99)}, r"schedule betas=.*, which gives \(0\.9, 0\.99\)"),
    ]:
        other = optim.Adam(model.parameters(), **scheduled)
        with pytest.warns(RuntimeWarning, match=says):
            other.load_state_dict(optimizer.state_dict())
        name = next(iter(scheduled))
        optim.Adam(model.parameters(), **scheduled).load_state_dict(optimizer.state_dict(), keep=(name,))
