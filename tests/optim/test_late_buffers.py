"""State that begins later than its parameter: its first step is its own, as in torch.optim."""

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import FUSED, same  # noqa: E402

from descend import optim  # noqa: E402

WAYS = {"as usual": {}, "fused": FUSED, "tensors": {"fused": False}, "foreach": {"foreach": True}}
SWITCHES = {
    "momentum": lambda optimizer: optimizer.param_groups[0].update(momentum=0.9),
    "None": lambda optimizer: [state.update(momentum_buffer=None) for state in optimizer.state.values()],
    "gone": lambda optimizer: [state.pop("momentum_buffer") for state in optimizer.state.values()],
}


def stepped(optimizer, params, steps, rests=()):
    """Make these steps, along gradients that grow; the second parameter rests in some."""
    for k in steps:
        for i, p in enumerate(params):
            p.grad = None if i == 1 and k in rests else torch.full_like(p, k + i + 1.0)
        optimizer.step()
    return [p.detach().clone() for p in params]


def made(library, switch, **options):
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
    momentum = 0.0 if switch == "momentum" else 0.9
    return params, library.SGD(params, lr=0.1, momentum=momentum, dampening=0.5, **options)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}], ids=["plain", "decaying"])
def test_a_momentum_that_begins_later(switch, way, options):
    """Switched on, or its buffer taken away: the buffer is the gradient at its own first step, for each parameter."""
    found = []
    for library, how in ((optim, WAYS[way]), (torch.optim, {})):
        params, optimizer = made(library, switch, **options, **how)
        stepped(optimizer, params, range(3))
        # torch fails where the key is gone, but begins anew where it holds None.
        SWITCHES["None" if switch == "gone" and library is torch.optim else switch](optimizer)
        found.append(stepped(optimizer, params, range(3, 9), rests=(3, 4)))
    same(*found, 1e-6)


def test_a_momentum_that_begins_later_of_a_sparse_gradient():
    """The whole buffer is the gradient, at its first step."""
    found = []
    for library in (optim, torch.optim):
        params, optimizer = made(library, "momentum")
        stepped(optimizer, params, range(2))
        SWITCHES["momentum"](optimizer)
        for _ in range(3):
            params[0].grad = torch.tensor([1.0, 0.0, 2.0]).to_sparse()
            params[1].grad = None
            optimizer.step()
        found.append(params)
    same(*found, 1e-6)


@pytest.mark.parametrize(
    "passed_on",
    [
        copy.deepcopy,
        lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
        lambda optimizer: loaded(optim, optimizer),
        lambda optimizer: loaded(torch.optim, optimizer),
    ],
    ids=["copied", "pickled", "loaded", "loaded into torch"],
)
def test_state_that_was_made_before_its_first_step(passed_on):
    """`init_state` makes the buffer; its first step is the first still, also of whoever takes over."""
    params, optimizer = made(optim, "momentum")
    stepped(optimizer, params, range(2))
    SWITCHES["momentum"](optimizer)
    optimizer.init_state()
    its = passed_on(optimizer)
    same(stepped(its, its.param_groups[0]["params"], range(2, 5)), stepped(optimizer, params, range(2, 5)), 1e-6)


def loaded(library, optimizer):
    """An optimizer over copies of the parameters that loads the state of another."""
    params = [torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]]
    its = library.SGD(params)
    its.load_state_dict(optimizer.state_dict())
    return its


def test_a_checkpoint_without_the_buffer():
    """Saved before there was momentum, it loads into an optimizer that keeps its own momentum."""
    found = []
    for library in (optim, torch.optim):
        params, optimizer = made(library, "momentum")
        stepped(optimizer, params, range(2))
        its = library.SGD(params, momentum=0.9, dampening=0.5)
        its.load_state_dict(optimizer.state_dict())
        its.param_groups[0].update(momentum=0.9)
        found.append(stepped(its, params, range(2, 5)))
    same(*found, 1e-6)


def test_a_change_of_gradients_that_begins_later():
    """Adan's last gradient, taken away, is as before the first step: no change is known of the next gradient."""
    params = [torch.nn.Parameter(torch.ones(3))]
    optimizer = optim.Adan(params, lr=0.1)
    stepped(optimizer, params, range(2))
    state = optimizer.state[params[0]]
    before = state["exp_avg_diff"].clone()
    state["neg_pre_grad"] = None
    stepped(optimizer, params, (5,))
    beta2 = optimizer.param_groups[0]["betas"][1]
    same(state["exp_avg_diff"], beta2 * before, 1e-6)
    same(state["neg_pre_grad"], torch.full((3,), -6.0))


def test_averages_that_share_their_count_begin_together():
    """Adam corrects both averages by one count of steps: without one of them the whole state begins anew."""
    found = []
    for take in (
        lambda state: state.clear(),
        lambda state: state.update(exp_avg=None),
        lambda state: state.pop("step"),
    ):
        params = [torch.nn.Parameter(torch.ones(3))]
        optimizer = optim.Adam(params, lr=0.1)
        stepped(optimizer, params, range(3))
        optimizer.state[params[0]]["note"] = "mine"
        take(optimizer.state[params[0]])
        found.append(stepped(optimizer, params, range(3, 5)))
        assert int(optimizer.state[params[0]]["step"]) == 2
    same(found[0], found[1])
    same(found[0], found[2])
    assert optimizer.state[params[0]]["note"] == "mine"


@pytest.mark.parametrize("name", ["Adam", "SGD", "NAdam"])
@pytest.mark.parametrize("way", WAYS)
def test_counts_of_steps_are_exact(name, way):
    """Beyond 2**24 a count goes on in float64, which torch.optim reads and goes on with as well."""
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
    optimizer = getattr(optim, name)(params, lr=1e-3, **WAYS[way])
    stepped(optimizer, params, range(2))
    optimizer.state[params[0]]["step"].fill_(2**24 - 2)
    stepped(optimizer, params, range(6))
    first, second = (optimizer.state[p]["step"] for p in params)
    assert (first.item(), second.item()) == (2**24 + 4, 8)
    assert (first.dtype, second.dtype) == (torch.float64, torch.float32)
    theirs = getattr(torch.optim, name)(params)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["fused"] = None  # torch's fused classes count in float32
    theirs.load_state_dict(saved)
    stepped(theirs, params, range(1))
    saved = theirs.state_dict()
    saved["state"][1]["step"] = 2**30 + 1  # as a plain number
    optimizer.load_state_dict(saved)
    stepped(optimizer, params, range(1))
    counted = name != "SGD"  # which torch does not count
    assert [int(optimizer.state[p]["step"]) for p in params] == [2**24 + 5 + counted, 2**30 + 2]
