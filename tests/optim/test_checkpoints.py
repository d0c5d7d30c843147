"""Checkpoints: exchanged with torch.optim, matched by name, and refused where they do not fit."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import EVERY, FULLEST, close, network, same, train  # noqa: E402

from descend import optim, schedules  # noqa: E402
from descend.errors import OptionError, RuleError, StateError  # noqa: E402


@pytest.mark.parametrize(("name", "kwargs"), [(n, s) for n, s in EVERY if (n, s) in FULLEST or "maximize" not in s])
@pytest.mark.parametrize("way", ["from torch", "to torch", "to ours"])
def test_checkpoints_are_exchanged_with_torch(name, kwargs, way):
    """A checkpoint taken mid-training goes on in the other library as if nothing had happened."""
    first, second = {"from torch": (torch.optim, optim), "to torch": (optim, torch.optim), "to ours": (optim, optim)}[
        way
    ]
    model = network()
    optimizer = getattr(first, name)(model.parameters(), **kwargs)
    train(model, optimizer, 4)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network(seed=1)
    its = getattr(second, name)(other.parameters())
    other.load_state_dict(saved["model"])
    its.load_state_dict(saved["optimizer"])
    same(train(other, its, 5), train(model, optimizer, 5), close(name))
    same(other, model, close(name))


def test_loading_copies():
    """What is loaded is copied: the saved state does not change with the steps, nor does the other optimizer."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    its = optim.Adam(network().parameters())
    its.load_state_dict(saved)
    train(network(), its, 1)
    its.step()
    torch.testing.assert_close(saved, before, rtol=0, atol=0)


