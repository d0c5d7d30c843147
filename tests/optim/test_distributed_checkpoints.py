"""PyTorch's distributed checkpoints, in one process: round after round, flattened or not, from torch.optim and back."""

import copy

import pytest

torch = pytest.importorskip("torch")
api = pytest.importorskip("torch.distributed.checkpoint.state_dict")
from tests.optim.training import TWINS, close, network, same, train  # noqa: E402

from descend import optim  # noqa: E402

SETTINGS = {"SGD": {"momentum": 0.9, "dampening": 0.1}, "RMSprop": {"momentum": 0.5, "centered": True}}
CHAINS = {"ours": (optim, optim, optim), "theirs first": (torch.optim, optim, torch.optim, optim)}


def resumed(model, old, new, **options):
    """The optimizer `new`, with the state of `old` by way of a checkpoint."""
    options = api.StateDictOptions(**options)
    api.set_optimizer_state_dict(
        model, new, copy.deepcopy(api.get_optimizer_state_dict(model, old, options=options)), options=options
    )
    return new


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("options", [{"flatten_optimizer_state_dict": True}, {}, {"full_state_dict": True}], ids=str)
def test_rounds_of_checkpoints(name, chain, options):
    """A training that is saved and resumed again and again is the training that was never stopped."""
    if name == "SGD" and chain == "theirs first" and "full_state_dict" in options:
        pytest.skip("PyTorch looks for the count of steps, which its SGD does not save")
    libraries, settings = CHAINS[chain], SETTINGS.get(name, {})
    model, whole = network(), network()
    expected = train(whole, getattr(torch.optim, name)(whole.parameters(), lr=0.01, **settings), 2 * len(libraries))
    optimizer, losses = None, []
    for library in libraries:
        new = getattr(library, name)(model.parameters(), lr=0.01, **settings)
        if optimizer is not None:
            optimizer.zero_grad()
            resumed(model, optimizer, new, **options)
        optimizer = new
        losses += train(model, optimizer, 2)
        assert set(optimizer.state) == set(model.parameters())
    same(losses, expected, close(name))
    same(model, whole, close(name))


def test_names_beside_texts_are_not_asked():
    """The texts that stand for parameters say whose state it is, though names were saved in another order."""
    model = network()
    old = optim.Adam(list(model.named_parameters())[::-1])
    train(model, old, 2)
    expected = {p: state["exp_avg"].clone() for p, state in old.state.items()}
    for named in (model.named_parameters(), [(f"own.{n}", p) for n, p in model.named_parameters()], model.parameters()):
        old.zero_grad()
        new = resumed(model, old, optim.Adam(named))
        assert all(torch.equal(new.state[p]["exp_avg"], value) for p, value in expected.items())


def test_texts_are_matched_and_copied():
    """Nothing stays behind under a text, and nothing that is loaded is the caller's own tensor."""
    w = torch.nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    optimizer = optim.Adam([w])
    optimizer.step()
    saved = optimizer.state_dict()
    aside = torch.ones(2)
    named = {
        "state": {"w": saved["state"][0], "beside": aside, "whole": {"of": [aside]}},
        "param_groups": [{**saved["param_groups"][0], "params": ["w"]}],
    }
    optimizer.load_state_dict(named)
    assert list(optimizer.state_dict()["state"]) == [0, "beside", "whole"]
    assert optimizer.state[w]["exp_avg"] is not named["state"]["w"]["exp_avg"]
    assert optimizer.state["beside"] is not aside
    assert optimizer.state["whole"]["of"][0] is not aside
    assert optimizer.to("cpu") is optimizer
    optimizer.share_memory()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # by PyTorch 2.10 of itself
@pytest.mark.parametrize("name", ["Adam", "NAdam", "Rprop"])
def test_checkpoints_on_disk(name, tmp_path):
    """What torch.optim saved with `dcp.save` loads with `dcp.load`, into the tensors of an optimizer of ours."""
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    model = network()
    theirs = getattr(torch.optim, name)(model.parameters(), lr=0.01)
    train(model, theirs, 3)
    theirs.zero_grad()
    with pytest.warns(UserWarning, match="process"):
        dcp.save({"optimizer": api.get_optimizer_state_dict(model, theirs)}, checkpoint_id=tmp_path)
    ours = getattr(optim, name)(model.parameters(), lr=0.5)
    found = {"optimizer": api.get_optimizer_state_dict(model, ours)}
    with pytest.warns(UserWarning, match="process"):
        dcp.load(found, checkpoint_id=tmp_path)
    api.set_optimizer_state_dict(model, ours, found["optimizer"])
    other = copy.deepcopy(model)
    its = getattr(torch.optim, name)(other.parameters())
    its.load_state_dict(theirs.state_dict())
    same(train(model, ours, 3), train(other, its, 3), close(name))