def test_restoring_the_best():
    """A checkpoint in memory can be restored into the optimizer that it was taken from."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    train(model, optimizer, 3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = train(model, optimizer, 5)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert train(model, optimizer, 5) == losses


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.filterwarnings("ignore:state_dtype")
def test_state_dtype(dtype):
    """State has the format that is asked for, and keeps it in a checkpoint; training goes its way."""
    exact, model = network(torch.float32), network(torch.float32)
    expected = train(exact, optim.Adam(exact.parameters(), lr=0.01), 40)
    optimizer = optim.Adam(model.parameters(), lr=0.01, state_dtype=dtype)
    losses = train(model, optimizer, 40)
    same(losses, expected, 0.05 if dtype is torch.bfloat16 else 1e-4)
    entries = ("exp_avg", "exp_avg_sq")
    assert {s[n].dtype for s in optimizer.state.values() for n in entries} == {dtype}
    for asked in (None, dtype):
        its = optim.Adam(model.parameters(), state_dtype=asked)
        its.load_state_dict(optimizer.state_dict())
        expected = torch.float32 if asked is None and dtype is torch.bfloat16 else dtype
        assert {s[n].dtype for s in its.state.values() for n in entries} == {expected}
    assert copy.deepcopy(optimizer).state_dtype is dtype
    assert pickle.loads(pickle.dumps(optimizer)).state_dtype is dtype


def test_state_by_name():
    """With names on both sides, state and hyperparameters go to the parameters of the same names, wherever they are."""
    model = network()
    optimizer = optim.Adam(
        [
            {"params": [*model[0].named_parameters(prefix="0")], "lr": 0.02},
            {"params": [*model[1].named_parameters(prefix="1"), *model[3].named_parameters(prefix="3")]},
        ]
    )
    train(model, optimizer, 3)
    other = copy.deepcopy(model)
    its = optim.Adam(
        [
            {"params": [*other[1].named_parameters(prefix="1"), *reversed([*other[3].named_parameters(prefix="3")])]},
            {"params": [*other[0].named_parameters(prefix="0")][::-1]},
        ]
    )
    its.load_state_dict(optimizer.state_dict())
    assert [g["lr"] for g in its.param_groups] == [0.001, 0.02]
    assert its.param_groups[1]["param_names"] == ["0.bias", "0.weight"]
    same(train(other, its, 5), train(model, optimizer, 5))


def test_other_names():
    """Names on one side only are named in an error; with strict=False they are warned about, and start anew."""
    model = network()
    optimizer = optim.Adam(model.named_parameters())
    train(model, optimizer, 3)
    names = dict(model.named_parameters())
    its = optim.Adam([*((n, p) for n, p in names.items() if n != "0.bias"), ("new", torch.nn.Parameter(torch.ones(1)))])
    text = r"not in the saved state: new; only in the saved state: 0.bias"
    with pytest.raises(StateError, match=text):
        its.load_state_dict(optimizer.state_dict())
    assert not its.state
    with pytest.warns(UserWarning, match=text):
        its.load_state_dict(optimizer.state_dict(), strict=False)
    assert len(its.state) == 5
    assert torch.equal(its.state[names["3.weight"]]["exp_avg"], optimizer.state[names["3.weight"]]["exp_avg"])


def test_keep():
    """Hyperparameters may stay as they are in the optimizer that loads."""
    saved = optim.Adam(network().parameters(), lr=0.5, betas=(0.5, 0.5)).state_dict()
    optimizer = optim.Adam(network().parameters(), lr=0.1)
    optimizer.load_state_dict(saved, keep=("lr",))
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (0.1, (0.5, 0.5))
    with pytest.raises(OptionError, match=r"keep=\['rate'\]: not among the hyperparameters, lr, betas"):
        optimizer.load_state_dict(saved, keep=("rate",))


def test_how_a_step_is_run_is_not_loaded():
    """A checkpoint from a GPU, or from a slower way, does not change the way in which steps are run here."""
    saved = torch.optim.Adam(network().parameters(), foreach=True).state_dict()
    saved["param_groups"][0].update(capturable=True, fused=False)
    optimizer = optim.Adam(network().parameters())
    optimizer.load_state_dict(saved)
    assert all(not optimizer.param_groups[0][way] for way in ("foreach", "capturable"))
    assert optimizer.param_groups[0]["fused"] is None


def test_checkpoints_that_do_not_fit():
    """State of another rule or model is refused with the names of what does not fit, and nothing is loaded."""
    model = network()
    adam = optim.Adam(model.named_parameters())
    train(model, adam, 1)
    sgd = optim.SGD(model.named_parameters(), momentum=0.9)
    with pytest.raises(StateError, match=r"'0.weight' has exp_avg, exp_avg_sq, which SGD does not keep"):
        sgd.load_state_dict(adam.state_dict())
    lion = optim.Lion(model.named_parameters())
    train(model, lion, 1)
    before = copy.deepcopy(adam.state_dict())
    with pytest.raises(StateError, match=r"'0.weight' has no exp_avg_sq, which Adam needs \(it has exp_avg, step\)"):
        adam.load_state_dict(lion.state_dict())
    assert str(adam.state_dict()) == str(before)
    small = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.LayerNorm(5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    its = optim.Adam(small.named_parameters(), lr=0.7)
    with pytest.raises(StateError, match=r"another model: .*exp_avg of 0.weight has shape \(8, 4\).*exp_avg_sq of 3.w"):
        its.load_state_dict(adam.state_dict())
    assert (len(its.state), its.param_groups[0]["lr"]) == (0, 0.7)
    plain = optim.Adam(model.parameters())
    saved = plain.state_dict()
    with pytest.raises(StateError, match=r"1 parameter groups, the saved state 2"):
        plain.load_state_dict({**saved, "param_groups": saved["param_groups"] * 2})
    with pytest.raises(StateError, match=r"groups of \[6\] parameters, the saved state groups of \[5\]"):
        plain.load_state_dict(optim.Adam(list(model.parameters())[1:]).state_dict())
    with pytest.raises(StateError, match="no optimizer's state_dict"):
        plain.load_state_dict(model.state_dict())
    with pytest.raises(RuleError, match="lr"):
        plain.load_state_dict({**saved, "param_groups": [{**saved["param_groups"][0], "lr": -1.0}]})


def test_old_checkpoints():
    """A checkpoint of before a hyperparameter existed, or whose step is a plain number, can be loaded."""
    model = network()
    theirs = torch.optim.Adam(model.parameters(), lr=0.02)
    train(model, theirs, 3)
    saved = copy.deepcopy(theirs.state_dict())
    for missing in ("maximize", "capturable", "differentiable", "fused", "foreach", "decoupled_weight_decay"):
        saved["param_groups"][0].pop(missing, None)
    for state in saved["state"].values():
        state["step"] = 3
    other = copy.deepcopy(model)
    its = optim.Adam(other.parameters())
    its.load_state_dict(saved)
    same(train(other, its, 3), train(model, theirs, 3))


def test_a_count_that_was_not_saved():
    """SGD of torch does not count: schedules begin anew, with a warning that says how to go on."""
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    train(model, theirs, 3)
    optimizer = optim.SGD(model.parameters(), lr=schedules.Exponential(0.1, 0.5))
    with pytest.warns(
        UserWarning, match=r"does not count the steps of parameter 0 of group 0, .*: schedules begin anew"
    ):
        optimizer.load_state_dict(theirs.state_dict())
    for state in optimizer.state.values():
        state["step"] = 3
    train(model, optimizer, 1)
    assert {int(state["step"]) for state in optimizer.state.values()} == {4}
    assert optimizer.param_groups[0]["lr"] == schedules.Exponential(0.1, 0.5)(4)


def test_init_state_and_to():
    """State can be made before the first step, which it does not change, and moved."""
    model, other = network(), network()
    optimizer, its = optim.Adam(model.parameters()), optim.Adam(other.parameters())
    optimizer.init_state()
    assert len(optimizer.state) == 6
    assert optimizer.to("cpu") is optimizer
    assert train(model, optimizer, 3) == train(other, its, 3)
    optimizer.to("meta")
    assert all(s["exp_avg"].is_meta and not s["step"].is_meta for s in optimizer.state.values())
